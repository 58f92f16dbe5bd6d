"""Lint of damaged files: it reports or says in one line that a file is damaged, whichever byte is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from onnx import helper, numpy_helper
from small_litert import computed, constant, litert_file
from small_onnx import Graph

from slimalign.export.lint.lint import lint
from slimalign.runtimes.errors import UserError
from slimalign.targets.profile import target_named

FLIPS = 500


def small_onnx() -> bytes:
    graph = Graph().hold(scales=np.array([1, 1, 2, 2], dtype=np.float32))
    graph.quantised("image", "conv", "conv", (2, 2, 1, 1)).add("Identity", ["conv"], "copy", "copy")
    graph.add("Resize", ["copy", "", "scales"], "out", "up", mode="linear")
    return graph.model(image=(1, 2, 4, 4)).SerializeToString()


def small_litert() -> bytes:
    kernel = constant(np.ones((8, 1, 1, 8)), np.int8, scale=np.full(8, 0.1))
    bias = constant(np.zeros(8), np.int32, scale=np.full(8, 0.01))
    return litert_file(
        "CONV_2D", [computed("INT8"), kernel, bias], [computed("INT8")], 3, strideH=1, strideW=1
    )


FILES = {".onnx": small_onnx(), ".tflite": small_litert()}


@pytest.mark.parametrize(
    ("ending", "device"),
    [(".onnx", "jetson-orin-nano"), (".onnx", "linux-x86-64"), (".tflite", "android")],
)
def test_no_wrong_byte_ends_in_a_trace(
    ending: str, device: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target, path, random = target_named(device), tmp_path / f"model{ending}", np.random.default_rng(0)
    said: list[str] = []
    for _ in range(FLIPS):
        wrong = bytearray(FILES[ending])
        wrong[random.integers(len(wrong))] = random.integers(256)
        path.write_bytes(wrong)
        try:
            lint(path, target)
        except UserError as error:
            said.append(str(error))
    assert 0 < len(said) < FLIPS
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said)
    assert capfd.readouterr().out == ""


def test_the_parts_of_a_damaged_onnx_file_do_not_fit(tmp_path: Path) -> None:
    path, target = tmp_path / "model.onnx", target_named("jetson-orin-nano")
    whole = Graph().quantised("image", "out", "conv").model()
    unknown, lacking, ring = (type(whole).FromString(whole.SerializeToString()) for _ in range(3))
    unknown.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), "odd"))
    unknown.graph.initializer[-1].data_type = 81
    del lacking.graph.node[-1].input[:]
    ring.graph.node.append(helper.make_node("Identity", ["a"], ["a"], name="ring"))
    ring.graph.node.append(helper.make_node("TopK", ["image", "a"], ["b", "c"], name="best"))
    for broken in (unknown, lacking, ring):
        path.write_bytes(broken.SerializeToString())
        with pytest.raises(UserError, match=r"model.onnx: cut short or damaged \(.+\); export it again$"):
            lint(path, target)


def test_tensors_need_no_names(tmp_path: Path) -> None:
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(small_litert()))
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert lint(path, target_named("raspberry-pi-5")).findings == ()
