"""Rules for Q and DQ in ONNX graphs for TensorRT: what it does not take, or computes otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from slimalign.export.lint.findings import Fault, Rule
from slimalign.export.lint.onnx_rules import of_constant, pairs
from slimalign.export.lint.tensorrt_versions import before
from slimalign.export.onnx_graph import DEQUANTIZE, QUANTIZE, OnnxGraph, attribute, node_name
from slimalign.targets.target import Target

PER_CHANNEL_OPSET = 13
WEIGHT_AXES = {"Conv": 0, "ConvTranspose": 1}
"""That of the output channels in the weights of each."""


def _zero_point(node: Any) -> str | None:
    return node.input[2] if len(node.input) > 2 and node.input[2] else None


def _per_channel(graph: OnnxGraph, node: Any) -> bool:
    scale = graph.array(node.input[1])
    return scale is not None and scale.size > 1


def zero_points(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Zero points other than zero."""
    for node in pairs(graph):
        name = _zero_point(node)
        values = None if name is None else graph.array(name)
        if values is not None and values.any():
            yield Fault(node_name(node), "has a zero point that is not 0")


@before("11.0")
def computed_scales(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Scales and zero points that the graph computes."""
    for node in pairs(graph):
        names = [node.input[1], _zero_point(node)]
        if any(name is not None and graph.array(name) is None for name in names):
            yield Fault(node_name(node), "has a scale or zero point that is not constant")


def unsigned_numbers(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Values in uint8, which is also what a QuantizeLinear without a zero point gives."""
    for node in pairs(graph):
        name = _zero_point(node)
        if name is None and node.op_type == QUANTIZE and not attribute(node, "output_dtype", 0):
            yield Fault(node_name(node), "has no zero point, which makes its values uint8")
        elif name is not None and graph.dtypes.get(name) == "uint8":
            yield Fault(node_name(node), "quantises to uint8, which TensorRT reads as int8")


def bad_scales(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Scales that are zero, negative or not finite."""
    for node in pairs(graph):
        scale = graph.array(node.input[1])
        if scale is not None and not (np.isfinite(scale) & (scale > 0)).all():
            yield Fault(node_name(node), "has a scale that is not a positive number")


@before("11.0")
def per_channel_activations(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Activations with a scale for each channel."""
    for node in pairs(graph):
        if _per_channel(graph, node) and not of_constant(graph, node):
            yield Fault(node_name(node), "quantises an activation by channel")


@before("11.0")
def weight_axes(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Weights with a scale for each of something else than the output channels."""
    for node in graph.nodes:
        expected = WEIGHT_AXES.get(node.op_type)
        if expected is None:
            continue
        weights, dequantised = graph.weights(node)
        pair = None if dequantised is None else graph.makers[dequantised]
        if pair is None or not _per_channel(graph, pair) or graph.opset < PER_CHANNEL_OPSET:
            continue
        axis = attribute(pair, "axis", 1) % len(graph.shape(weights) or [0])
        if axis != expected:
            yield Fault(node_name(node), f"has weights with scales along axis {axis}, must be {expected}")


@before("11.0")
def old_per_channel(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Scales for each channel in an opset that knows one scale a tensor."""
    for node in pairs(graph):
        if graph.opset < PER_CHANNEL_OPSET and _per_channel(graph, node):
            yield Fault(node_name(node), f"has scales by channel, which opset {graph.opset} does not know")


def quantised_biases(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Biases that come out of a DequantizeLinear."""
    for node in graph.nodes:
        if (
            node.op_type in ("Conv", "ConvTranspose", "Gemm")
            and len(node.input) > 2
            and graph.dequantised(node.input[2])
        ):
            yield Fault(node_name(node), "has a quantised bias")


@before("11.0")
def unpaired(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A Q that is not followed by a DQ, and a DQ of an activation with no Q before it."""
    for node in pairs(graph):
        if node.op_type == QUANTIZE:
            readers = [reader.op_type for reader, _ in graph.readers.get(node.output[0], [])]
            if set(readers) != {DEQUANTIZE} or node.output[0] in graph.outputs:
                yield Fault(node_name(node), "is a Q that something else than a DQ takes")
        elif graph.array(node.input[0]) is None and not graph.made_by(node.input[0], QUANTIZE):
            yield Fault(node_name(node), "is a DQ of something else than a Q or constant weights")


SYMMETRIC = "quantise symmetrically to int8, with a constant zero point of 0 (slimalign's onnx-int8-tensorrt)"
CONSTANT = "give each tensor a constant positive scale, from calibration"

RULES: tuple[Rule[OnnxGraph], ...] = (
    Rule("zero-point", "error", SYMMETRIC, zero_points),
    Rule("unsigned", "error", SYMMETRIC, unsigned_numbers),
    Rule("computed-scale", "error", CONSTANT, computed_scales),
    Rule("scale-not-positive", "error", CONSTANT, bad_scales),
    Rule("activation-by-channel", "error", "give activations one scale a tensor", per_channel_activations),
    Rule("weight-axis", "error", "give weights one scale an output channel", weight_axes),
    Rule("by-channel-opset", "error", "export with --opset 13 or newer", old_per_channel),
    Rule("quantised-bias", "error", "leave biases in float", quantised_biases),
    Rule("unpaired", "error", "put Q and DQ side by side, and leave inputs and outputs in float", unpaired),
)
