"""Rules for ONNX graphs that ONNX Runtime runs on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

from slimalign.export.int8_share import LEAST_SHARE, int8_share, onnx_works
from slimalign.export.lint.findings import WHOLE_FILE, Fault, Rule
from slimalign.export.lint.onnx_rules import (
    float64_tensors,
    of_constant,
    pairs,
    resize_alignments,
    resizes_to_nearest,
)
from slimalign.export.onnx_graph import QUANTIZE, OnnxGraph, node_name
from slimalign.targets.target import Target

X86 = "x86_64"


def refused(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A model that the ONNX Runtime installed here does not open: an operator, opset or type that it does not know."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # Its fallback would try the same provider again, and print about it.
        onnxruntime.InferenceSession(
            graph.model.SerializeToString(),
            sess_options=options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
    except Exception as error:  # noqa: BLE001
        # Its exceptions have no family of their own.
        reason = str(error).splitlines()[0]
        yield Fault(WHOLE_FILE, f"ONNX Runtime {onnxruntime.__version__} refuses it: {reason}")


def signed_activations(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Activations in int8 on x86, whose instructions multiply uint8 by int8."""
    if target.architecture != X86:
        return
    for node in pairs(graph):
        signed = len(node.input) > 2 and graph.dtypes.get(node.input[2]) == "int8"
        if node.op_type == QUANTIZE and signed and not of_constant(graph, node):
            yield Fault(node_name(node), "quantises an activation to int8; x86 is twice as quick with uint8")


def float16_weights(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """Weights in float16 on x86, which computes in float32 between conversions."""
    if target.architecture == X86 and any(
        graph.dtypes[name] == "float16" for name, tensor in graph.constants.items() if len(tensor.dims) > 1
    ):
        yield Fault(WHOLE_FILE, "is in float16, which x86 converts to float32 and back at each step")


def little_int8(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
    """A quantised model of which much is left in float."""
    share = int8_share(onnx_works(graph)) if any(pairs(graph)) else None
    if share is not None and share < LEAST_SHARE:
        yield Fault(WHOLE_FILE, f"has {100 * share:.0f} % of its multiply-adds in int8, the rest in float")


RULES: tuple[Rule[OnnxGraph], ...] = (
    Rule("refused", "error", "export with --opset 17 and without custom operators", refused),
    Rule("float64", "warning", "export weights and constants in float32", float64_tensors),
    Rule("resize-alignment", "warning", "export with align_corners=False", resize_alignments),
    Rule("signed-activations", "warning", "export as onnx-int8", signed_activations),
    Rule("float16-on-cpu", "warning", "export as onnx", float16_weights),
    Rule(
        "little-int8",
        "warning",
        "quantise all convolutions; each in float stands between conversions",
        little_int8,
    ),
    Rule("nearest-resize", "note", "right only for a network that was trained so", resizes_to_nearest),
)
