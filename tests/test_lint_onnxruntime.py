"""Lint of ONNX graphs for ONNX Runtime on CPUs: each rule on a graph with one fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_onnx import CHANNELS, Graph

from slimalign.export.lint.findings import Report
from slimalign.export.lint.lint import lint
from slimalign.export.lint.onnxruntime_rules import RULES
from slimalign.export.onnx_graph import read_onnx_graph
from slimalign.runtimes.errors import UserError
from slimalign.targets.profile import target_named
from slimalign.targets.target import Target

X86, ARM = target_named("linux-x86-64"), target_named("linux-arm64")


def resize(mode: str, place: str, **attributes: str) -> onnx.ModelProto:
    graph = Graph().hold(scales=np.array([1, 1, 2, 2], dtype=np.float32))
    places = {"coordinate_transformation_mode": place, **attributes}
    return graph.add("Resize", ["image", "", "scales"], "out", "up", mode=mode, **places).model()


def unsigned() -> Graph:
    """A convolution by ONNX Runtime's scheme: uint8 activations, int8 weights."""
    graph = Graph().pair("image", "x", "in", zero=128, dtype=np.uint8)
    graph.hold(w=np.ones((CHANNELS, CHANNELS, 3, 3), dtype=np.int8), s=np.float32(0.1), z=np.int8(0))
    return graph.add("DequantizeLinear", ["w", "s", "z"], "wdq", "w.DQ").convolve("x", "out", "conv", "wdq")


def half_quantised() -> onnx.ModelProto:
    """Of two equal convolutions one in int8."""
    return unsigned().convolve("out", "end", "second").model(out="end")


def float16() -> onnx.ModelProto:
    graph = Graph().add("Cast", ["image"], "x", "in", to=TensorProto.FLOAT16).convolve("x", "y", "conv")
    graph.constants = {name: values.astype(np.float16) for name, values in graph.constants.items()}
    return graph.add("Cast", ["y"], "out", "end", to=TensorProto.FLOAT).model()


def float64() -> onnx.ModelProto:
    graph = Graph().hold(half=np.float64(0.5)).add("Cast", ["half"], "h", "cast", to=TensorProto.FLOAT)
    return graph.add("Mul", ["image", "h"], "out", "it").model()


@dataclass(frozen=True)
class Row:
    """A graph with one fault, the rule that finds it, and where."""

    rule: str
    node: str
    graph: onnx.ModelProto


ROWS = [
    Row("refused", "(the file)", Graph().add("Odd", ["image"], "out", "it", domain="my.own").model()),
    Row("refused", "(the file)", Graph().add("Relu", ["image"], "out", "it").model(opset=99)),
    Row("float64", "half", float64()),
    Row("resize-alignment", "up", resize("linear", "align_corners")),
    Row("nearest-resize", "up", resize("nearest", "asymmetric", nearest_mode="floor")),
    Row("signed-activations", "conv.in.Q", Graph().quantised("image", "out", "conv").model()),
    Row("float16-on-cpu", "(the file)", float16()),
    Row("little-int8", "(the file)", half_quantised()),
]

FAULTLESS = {
    "float": Graph().convolve("image", "out", "conv").model(),
    "unsigned": unsigned().model(),
    "resize": resize("linear", "half_pixel"),
}


def linted(model: onnx.ModelProto, target: Target, folder: Path) -> Report:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return lint(path, target)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule} at {row.node}")
def test_the_fault_is_found_where_it_is_and_no_other_is(row: Row, tmp_path: Path) -> None:
    report = linted(row.graph, X86, tmp_path)
    assert [(found.rule, found.nodes) for found in report.findings] == [(row.rule, (row.node,))]


@pytest.mark.parametrize("name", FAULTLESS)
def test_nothing_is_found_in_a_graph_without_fault(name: str, tmp_path: Path) -> None:
    assert linted(FAULTLESS[name], X86, tmp_path).findings == ()


def test_every_rule_has_a_row() -> None:
    assert {row.rule for row in ROWS} == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", ["signed-activations", "float16-on-cpu"])
def test_what_is_slow_on_x86_alone_is_not_found_on_arm(rule: str, tmp_path: Path) -> None:
    (graph,) = (row.graph for row in ROWS if row.rule == rule)
    assert linted(graph, ARM, tmp_path).findings == ()


def test_the_facts_of_a_graph(tmp_path: Path) -> None:
    facts = linted(half_quantised(), X86, tmp_path).facts
    assert facts.version == "opset 17"
    assert facts.operators == {"DequantizeLinear": 2, "Conv": 2, "QuantizeLinear": 1}
    # Of float32: the image, out and end, x and wdq, weights and bias of the second, the first's bias, two scales.
    assert facts.tensors == {"float32": 10, "uint8": 2, "int8": 2}
    weights = CHANNELS * CHANNELS * 9
    assert facts.weight_bytes == {
        "float32": 4 * (weights + 2 * CHANNELS + 2),
        "int8": weights + 1,
        "uint8": 1,
    }
    assert (facts.transposes, facts.resizes, facts.int8_share) == (0, {}, 0.5)


@pytest.mark.parametrize("content", [b"", b"no model at all", FAULTLESS["float"].SerializeToString()[:-700]])
def test_what_is_no_onnx_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="model.onnx: (cannot be read as ONNX|no ONNX model)") as caught:
        read_onnx_graph(path)
    assert "\n" not in str(caught.value)
