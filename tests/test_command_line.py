"""The command line on a real tiny bundle: what scripts may rely on, and what a mistake looks like."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.testing

from slimalign import api
from slimalign.cli import app, main
from slimalign.compress.cost import count
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.networks.architecture import Architecture, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.subject import ExportSubject
from slimalign.extras import EXTRAS
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.schemes import AFLW

ROOT = Path(__file__).parent.parent
SIZE = 64
COMMANDS = ("demo", "run", "slim", "export", "eval", "bench", "pick", "report", "predict", "profile")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def slimalign(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Done(status, *capfd.readouterr())

    return call


@dataclass(frozen=True)
class Place:
    """A folder data set of drawn faces, and bundles of one network."""

    data: Path
    onnx: Path
    torch: Path


FACES = drawn_samples(5, AFLW, seed=3, size=96)


def lively(architecture: Architecture) -> HRSuperNet:
    """A network whose heatmaps are not flat, as those of a fresh one are."""
    network, rng = HRSuperNet(architecture), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=rng))
    return network.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    data = folder / "faces [a]"
    data.mkdir()
    rows = [["image", *(f"{axis}{i}" for i in range(19) for axis in "xy"), "subsets"]]
    for number, face in enumerate(FACES):
        write_image(data / f"{number}.png", face.load())
        # Every second face is in a subset, the last in two.
        labels = ["even"] * (number % 2 == 0) + ["last"] * (face is FACES[-1])
        rows.append([f"{number}.png", *(str(value) for value in face.points.ravel()), ";".join(labels)])
    for split in ("val", "test"):
        with (data / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    network = lively(full_architecture(19, SIZE, 12, (6, 10, 14), stage_count=4, encoders=1))
    subject = ExportSubject(
        "small [b]", network, SIZE, 1.25, "aflw-19", "local-softmax", 4, count(network, SIZE).totals()
    )
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    for kind in ("onnx", "torch"):
        write_bundle(folder / kind, subject, kind, crops)
    return Place(data, folder / "onnx", folder / "torch")


def boxed(number: int) -> str:
    return ",".join(str(value) for value in FACES[number].box)


def test_eval_judges_what_predict_finds(slimalign: Command, place: Place) -> None:
    found = slimalign("eval", place.onnx, "--data", place.data, "--data-format", "folder", "--json").json
    assert set(found) == {"images", "nme", "failure_rate", "auc", "subsets"}
    assert {name: part["images"] for name, part in found["subsets"].items()} == {"even": 3, "last": 1}
    assert set(found["subsets"]["even"]) == {"images", "nme", "failure_rate", "auc"}
    photos = {str(place.data / f"{number}.png"): [face.box.tolist()] for number, face in enumerate(FACES)}
    Path("boxes.json").write_text(json.dumps(photos))
    lines = slimalign("predict", "--bundle", place.onnx, "--boxes", "boxes.json").out.splitlines()
    points = np.array([json.loads(line)["faces"][0]["points"] for line in lines])
    truth = np.stack([face.points for face in FACES])
    eyes = np.linalg.norm(truth[:, 11] - truth[:, 6], axis=1)  # AFLW's outer eye corners
    nmes = 100 * np.linalg.norm(points - truth, axis=2).mean(axis=1) / eyes
    assert found["images"] == 5
    assert found["nme"] == pytest.approx(nmes.mean())
    assert found["failure_rate"] == pytest.approx(100 * np.mean(nmes > 10))
    assert found["subsets"]["even"]["nme"] == pytest.approx(nmes[::2].mean())


def test_eval_by_another_normaliser_and_threshold(slimalign: Command, place: Place) -> None:
    base = ("eval", place.torch, "--data", place.data, "--data-format", "folder", "--split", "val")
    done = slimalign(*base)
    header, whole, *subsets = done.out.splitlines()[1:]
    assert header.split()[1:5] == ["inter-ocular", "inter-pupil", "box", "diagonal"]
    assert [line.split()[0] for line in subsets] == ["even", "last"]
    shown = [float(text) for text in whole.split()[2:6]]
    by_box = slimalign(*base, "--normaliser", "box", "--threshold", "1000", "--ced", "ced.csv", "--json").json
    assert by_box["nme"] == pytest.approx(shown[2], abs=6e-4)
    assert by_box["failure_rate"] == 0.0
    # Below the threshold each image leaves 1 - error / threshold of the area.
    assert by_box["auc"] == pytest.approx(100 - by_box["nme"] / 10)
    header, *rows = csv.reader(Path("ced.csv").read_text().splitlines())
    assert header == ["error", "all", "even", "last"]
    assert (float(rows[0][0]), float(rows[-1][0])) == (0.0, 1000.0)
    assert rows[-1][1:] == ["100", "100", "100"]
    shares = np.array(rows, dtype=float)[:, 1:]
    assert (np.diff(shares, axis=0) >= 0).all()
    assert set(shares[:, 0]) <= {0.0, 20.0, 40.0, 60.0, 80.0, 100.0}
    records = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    rates = [r["failure_rate"] for r in records if r["kind"] == "accuracy" and r["normaliser"] == "box"]
    assert rates[0] == rates[1]  # results are always kept for the same threshold


def test_bench_pick_and_report_over_several_protocols(slimalign: Command, place: Place) -> None:
    data = ("--data", place.data, "--data-format", "folder")
    for split in ("val", "test"):
        assert slimalign("eval", place.onnx, *data, "--split", split).status == 0
    records = slimalign("bench", place.onnx, *data, "--batch", "2", "--threads", "1", "--json").json
    assert [(r["runtime"], r["batch"], r["threads"], r["precision"]) for r in records] == [
        ("onnxruntime", 2, 1, "fp32")
    ]
    needed = {"bundle", "runtime", "precision", "batch", "threads", "protocol", "p50_ms", "p90_ms", "samples"}
    assert needed <= set(records[0])
    lines = Path("results.jsonl").read_text().splitlines()
    slower = next(json.loads(line) for line in lines if json.loads(line)["kind"] == "latency")
    slower |= {"protocol": "kernel-1-reference", "samples_ms": [1e6]}
    Path("results.jsonl").write_text("".join(line + "\n" for line in [*lines, json.dumps(slower)]))

    mixed = slimalign("pick", "results.jsonl", "--batch", "2")
    assert mixed.status == 2
    assert "several protocols (kernel-1-draft, kernel-1-reference)" in mixed.err
    only = ("--protocol", "kernel-1-reference", "--target", "local", "--normaliser", "diagonal")
    choice = slimalign("pick", "results.jsonl", "--batch", "2", *only, "--json").json
    assert set(choice) == {"point", "runner_up", "binding", "relaxations"}
    point = choice["point"]
    assert (point["split"], point["normaliser"], point["p50_ms"]) == ("val", "diagonal", 1e6)
    assert slimalign("report", "results.jsonl", *only, "--out", "f.svg", "--json").json == [point]
    assert Path("f.svg").read_text().startswith("<?xml")
    shown = slimalign("report", "results.jsonl", *only)
    assert "small [b]" in shown.out  # nothing is read as markup, or cut
    assert "multiply-adds" in shown.out
    for option, value, held in (
        ("--protocol", "fast", "kernel-1-draft, kernel-1-reference"),
        ("--target", "moon", "local"),
        ("--split", "full", "--split val --normaliser inter-ocular"),
        ("--normaliser", "nose", "inter-ocular, inter-pupil, box, diagonal"),
    ):
        done = slimalign("pick", "results.jsonl", option, value)
        assert (done.status, held in done.err) == (2, True), done.err


def test_predict_prints_faces_and_says_what_it_takes_for_one(slimalign: Command, place: Place) -> None:
    photo = place.data / "0.png"
    found = slimalign("predict", photo, "--bundle", place.onnx, "--box", boxed(0), "--json")
    assert found.err == ""
    (face,) = found.json["faces"]
    assert set(face) == {"box", "points", "scores"}
    assert face["box"] == pytest.approx(FACES[0].box)
    assert (np.shape(face["points"]), np.shape(face["scores"])) == ((19, 2), (19,))
    whole = slimalign("predict", photo, "--bundle", place.onnx, "--json")
    assert set(whole.json) == {"faces"}
    assert whole.json["faces"][0]["box"] == [-0.5, -0.5, 95.5, 95.5]
    (line,) = whole.err.splitlines()
    assert line == f"{photo}: no --box given, the whole image is taken as one face"


@pytest.mark.parametrize(
    ("boxes", "fault"),
    [
        ("[[0, 0], [10, 10]]", r"0.png: box \[0, 0\]; give four finite numbers"),
        ("[[0, 0, 10, NaN]]", r"0.png: box \[0, 0, 10, NaN\]; give four finite numbers"),
        ('[["0", 0, 10, 10]]', r"0.png: box .*; give four finite numbers"),
        ("[0, 0, 10, 10]", r"0.png: box 0; give four finite numbers"),
        ('"all"', r"0.png: its boxes are \"all\"; give a list"),
        ("[[0, 0, 0, 10]]", r"0.png: box 0,0,0,10: it has no area"),
        ("[[200, 0, 210, 10]]", r"0.png: box 200,0,210,10: outside the image of 96x96"),
    ],
)
def test_a_wrong_box_is_named_with_its_image(
    slimalign: Command, place: Place, boxes: str, fault: str
) -> None:
    photo = str(place.data / "0.png")
    Path("boxes.json").write_text(f"{{{json.dumps(photo)}: {boxes}}}")
    done = slimalign("predict", "--bundle", place.onnx, "--boxes", "boxes.json")
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert re.search(fault, done.err), done.err


def test_profile_prints_one_json_document(slimalign: Command, place: Place) -> None:
    keys = {
        "network",
        "landmarks",
        "input",
        "params",
        "macs",
        "params_without_head",
        "macs_without_head",
    }
    document = slimalign("profile", "sd-hrnet-wflw", "--json").json
    assert set(document) == keys
    assert (document["landmarks"], document["input"]) == (98, [256, 256])
    assert round(document["params_without_head"] / 1e6, 3) == 1.323
    assert round(document["macs"] / 1e9, 3) == 0.711
    layered = slimalign("profile", "sd-hrnet-wflw", "--layers", "--json").json
    assert set(layered) == keys | {"layers"}
    assert {frozenset(layer) for layer in layered["layers"]} == {
        frozenset(("name", "kind", "params", "macs"))
    }
    for total in ("params", "macs"):
        assert sum(layer[total] for layer in layered["layers"]) == document[total]
    other = slimalign("profile", "hrnet-w18", "--landmarks", "29", "--input", "64", "--json").json
    assert (other["landmarks"], other["input"]) == (29, [64, 64])
    exported = slimalign("profile", place.onnx, "--json").json
    assert set(exported) == keys
    assert (exported["network"], exported["landmarks"]) == ("small [b]", 19)
    assert slimalign("profile", place.onnx).out.startswith("small [b], 19 landmarks, 64x64: ")


MISTAKES = [
    ("profile hrnet-w81", "did you mean hrnet-w18?"),
    ("profile hrnet-w18 --landmarks 0", "hrnet-w18: 0 landmarks; give a number of at least 1"),
    ("profile hrnet-w18 --landmarks -1", "hrnet-w18: -1 landmarks; give a number of at least 1"),
    ("profile hrnet-w18 --input 100", "hrnet-w18: input size 100; give a multiple of 32"),
    ("profile hrsupernet --input 100", "hrsupernet: input size 100; give a multiple of 32"),
    ("profile hrsupernet --input 0", "hrsupernet: input size 0; give a multiple of 32"),
    ("profile hrsupernet --landmarks 0", "hrsupernet: 0 landmarks; give a number of at least 1"),
    ("profile {data}/0.png", "0.png: not a JSON file that can be read"),
    ("profile {onnx} --landmarks 29", "a bundle has 19 landmarks and input size 64; leave --landmarks"),
    ("profile {onnx} --input 64", "a bundle has 19 landmarks and input size 64; leave --landmarks"),
    ("profile {onnx} --layers", "a bundle records the totals"),
    ("run nowhere.toml", "nowhere.toml: no such recipe"),
    ("run {root}/recipes/faces300w_cpu.toml --out run", "give it with --data"),
    ("eval nowhere --data .", "nowhere: not a bundle"),
    ("eval {onnx} --data nowhere", "nowhere: no such folder"),
    ("eval {onnx} --data {data} --normaliser nose", "normaliser 'nose' is unknown"),
    ("eval {onnx} --data {data} --threshold 0", "threshold 0; give an NME in percent above 0"),
    ("eval {onnx} --data {data} --data-format folder --split x", "the splits there are test, val"),
    ("bench nowhere", "nowhere: not a bundle"),
    ("bench {onnx} --batch 0", "--batch: '0' is not a whole number above 0"),
    ("bench {onnx} --batch \u00b2", "--batch: '\u00b2' is not a whole number above 0"),
    ("bench {onnx} --data {data} --data-format folder --split x", "the splits there are test, val"),
    ("export nowhere", "nowhere: neither a finished run nor a PyTorch bundle"),
    ("export {onnx}", "a bundle of format onnx; export starts from a torch bundle"),
    ("slim nowhere --max-gmacs 1", "nowhere: not a run folder"),
    ("slim nowhere", "give either --threshold, or --max-gmacs"),
    ("pick nowhere.jsonl", "nowhere.jsonl: no such results file"),
    ("report nowhere.jsonl", "nowhere.jsonl: no such results file"),
    ("predict --bundle {onnx}", "give a photo, or --boxes"),
    ("predict nowhere.png --bundle {onnx}", "nowhere.png: the image cannot be read"),
    ("predict {data}/0.png --bundle {onnx} --box 1,2,3", "--box 1,2,3: give four numbers"),
    ("predict {data}/0.png --bundle {onnx} --box 1,2,3,nan", "--box 1,2,3,nan: give four numbers"),
    ("predict {data}/0.png --bundle {onnx} --boxes a.json", "--boxes FILE.json names photos and boxes"),
    ("predict --bundle {onnx} --boxes nowhere.json", "nowhere.json: cannot be read (No such file"),
    ("predict --bundle {onnx} --boxes {onnx}/model.onnx", "model.onnx: not valid JSON"),
]


@pytest.mark.parametrize(("line", "fault"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_mistakes_end_with_status_2_and_one_line(
    slimalign: Command, place: Place, line: str, fault: str
) -> None:
    words = [word.format(onnx=place.onnx, data=place.data, root=ROOT) for word in line.split()]
    done = slimalign(*words)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert fault in done.err


def test_a_bundle_must_be_named(slimalign: Command) -> None:
    done = slimalign("predict", "photo.jpg")
    assert done.status == 2
    assert "--bundle" in done.err


def test_bad_faces_are_left_out_by_name(slimalign: Command, place: Place, tmp_path: Path) -> None:
    data = tmp_path / "broken [/c]"
    data.mkdir(parents=True)
    (data / "0.png").write_bytes((place.data / "0.png").read_bytes())
    # The second face's image, with a name that rich would read as markup, is missing.
    listed = (place.data / "val.csv").read_text().splitlines()[:3]
    (data / "val.csv").write_text("\n".join(listed).replace("1.png", "[/d].png"))
    command = (
        "bench",
        place.onnx,
        "--data",
        data,
        "--data-format",
        "folder",
        "--batch",
        "1",
        "--threads",
        "1",
    )
    refused = slimalign(*command)
    assert refused.status == 2
    assert "[/d].png: the image cannot be read" in refused.err
    done = slimalign(*command, "--skip-bad", "--json")
    assert len(done.json) == 1
    assert "val: 1 bad faces left out, the first is [/d].png: the image cannot be read" in done.err


def test_the_verbs_are_functions_too(place: Place, tmp_path: Path) -> None:
    judged = api.evaluate(place.onnx, place.data, data_format="folder", normaliser="box")
    assert next(iter(judged)) == "box"
    assert judged["box"].whole.images == 5
    (record,) = api.bench([api.read_bundle(place.onnx)], batches=[1], threads=[1])
    assert (record.batch, record.target) == (1, "local")
    (bundle,) = api.export(place.torch, ["torch"], tmp_path)
    photo = place.data / "1.png"
    found, again = (api.predict(one, photo, [FACES[1].box.tolist()]) for one in (bundle, place.torch))
    assert found == again
    assert api.profile(str(bundle.folder)).totals == dict(bundle.manifest.cost)
    with pytest.raises(api.UserError, match="no bundles to measure"):
        api.bench([])


def test_every_command_has_help_with_an_example() -> None:
    runner = typer.testing.CliRunner()
    assert all(name in runner.invoke(app, ["--help"]).output for name in COMMANDS)
    for name in COMMANDS:
        assert f"slimalign {name}" in runner.invoke(app, [name, "--help"]).output, name


def test_every_extra_in_the_table_brings_its_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    brought = dict(re.findall(r"^(\w+) = \[(\".*\")\]$", text, re.M))
    for package, extra in EXTRAS.items():
        assert re.search(rf'"{package.replace("_", "-")}[">=]', brought[extra]), (package, extra)


BARE = """
import builtins, contextlib, io, json, sys
blocked, commands = json.loads(sys.argv[1])
usual = builtins.__import__
def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    if name.split(".")[0] in blocked and (globals or {}).get("__name__", "").startswith("slimalign"):
        raise ModuleNotFoundError(name, name=name)
    return usual(name, globals, locals, fromlist, level)
builtins.__import__ = refusing
for name in blocked:
    if name != "pydantic":  # newer typers import it for themselves
        sys.modules[name] = None
from slimalign.cli import main
endings = []
for command in commands:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(command)
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
    endings.append([status, told.getvalue()])
print(json.dumps(endings))
"""


def endings(blocked: list[str], commands: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Status and standard error of each command where the ``blocked`` packages are not installed."""
    arguments = [sys.executable, "-c", BARE, json.dumps([blocked, commands])]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=folder)
    return [(status, told) for status, told in json.loads(done.stdout)]


def test_without_any_extra_each_command_names_the_one_it_needs(place: Place, tmp_path: Path) -> None:
    faces = ["--data", str(place.data), "--data-format", "folder"]
    photo = [str(place.data / "0.png"), "--box", boxed(0)]
    recipe, onnx, torch = str(ROOT / "recipes" / "demo.toml"), str(place.onnx), str(place.torch)
    # A report needs a point with latency and NME before it draws.
    bench = ["bench", onnx, "--batch", "1", "--threads", "1"]
    held = [["eval", onnx, *faces, "--split", "val"], bench]
    assert [status for status, _ in endings([], held, tmp_path)] == [0, 0]
    needs = {
        "train": [
            ["demo"],
            ["run", recipe],
            ["slim", "a-run", "--max-gmacs", "1"],
            ["export", torch],
            ["profile", "hrsupernet"],
            ["eval", torch, *faces],
            ["predict", *photo, "--bundle", torch],
        ],
        "onnxruntime": [["eval", onnx, *faces], bench, ["predict", *photo, "--bundle", onnx]],
        "report": [["report", "results.jsonl"]],
    }
    commands = [(extra, command) for extra, listed in needs.items() for command in listed]
    found = endings(list(EXTRAS), [command for _, command in commands], tmp_path)
    for (extra, command), (status, told) in zip(commands, found, strict=True):
        assert (status, len(told.splitlines())) == (2, 1), (command, told)
        assert told.endswith(f"is not installed; run pip install 'slimalign[{extra}]'\n"), (command, told)
    free = [
        ["--help"],
        *([name, "--help"] for name in COMMANDS),
        ["pick", "results.jsonl"],
        ["profile", onnx],
    ]
    assert [status for status, _ in endings(list(EXTRAS), free, tmp_path)] == [0] * len(free)


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("lightning_fabric", "slim a-run --max-gmacs 1"),
        ("pydantic", "profile hrsupernet"),
        ("safetensors", "export {torch}"),
        ("onnx", "export {torch} --formats onnx"),
        ("litert_torch", "export {torch} --formats litert"),
        ("h5py", "eval {torch} --data cofw --data-format cofw"),
    ],
)
def test_a_single_package_that_is_missing_is_named(
    place: Place, tmp_path: Path, package: str, command: str
) -> None:
    (tmp_path / "cofw").mkdir()
    (tmp_path / "cofw" / "COFW_test_color.mat").write_bytes(b"never read")
    words = [word.format(torch=place.torch) for word in command.split()]
    ((status, told),) = endings([package], [words], tmp_path)
    assert (status, len(told.splitlines())) == (2, 1), told
    assert package.replace("_", "-") in told.replace("_", "-")
    assert told.endswith(f"pip install 'slimalign[{EXTRAS[package]}]'\n")
