"""The commands that read and run nothing."""

from __future__ import annotations

import json
from pathlib import Path

from command_line.place import Command, Place

from slimalign import api


def test_targets_lists_every_device_and_what_its_jetpacks_bring(slimalign: Command) -> None:
    found = {one["name"]: one for one in slimalign("targets", "--json").json}
    assert list(found) == [target.name for target in api.targets()]
    nano = found["jetson-nano"]
    assert (nano["formats"], nano["compute_capability"], nano["int8"]) == (["tensorrt-fp16"], "5.3", False)
    assert [one["version"] for one in nano["jetpacks"]] == ["4.6", "4.6.1"]
    lines = slimalign("targets").out.splitlines()
    assert any("Jetson Nano" in line and "JetPack 4.6: TensorRT 8.0.1, opset 13" in line for line in lines)
    assert all(any(line.split()[0] == name for line in lines if line.strip()) for name in found)


def test_lint_tells_facts_and_findings(slimalign: Command, place: Place) -> None:
    done = slimalign("lint", place.onnx, "--target", "linux-x86-64")
    assert done.status == 0
    title, operators, tensors, transposes, nothing = done.out.splitlines()
    assert title == f"{place.onnx} for linux-x86-64"
    assert operators.startswith("opset 17; ")
    assert tensors.startswith("tensors: float32 ")
    assert transposes.startswith("0 transposes, ")
    assert "linear half_pixel" in transposes
    assert nothing == "Nothing found."


def test_lint_warns_without_failing(slimalign: Command, place: Place) -> None:
    options = ("--target", "xavier-nx", "--jetpack", "4.6.3")
    done = slimalign("lint", place.onnx, *options)
    assert done.status == 0
    assert "for jetson-xavier-nx (JetPack 4.6.1, TensorRT 8.2.1)" in done.out
    assert "opset-too-new" in done.out
    assert slimalign("lint", place.onnx, *options, "--json").json["findings"] == [
        {
            "rule": "opset-too-new",
            "level": "warning",
            "nodes": ["(the file)"],
            "message": "opset 17; TensorRT 8.2.1 is written for up to 13",
            "mend": "export for this device (--target), or with --opset 13",
        }
    ]


def test_lint_fails_where_the_file_does_not_run(slimalign: Command, place: Place) -> None:
    from onnx import load, save

    model = load(str(place.onnx / "model.onnx"))
    for node in model.graph.node:
        node.op_type = "Det" if node.op_type == "Relu" else node.op_type
    save(model, "broken.onnx")
    done = slimalign("lint", "broken.onnx", "--target", "orin-nano", "--json")
    assert (done.status, done.err) == (1, "")
    document = json.loads(done.out)
    assert set(document) == {"file", "target", "facts", "findings"}
    (found,) = (one for one in document["findings"] if one["level"] == "error")
    assert (found["rule"], found["message"]) == ("unknown-operator", "TensorRT has no Det")
    shown = slimalign("lint", "broken.onnx", "--target", "orin-nano")
    assert shown.status == 1
    assert f"and {len(found['nodes']) - 3} more" in shown.out


def test_lint_tells_mistakes_in_one_line(slimalign: Command, place: Place) -> None:
    Path("cut.onnx").write_bytes((place.onnx / "model.onnx").read_bytes()[:-100])
    for arguments, said in (
        (("cut.onnx", "--target", "orin-nano"), "cut.onnx: cannot be read as ONNX"),
        ((place.onnx, "--target", "fridge"), "target 'fridge' is unknown; "),
        (
            (place.onnx, "--target", "iphone"),
            "iphone is known for litert-int8, litert-fp16, litert, no .onnx file; ",
        ),
        ((place.torch, "--target", "iphone"), "not an .onnx or .tflite file; "),
        ((place.onnx,), "Missing option '--target'; see slimalign lint --help"),
    ):
        done = slimalign("lint", *arguments)
        assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
        assert said in done.err
