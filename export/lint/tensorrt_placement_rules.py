"""Rules for where Q and DQ stand in ONNX graphs for TensorRT: what runs there, but not as quickly as it could."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slimalign.export.int8_share import HEAD
from slimalign.export.lint.findings import WHOLE_FILE, Fault, Rule
from slimalign.export.lint.onnx_rules import of_constant, pairs, takes_int8
from slimalign.export.onnx_graph import QUANTIZE, OnnxGraph, attribute, node_name
from slimalign.targets.target import Target

MULTIPLE, LEAST_CHANNELS = 8, 16
"""The channels that int8 convolutions are quick with: multiples of the one, from the other on."""
PICTURE_CHANNELS = 3
"""Those of the network's input, which nothing can be done about."""
LEAST_KERNEL = 3
"""Side of the smallest kernel of a depthwise convolution that is quick in int8."""
NO_GAIN = frozenset(
    {"ArgMax", "Gather", "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Transpose"}
)
"""Operators that int8 does not make quicker, and that pairs before them keep from being fused."""


def quantised_outputs(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Outputs of the model that were quantised and dequantised again."""
    for name in sorted(graph.outputs):
        if graph.dequantised(name):
            yield Fault(name, "is an output right behind a pair of Q and DQ")


def both_branches(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Additions of which a convolution's own output, too, is quantised."""
    for node in graph.nodes:
        if node.op_type == "Add" and all(_is_activation_pair(graph, name) for name in node.input):
            sources = [graph.makers[graph.source(name)].input[0] for name in node.input]
            quantised = [graph.makers[graph.source(name)].input[0] for name in sources]
            if any(graph.made_by(name, "Conv") and len(graph.readers[name]) == 1 for name in quantised):
                yield Fault(node_name(node), "takes both branches quantised, its convolution's own too")


def _is_activation_pair(graph: OnnxGraph, name: str) -> bool:
    maker = graph.maker(name)
    if maker is None or not graph.dequantised(name) or of_constant(graph, maker):
        return False
    return graph.made_by(maker.input[0], QUANTIZE)


def concat_scales(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Concatenations around which tensors have several scales."""
    for node in graph.nodes:
        if node.op_type != "Concat":
            continue
        around = [graph.maker(name) for name in node.input if graph.dequantised(name)]
        around += [
            reader for reader, _ in graph.readers.get(node.output[0], []) if reader.op_type == QUANTIZE
        ]
        scales = [graph.array(pair.input[1]) for pair in around if pair is not None]
        if len({scale.tobytes() for scale in scales if scale is not None}) > 1:
            yield Fault(node_name(node), "has inputs or an output of different scales")


def pairs_without_gain(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Pairs before operators that int8 does not make quicker."""
    for node in graph.nodes:
        if node.op_type in NO_GAIN and _is_activation_pair(graph, node.input[0]):
            yield Fault(node_name(node), f"is a {node.op_type} right behind a pair of Q and DQ")


def _int8_convolutions(graph: OnnxGraph) -> Iterator[tuple[Any, list[int], bool]]:
    """Each convolution in int8, the shape of its weights, and whether it is depthwise."""
    for node in graph.nodes:
        if node.op_type == "Conv" and takes_int8(graph, node):
            shape = graph.shape(graph.weights(node)[0])
            if shape:
                yield node, shape, shape[1] == 1 and attribute(node, "group", 1) > 1


def odd_channels(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Convolutions in int8 of channels that do not fill its instructions."""
    for node, (given, taken, *_), depthwise in _int8_convolutions(graph):
        counts = [given] if taken == PICTURE_CHANNELS else [given, taken]
        if not depthwise and any(count < LEAST_CHANNELS or count % MULTIPLE for count in counts):
            yield Fault(
                node_name(node),
                f"is in int8 with channels fewer than {LEAST_CHANNELS} or no multiple of {MULTIPLE}",
            )


def odd_depthwise(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Depthwise convolutions in int8 that are small in one way or another."""
    for node, (given, _, *kernel), depthwise in _int8_convolutions(graph):
        if depthwise and (given % MULTIPLE or min(kernel) < LEAST_KERNEL):
            yield Fault(
                node_name(node),
                f"is depthwise in int8 with channels no multiple of {MULTIPLE} or a kernel below {LEAST_KERNEL}",
            )


def quantised_heads(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Convolutions of the head in int8."""
    for node, _, _ in _int8_convolutions(graph):
        if HEAD in node.name:
            yield Fault(node_name(node), "is in the head and in int8")


def slow_int8(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Q and DQ for a GPU that is no quicker in int8."""
    if not target.int8 and any(pairs(graph)):
        yield Fault(WHOLE_FILE, f"is in int8, and the {target.title} is no quicker in it")


WIDTHS = f"choose widths that are multiples of {MULTIPLE} from {LEAST_CHANNELS} on, or compare with float16 by bench"

RULES: tuple[Rule[OnnxGraph], ...] = (
    Rule("slow-int8", "warning", "export as tensorrt-fp16", slow_int8),
    Rule("quantised-output", "warning", "leave the last layer's output in float", quantised_outputs),
    Rule("both-branches", "warning", "quantise the other branch alone; then both are fused", both_branches),
    Rule("concat-scales", "warning", "give all tensors around it one scale", concat_scales),
    Rule("pair-without-gain", "warning", "quantise at the next convolution instead", pairs_without_gain),
    Rule("int8-channels", "warning", WIDTHS, odd_channels),
    Rule("int8-depthwise", "warning", WIDTHS, odd_depthwise),
    Rule("int8-head", "note", "leave the head in float where the landmarks suffer", quantised_heads),
)
