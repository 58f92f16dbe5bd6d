"""What rules for ONNX graphs look for whichever runtime they are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slimalign.export.lint.findings import Fault
from slimalign.export.onnx_graph import DEQUANTIZE, QUANTIZE, OnnxGraph, attribute, node_name
from slimalign.targets.target import Target

PYTORCH_ALIGNMENTS = ("half_pixel", "pytorch_half_pixel")


def pairs(graph: OnnxGraph) -> Iterator[Any]:
    """Every QuantizeLinear and DequantizeLinear."""
    return (node for node in graph.nodes if node.op_type in (QUANTIZE, DEQUANTIZE))


def of_constant(graph: OnnxGraph, node: Any) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear, or the pair of both, is of constant values."""
    behind = graph.maker(node.input[0])
    if node.op_type == DEQUANTIZE and behind is not None and behind.op_type == QUANTIZE:
        return of_constant(graph, behind)
    return graph.array(node.input[0]) is not None


def takes_int8(graph: OnnxGraph, node: Any) -> bool:
    """Whether a convolution takes both its input and its weights quantised."""
    return graph.dequantised(node.input[0]) and graph.weights(node)[1] is not None


def alignment(resize: Any) -> str:
    """Where a Resize takes the pixels to lie."""
    return str(attribute(resize, "coordinate_transformation_mode", "half_pixel"))


def interpolation(resize: Any) -> str:
    """How a Resize finds values between pixels."""
    return str(attribute(resize, "mode", "nearest"))


def resize_alignments(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Interpolating resizes that take the pixels to lie elsewhere than PyTorch does."""
    for node in graph.nodes:
        if node.op_type != "Resize" or interpolation(node) == "nearest":
            continue
        if alignment(node) not in PYTORCH_ALIGNMENTS:
            yield Fault(node_name(node), f"resizes with {alignment(node)}, not with half-pixel centres")


def resizes_to_nearest(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Resizes that repeat pixels."""
    for node in graph.nodes:
        if node.op_type == "Resize" and interpolation(node) == "nearest":
            yield Fault(node_name(node), "resizes by repeating pixels")


def batch_norms(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Batch norms that were not folded."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization":
            yield Fault(node_name(node), "is an operation of its own, and keeps its convolution from int8")


def float64_tensors(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Tensors in float64, which has no quick arithmetic anywhere here."""
    for name, dtype in graph.dtypes.items():
        if dtype == "float64":
            yield Fault(name, "is in float64")
