"""The commands on a real tiny bundle: what scripts may rely on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import typer.testing
from command_line.place import COMMANDS, FACES, Command, Place, boxed

from slimalign import api
from slimalign.cli import app


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


def test_bench_times_images_to_landmarks_beside_the_kernel(slimalign: Command, place: Place) -> None:
    faces = ("--data", place.data, "--data-format", "folder", "--split", "val")
    options = ("--batch", "2", "--threads", "1", "--timed", "end-to-end, kernel")
    records = slimalign("bench", place.onnx, *faces, *options, "--json").json
    assert [one["protocol"] for one in records] == ["end-to-end-1-draft", "kernel-1-draft"]
    assert all(one["samples"] >= 30 for one in records)


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
    slower |= {"protocol": "kernel-1-reference", "samples_ms": [1e6], "visits": [1]}
    Path("results.jsonl").write_text("".join(line + "\n" for line in [*lines, json.dumps(slower)]))

    mixed = slimalign("pick", "results.jsonl", "--batch", "2")
    assert mixed.status == 2
    assert "several protocols (kernel-1-draft, kernel-1-reference)" in mixed.err
    only = ("--protocol", "kernel-1-reference", "--target", "local", "--normaliser", "diagonal")
    choice = slimalign("pick", "results.jsonl", "--batch", "2", *only, "--json").json
    assert {"point", "runner_up", "binding", "relaxations"} <= set(choice)
    point = choice["point"]
    assert (point["split"], point["normaliser"], point["p50_ms"]) == ("val", "diagonal", 1e6)
    two = ("--batch", "2", "--threads", "1")
    assert slimalign("report", "results.jsonl", *only, *two, "--out", "f.svg", "--json").json == [point]
    assert ">small [b]</text>" in Path("f.svg").read_text()
    shown = slimalign("report", "results.jsonl", *only, *two)
    assert "small [b]" in shown.out  # nothing is read as markup, or cut
    assert "mult-adds" in shown.out
    none = slimalign("pick", "results.jsonl", "--batch", "2", *only, "--max-latency-ms", "999999")
    assert none.status == 1
    assert "raise --max-latency-ms 1e+06: then small [b] on onnxruntime fp32 fits" in none.out
    for option, value, held in (
        ("--protocol", "fast", "kernel-1-draft, kernel-1-reference"),
        ("--target", "moon", "local"),
        ("--split", "full", "--split val --normaliser inter-ocular"),
        ("--normaliser", "nose", "inter-ocular, inter-pupil, box, diagonal"),
    ):
        done = slimalign("pick", "results.jsonl", option, value)
        assert (done.status, held in done.err) == (2, True), done.err


def test_report_is_about_one_batch_size_and_thread_count(slimalign: Command, place: Place) -> None:
    data = ("--data", place.data, "--data-format", "folder")
    for bundle in (place.onnx, place.torch):
        assert slimalign("eval", bundle, *data, "--split", "val").status == 0
    untimed = slimalign("report", "results.jsonl", "--x", "params", "--json").json
    assert [(p["runtime"], p["batch"], p["p50_ms"]) for p in untimed] == 2 * [(None, None, None)]
    for batches in ("1,2", "4"):
        bundle = place.torch if batches == "4" else place.onnx
        assert slimalign("bench", bundle, "--batch", batches, "--threads", "1").status == 0
    for asked, options in ((1, ()), (2, ("--batch", "2"))):
        found = slimalign("report", "results.jsonl", *options, "--json").json
        assert [(p["runtime"], p["batch"]) for p in found] == [("onnxruntime", asked), (None, None)]
    done = slimalign("report", "results.jsonl", "--batch", "3")
    assert (done.status, done.out) == (2, "")
    held = ", ".join(f"--batch {size} --threads 1" for size in (1, 2, 4))
    assert done.err == f"slimalign: no latency with --batch 3; the results hold {held}\n"


def test_accuracy_on_two_data_sets_is_not_ranked_together(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    header, *rows = (place.data / "val.csv").read_text().splitlines()
    (tmp_path / "val.csv").write_text("\n".join([header, *rows[:3]]))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes((place.data / f"{number}.png").read_bytes())
    for bundle, data in ((place.onnx, place.data), (place.torch, tmp_path)):
        done = slimalign("eval", bundle, "--data", data, "--data-format", "folder", "--split", "val")
        assert done.status == 0, done.err
    done = slimalign("report", "results.jsonl", "--x", "params")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "keep one results file a data set" in done.err


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        ("drawn.xyz", "its ending names no image format; end it in .png"),
        ("a.txt/drawn.png", "cannot be written ("),
    ],
)
def test_predict_refuses_a_picture_it_cannot_write_before_it_looks_for_points(
    slimalign: Command, place: Place, out: str, fault: str
) -> None:
    Path("a.txt").touch()
    # The box, outside the photo, is refused where the points are looked for.
    face = (place.data / "0.png", "--bundle", place.onnx, "--box", "200,0,210,10")
    done = slimalign("predict", *face, "--out", out)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"slimalign: {out}: {fault}"), done.err
    assert "outside the image" in slimalign("predict", *face, "--out", "new/drawn.png").err
    assert [path.name for path in Path("new").iterdir()] == []


def test_predict_prints_faces_and_says_what_it_takes_for_one(slimalign: Command, place: Place) -> None:
    photo = place.data / "0.png"
    found = slimalign("predict", photo, "--bundle", place.onnx, "--box", boxed(0), "--json")
    assert found.err == ""
    (face,) = found.json["faces"]
    assert set(face) == {"box", "points", "scores"}
    assert face["box"] == pytest.approx(FACES[0].box)
    assert (np.shape(face["points"]), np.shape(face["scores"])) == ((19, 2), (19,))
    (said, way) = slimalign("predict", photo, "--bundle", place.onnx, "--box", "0,0,96,90.5").out.splitlines()
    assert said.startswith("face in 0,0,96,90.5: 19 points, mean score ")
    assert way == "--json prints the points, --out FILE draws them"
    drawn = slimalign("predict", photo, "--bundle", place.onnx, "--box", boxed(0), "--out", "drawn.png")
    assert drawn.out.splitlines()[-1] == "The picture is drawn.png; --json prints the points"
    whole = slimalign("predict", photo, "--bundle", place.onnx, "--json")
    assert set(whole.json) == {"faces"}
    assert whole.json["faces"][0]["box"] == [-0.5, -0.5, 95.5, 95.5]
    (line,) = whole.err.splitlines()
    assert line == f"{photo}: no --box given, the whole image is taken as one face"


def test_the_command_line_exports_and_predicts_with_the_decoder_inside(
    slimalign: Command, place: Place
) -> None:
    options = ("--formats", "onnx,torch", "--decode-inside", "--out", "files")
    made = slimalign("export", place.torch, *options, "--json").json
    assert [one["bundle"] for one in made] == ["files/small [b]-onnx-points", "files/small [b]-torch"]
    photo = place.data / "0.png"
    found, expected = (
        slimalign("predict", photo, "--bundle", bundle, "--box", "10,10,80,80", "--json").json["faces"][0]
        for bundle in (made[0]["bundle"], place.torch)
    )
    np.testing.assert_allclose(found["points"], expected["points"], atol=0.1)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)


def test_export_leaves_a_runs_own_bundles_alone(
    slimalign: Command, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = slimalign("export", place.run, "--formats", "torch", "--out", "files", "--json").json
    assert made["bundle"] == "files/small [b]-torch"
    monkeypatch.chdir(place.run / "bundles")
    done = slimalign("export", "..", "--formats", "torch", "--out", ".")
    assert (done.status, ".: a run's own bundles" in done.err) == (2, True)
    assert [path.name for path in Path().iterdir()] == ["distilled-torch"]


def test_profile_prints_one_json_document(slimalign: Command, place: Place) -> None:
    keys = {
        "network",
        "landmarks",
        "input",
        "params",
        "macs",
        "params_without_head",
        "macs_without_head",
        "bytes_moved",
    }
    document = slimalign("profile", "sd-hrnet-wflw", "--json").json
    assert set(document) == keys
    assert (document["landmarks"], document["input"]) == (98, [256, 256])
    assert round(document["params_without_head"] / 1e6, 3) == 1.323
    assert round(document["macs"] / 1e9, 3) == 0.711
    layered = slimalign("profile", "sd-hrnet-wflw", "--layers", "--json").json
    assert set(layered) == keys | {"layers"}
    assert {frozenset(layer) for layer in layered["layers"]} == {
        frozenset(("name", "kind", "params", "macs", "bytes_moved"))
    }
    for total in ("params", "macs"):
        assert sum(layer[total] for layer in layered["layers"]) == document[total]
    other = slimalign("profile", "hrnet-w18", "--landmarks", "29", "--input", "64", "--json").json
    assert (other["landmarks"], other["input"]) == (29, [64, 64])
    exported = slimalign("profile", place.onnx, "--json").json
    assert set(exported) == keys
    assert (exported["network"], exported["landmarks"]) == ("small [b]", 19)
    assert slimalign("profile", place.onnx).out.startswith("small [b], 19 landmarks, 64x64: ")
    in_file = slimalign("profile", place.onnx / "model.onnx", "--layers", "--json").json
    assert (in_file["landmarks"], in_file["input"], in_file["macs_without_head"]) == (None, None, None)
    for total in ("params", "macs", "bytes_moved"):
        assert sum(layer[total] for layer in in_file["layers"]) == in_file[total] == exported[total]


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
    assert api.profile(bundle.folder).totals == {**bundle.manifest.cost, "bytes_moved": None}
    with pytest.raises(api.UserError, match="no bundles to measure"):
        api.bench([])


def test_every_command_has_help_with_an_example() -> None:
    runner = typer.testing.CliRunner()
    assert all(name in runner.invoke(app, ["--help"]).output for name in COMMANDS)
    for name in COMMANDS:
        assert f"slimalign {name}" in runner.invoke(app, [name, "--help"]).output, name
