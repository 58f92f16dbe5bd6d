"""The whole chain on drawn faces: it learns, every step is there, and the files do what the networks do."""

import json
import subprocess
import sys

import numpy as np
import pytest

from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import normalising_distances
from slimalign.compress.networks.architecture import read_architecture
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.metrics import image_nmes
from slimalign.runtimes.schemes import AFLW

RECIPE = """
name = "chain"
loss = "softmax"
decoder = "local-softmax"
batch_norm_momentum = 0.1

[data]
format = "drawn"
scheme = "aflw-19"
drawn = { train = 640, val = 32, test = 64, size = 128 }

[input]
size = 64

[augment]
scale = 0.1
rotation = 10
colour = 0.1

[teacher]
width = 6
epochs = 2
batch = 16
learning_rate = { kind = "one-cycle", peak = 4e-3 }

[search]
widths = [16, 24, 32]
stem_width = 24
stage_count = 4
encoders = 1
epochs = 8
batch = 16
learning_rate = { kind = "one-cycle", peak = 8e-3 }
factor_learning_rate = 1e-2
sparsity = 1e-2
initial_factor = 0.5

[slim]
max_gmacs = 0.006

[distil]
epochs = 14
batch = 16
learning_rate = { kind = "one-cycle", peak = 6e-3 }
ensemble_weight = 0.5
teacher_weight = 0.05
mask = { probability = 0.3 }
"""


def slimalign(*args):
    command = [sys.executable, "-m", "slimalign", *map(str, args)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    (folder / "chain.toml").write_text(RECIPE)
    document = json.loads(slimalign("run", folder / "chain.toml", "--out", folder / "run", "--json"))
    return folder / "run", document


def splits():
    return drawn_samples(640, AFLW, 0, 128), drawn_samples(64, AFLW, 2 * 10**6, 128)


def mean_shape_nme():
    """What the mean of the training shapes, put into each test crop, gets: the bar that learning must beat."""
    train, test = splits()
    rule = CropRule(64)
    shape = np.mean([transform_points(s.points, rule.matrix(s.box)) for s in train], axis=0)
    guesses = np.stack([transform_points(shape, invert(rule.matrix(s.box))) for s in test])
    return image_nmes(
        guesses,
        np.stack([s.points for s in test]),
        normalising_distances(test, AFLW, "inter-ocular"),
    ).mean()


def test_the_student_gets_half_the_error_of_the_mean_shape(run):
    _, document = run
    last = document["steps"][-1]
    assert last["test_nme"] <= 0.5 * mean_shape_nme()


def test_every_step_of_the_waterfall_is_there(run):
    folder, document = run
    steps = [(step["step"], step["runtime"]) for step in document["steps"]]
    networks = ["teacher", "supernet", "slimmed", "distilled", "distilled-other"]
    files = [("distilled", "onnxruntime"), ("distilled", "litert")]
    assert steps == [*((name, "pytorch") for name in networks), *files]
    assert json.loads((folder / "waterfall.json").read_text()) == document
    assert (document["recipe"], document["seed"]) == ("chain", 0)
    assert document["faces"] == {"train": 640, "val": 32, "test": 64}


def test_training_mends_what_the_cut_broke(run):
    _, document = run
    nmes = {step["step"]: step["val_nme"] for step in document["steps"]}
    assert nmes["distilled"] <= nmes["distilled-other"]
    assert nmes["distilled"] < nmes["slimmed"]


def test_the_student_is_smaller_and_within_its_budget(run):
    folder, document = run
    macs = {step["step"]: step["macs"] for step in document["steps"]}
    assert macs["distilled"] <= 0.006e9 < macs["supernet"]
    assert read_architecture(folder / "architecture.json").input_size == 64


def test_deployed_files_are_as_accurate_as_the_network(run):
    _, document = run
    nmes = [step["test_nme"] for step in document["steps"] if step["step"] == "distilled"]
    assert max(nmes) - min(nmes) < 0.005


def test_bundles_know_their_figures(run):
    folder, document = run
    manifest = read_bundle(folder / "bundles" / "distilled-onnx").manifest
    step = document["steps"][-2]
    assert manifest.nme == {"val": step["val_nme"], "test": step["test_nme"]}
    assert manifest.landmark_scheme is AFLW


def test_pictures_are_drawn(run):
    folder, _ = run
    for name in ("architecture.png", "factors.png", "frontier.png", "predictions.jpg"):
        assert (folder / name).stat().st_size > 10_000


def test_pick_and_report_read_the_results(run, tmp_path):
    folder, _ = run
    choice = json.loads(slimalign("pick", folder / "results.jsonl", "--max-latency-ms", "1000", "--json"))
    assert choice["point"]["bundle"] in {"teacher", "supernet", "distilled", "distilled-other"}
    slimalign("report", folder / "results.jsonl", "--x", "params", "--out", tmp_path / "points.svg")
    assert (tmp_path / "points.svg").read_text().startswith("<svg")
    slimalign("report", folder, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for section in ("frontier", "ced", "waterfall", "subsets", "network", "time", "state"):
        assert f'<section id="{section}">' in page


def test_predict_finds_the_drawn_landmarks(run, tmp_path):
    """In a photo file with boxes, singly and many at once, in pixels of the photo."""
    folder, _ = run
    face = splits()[1][0]
    write_image(tmp_path / "face.png", face.load())
    box = ",".join(str(value) for value in face.box)
    bundle = folder / "bundles" / "distilled-onnx"
    found = json.loads(
        slimalign(
            "predict",
            tmp_path / "face.png",
            "--bundle",
            bundle,
            "--box",
            box,
            "--box",
            box,
            "--json",
            "--out",
            tmp_path / "drawn.png",
        )
    )["faces"]
    assert len(found) == 2
    points = np.array(found[0]["points"])
    assert np.array(found[0]["scores"]).shape == (19,)
    assert image_nmes(points[None], face.points[None], AFLW.distances(face.points[None], "box"))[0] < 20
    (tmp_path / "boxes.json").write_text(json.dumps({str(tmp_path / "face.png"): [face.box.tolist()]}))
    (line,) = slimalign("predict", "--bundle", bundle, "--boxes", tmp_path / "boxes.json").splitlines()
    np.testing.assert_allclose(json.loads(line)["faces"][0]["points"], points)


def test_slim_again_and_export_again(run, tmp_path):
    folder, _ = run
    cut = json.loads(slimalign("slim", folder, "--max-gmacs", "0.0055", "--json"))
    assert cut["macs"] <= 0.0055e9
    (made,) = json.loads(slimalign("export", cut["bundle"], "--formats", "onnx", "--out", tmp_path, "--json"))
    assert read_bundle(made["bundle"]).sha256 == made["sha256"]
    formats = ("--formats", "onnx-fp16,litert-fp16", "--out", tmp_path)
    halves = json.loads(slimalign("export", folder, *formats, "--json"))  # judged on the run's drawn faces
    assert all(abs(read_bundle(half["bundle"]).manifest.gate["loss"]) < 0.5 for half in halves)
    (record,) = json.loads(
        slimalign(
            "bench",
            made["bundle"],
            "--batch",
            "2",
            "--threads",
            "1",
            "--json",
            "--results",
            tmp_path / "results.jsonl",
        )
    )
    assert (record["runtime"], record["batch"], record["threads"]) == ("onnxruntime", 2, 1)
    assert 0 < record["p50_ms"] <= record["p90_ms"]
