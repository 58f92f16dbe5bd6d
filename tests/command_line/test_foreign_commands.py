"""The commands on a TOML of a model from elsewhere, here and on a device."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line.place import FACES, Command, Place, boxed
from elsewhere import ENTRIES, LANDMARKS, elsewhere, network, weights_of
from small_litert import computed, litert_file
from sshd import Sshd

from slimalign.runtimes.crop import CropRule, invert, transform_points


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return elsewhere(tmp_path)


def expected_points(number: int) -> np.ndarray:
    """What the model finds on a face: points of the crop from the means of its channels, then of the photo."""
    face, rule = FACES[number], CropRule(8, ENTRIES["box_scale"])
    means = rule.crop(face.load(), face.box).reshape(-1, 3).mean(axis=0) / 255
    points = (means @ weights_of(2 * LANDMARKS)).reshape(LANDMARKS, 2)
    return transform_points(points, invert(rule.matrix(face.box)))


def test_predict_and_eval_take_it(slimalign: Command, place: Place, toml: Path) -> None:
    photo = place.data / "0.png"
    (face,) = slimalign("predict", photo, "--bundle", toml, "--box", boxed(0), "--json").json["faces"]
    np.testing.assert_allclose(face["points"], expected_points(0), atol=1e-3)
    assert face["scores"] == [1.0] * LANDMARKS
    data = ("--data", place.data, "--data-format", "folder", "--normaliser", "diagonal", "--json")
    judged = slimalign("eval", toml, *data).json
    truth = np.stack([one.points for one in FACES])
    apart = np.stack([expected_points(number) for number in range(len(FACES))]) - truth
    diagonals = np.linalg.norm(truth.max(axis=1) - truth.min(axis=1), axis=1)
    nme = 100 * (np.linalg.norm(apart, axis=2).mean(axis=1) / diagonals).mean()
    assert judged["nme"] == pytest.approx(nme, rel=1e-4)


def test_bench_keeps_what_it_costs(slimalign: Command, toml: Path) -> None:
    (record,) = slimalign("bench", toml, "--batch", "2", "--threads", "1", "--json").json
    assert (record["bundle"], record["batch"]) == ("mine", 2)
    kept = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    cost = next(one for one in kept if one["kind"] == "cost")
    assert (cost["params"], cost["macs"], cost["params_without_head"]) == (114, 114, None)
    assert cost["sha256"] == record["sha256"]


def test_lint_reads_its_file(slimalign: Command, toml: Path) -> None:
    done = slimalign("lint", toml, "--target", "linux-x86-64", "--json")
    assert done.json["file"] == str(toml)


def test_profile_lists_its_layers_and_keeps_them(slimalign: Command, toml: Path) -> None:
    found = slimalign("profile", toml, "--layers", "--timed", "--results", "r.jsonl", "--json").json
    assert (found["network"], found["landmarks"], found["input"]) == ("mine", 19, [8, 8])
    assert (found["params"], found["macs_without_head"], found["runtime"]) == (114, None, "onnxruntime")
    times = [layer["ms"] for layer in found["layers"]]
    assert times == sorted(times, reverse=True)
    assert found["layers_ms"] == pytest.approx(sum(times))
    assert {layer["kind"]: layer["macs"] for layer in found["layers"]} == {"ReduceMean": 0, "MatMul": 114}
    (kept,) = (json.loads(line) for line in Path("r.jsonl").read_text().splitlines())
    assert (kept["kind"], kept["target"], kept["p50_ms"]) == ("layers", "local", found["p50_ms"])
    lines = slimalign("profile", toml, "--layers", "--timed").out.splitlines()
    assert any(line.split()[1] == "MatMul" and " ms/G" in line for line in lines)
    assert lines[-1].startswith("onnxruntime (onnxruntime ")


def test_a_tflite_file_with_metadata_is_no_bundle(slimalign: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(litert_file("RELU", [computed("FLOAT32")], [computed("FLOAT32")]))
    plain = slimalign("profile", path, "--json")
    with zipfile.ZipFile(path, "a") as metadata:
        metadata.writestr("labels.txt", "a face")
    assert zipfile.is_zipfile(path)
    assert slimalign("profile", path, "--json").json == plain.json
    assert slimalign("lint", path, "--target", "linux-x86-64", "--json").json["file"] == str(path)


def test_profile_names_all_operators_that_cannot_be_counted(
    slimalign: Command, toml: Path, tmp_path: Path
) -> None:
    model = network(2 * LANDMARKS)
    model.graph.node[-1].CopyFrom(
        onnx.helper.make_node("Einsum", ["means", "weights"], ["points"], equation="nc,cv->nv")
    )
    onnx.save(model, tmp_path / "model.onnx")
    for given in (tmp_path / "model.onnx", toml):
        done = slimalign("profile", given)
        assert (done.status, done.out) == (1, "")
        assert "operators whose cost is not known: Einsum; " in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", [("--timed",), ("--results", "r.jsonl")])
def test_what_needs_a_bundle_is_told(slimalign: Command, toml: Path, option: tuple[str, ...]) -> None:
    done = slimalign("profile", toml.with_name("model.onnx"), *option)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"{option[0]} is for bundles, and for a TOML" in done.err


def test_a_mistake_in_it_is_one_line(slimalign: Command, toml: Path) -> None:
    toml.write_text(toml.read_text().replace('"rgb"', '"gbr"'))
    done = slimalign("bench", toml)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert f'{toml}: colour = "gbr", must be one of rgb, bgr' in done.err


def test_a_device_finds_and_measures_with_it(
    slimalign: Command, place: Place, toml: Path, sshd: Sshd
) -> None:
    there = ("--target", sshd.address, "--python", sys.executable)
    assert slimalign("parity", toml, *there, "--json").json["holds"] is True
    (record,) = slimalign("bench", toml, *there, "--batch", "1", "--threads", "1", "--json").json
    assert (record["target"], record["bundle"]) == (sshd.address, "mine")
    data = ("--data", place.data, "--data-format", "folder", "--normaliser", "diagonal", "--json")
    assert slimalign("eval", toml, *data, *there).json["nme"] == pytest.approx(
        slimalign("eval", toml, *data).json["nme"], abs=1e-3
    )
