"""Rules for ONNX graphs that a TensorRT engine is built from, but for those on Q and DQ."""

from __future__ import annotations

from collections.abc import Iterator

from slimalign.export.lint.findings import WHOLE_FILE, Fault, Rule
from slimalign.export.lint.onnx_rules import (
    PYTORCH_ALIGNMENTS,
    alignment,
    batch_norms,
    float64_tensors,
    interpolation,
    resize_alignments,
    resizes_to_nearest,
)
from slimalign.export.lint.tensorrt_versions import (
    before,
    first_version,
    is_strongly_typed,
    parser_of,
    tensorrt_of,
)
from slimalign.export.onnx_graph import DEQUANTIZE, OnnxGraph, attribute, node_name
from slimalign.targets.target import Target

GREATEST_K = 3840
ALIGNMENTS = (*PYTORCH_ALIGNMENTS, "align_corners", "asymmetric", "tf_half_pixel_for_nn")
"""Where the parsers of all versions let a Resize take the pixels to lie."""
DATA_DEPENDENT = ("Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique")
"""Operators whose outputs' shapes, or whose very work, depend on values."""


def unknown_operators(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Operators that the target's parser does not know, and those of other domains, which need a plugin."""
    known = parser_of(tensorrt_of(target)).operators
    for node in graph.every_node:
        if node.domain not in ("", "ai.onnx"):
            yield Fault(
                node_name(node), f"{node.domain}.{node.op_type} is no ONNX operator; it would need a plugin"
            )
        elif node.op_type not in known:
            first = first_version(node.op_type)
            since = f"has {node.op_type} only from {first} on" if first else f"has no {node.op_type}"
            yield Fault(node_name(node), f"TensorRT {since}")


def newer_opsets(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """An opset beyond those that the target's parser was written for; it does not look at the number itself."""
    greatest = parser_of(tensorrt_of(target)).opset
    if graph.opset > greatest:
        yield Fault(
            WHOLE_FILE, f"opset {graph.opset}; TensorRT {target.tensorrt} is written for up to {greatest}"
        )


@before("11.0")
def grid_samples(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Samples by a grid from volumes instead of images."""
    for node in graph.nodes:
        shape = graph.shape(node.input[0]) if node.op_type == "GridSample" else None
        if shape is not None and len(shape) != 4:
            yield Fault(node_name(node), f"samples a tensor of {len(shape)} dimensions; TensorRT takes 4")


def large_top_k(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A TopK of more values than TensorRT finds."""
    for node in graph.nodes:
        if node.op_type == "TopK":
            k = graph.array(node.input[1]) if len(node.input) > 1 else attribute(node, "k", None)
            if k is not None and int(k.item() if hasattr(k, "item") else k) > GREATEST_K:
                yield Fault(node_name(node), f"looks for more than {GREATEST_K} values")


@before("8.6")
def computed_top_k(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A TopK of as many values as the graph computes."""
    for node in graph.nodes:
        if node.op_type == "TopK" and len(node.input) > 1 and graph.array(node.input[1]) is None:
            yield Fault(node_name(node), "looks for as many values as the graph computes")


@before("10.0")
def cubic_resizes(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Cubic interpolation, which the parsers read from TensorRT 10 on."""
    for node in graph.nodes:
        if node.op_type == "Resize" and interpolation(node) == "cubic":
            yield Fault(node_name(node), f"interpolates cubically, which TensorRT {target.tensorrt} does not")


def unread_alignments(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Resizes that take the pixels to lie where no parser can place them."""
    for node in graph.nodes:
        if node.op_type == "Resize" and alignment(node) not in ALIGNMENTS:
            yield Fault(node_name(node), f"resizes with {alignment(node)}, which TensorRT does not read")


def computed_resizes(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Resizes whose size or scale the graph computes."""
    for node in graph.nodes:
        if node.op_type == "Resize" and any(
            name and graph.array(name) is None for name in list(node.input)[2:]
        ):
            yield Fault(node_name(node), "resizes to a size that the graph computes")


def data_dependent(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Operators whose outputs' shapes depend on values."""
    for node in graph.every_node:
        if node.op_type in DATA_DEPENDENT:
            yield Fault(node_name(node), f"{node.op_type} makes shapes or work depend on values")


def dynamic_dimensions(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Inputs that have more than their batch open."""
    for value in graph.inputs:
        if 0 in (graph.shape(value.name) or [])[1:]:
            yield Fault(value.name, "has an open dimension beside its batch")


def float32_alone(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A file in float32 for a TensorRT that computes in the file's own precisions."""
    if not is_strongly_typed(target) or any(node.op_type == DEQUANTIZE for node in graph.nodes):
        return
    weights = {graph.dtypes[name] for name, tensor in graph.constants.items() if len(tensor.dims) > 1}
    if weights == {"float32"}:
        yield Fault(WHOLE_FILE, f"float32 weights make a float32 engine in TensorRT {target.tensorrt}")


STATIC = "export with a fixed input size, and resizes by constant scales"
PYTORCH = "export with align_corners=False, as slimalign's networks are trained"

RULES: tuple[Rule[OnnxGraph], ...] = (
    Rule(
        "unknown-operator",
        "error",
        "use another operator in the network, or a newer JetPack (--jetpack)",
        unknown_operators,
    ),
    Rule("grid-sample-rank", "error", "sample images, (N, C, H, W)", grid_samples),
    Rule(
        "top-k-too-large",
        "error",
        f"look for at most {GREATEST_K} values, or first for a maximum",
        large_top_k,
    ),
    Rule("computed-top-k", "error", "look for a constant number of values", computed_top_k),
    Rule("cubic-resize", "error", "resize linearly, and train so", cubic_resizes),
    Rule("resize-unread", "error", PYTORCH, unread_alignments),
    Rule("opset-too-new", "warning", "export for this device (--target), or with --opset 13", newer_opsets),
    Rule("float64", "warning", "export weights and constants in float32", float64_tensors),
    Rule("computed-resize", "warning", STATIC, computed_resizes),
    Rule("resize-alignment", "warning", PYTORCH, resize_alignments),
    Rule("data-dependent-shape", "warning", "decode after the network, not in it", data_dependent),
    Rule("dynamic-dimension", "warning", STATIC, dynamic_dimensions),
    Rule("batch-norm", "warning", "fold batch norms into convolutions before the export", batch_norms),
    Rule("float32-engine", "warning", "export in float16 or with Q and DQ", float32_alone),
    Rule("nearest-resize", "note", "right only for a network that was trained so", resizes_to_nearest),
)
