"""What is in a file, whatever is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from slimalign.export.int8_share import int8_share, litert_works, onnx_works
from slimalign.export.lint.findings import Facts
from slimalign.export.lint.onnx_rules import alignment, interpolation, pairs
from slimalign.export.litert_graph import has_half_pixel_centres
from slimalign.export.litert_model import LiteRtModel, LiteRtOperator
from slimalign.export.onnx_graph import OnnxGraph

LITERT_RESIZES = {"RESIZE_BILINEAR": "linear", "RESIZE_NEAREST_NEIGHBOR": "nearest"}


def onnx_facts(graph: OnnxGraph) -> Facts:
    """The facts of an ONNX graph."""
    operators = Counter(node.op_type for node in graph.every_node)
    sizes: Counter[str] = Counter()
    for name in graph.constants:
        values = graph.array(name)
        sizes[graph.dtypes[name]] += 0 if values is None else values.nbytes
    resizes = [node for node in graph.nodes if node.op_type == "Resize"]
    return Facts(
        version=f"opset {graph.opset}",
        operators=_by_count(operators),
        tensors=_by_count(Counter(graph.dtypes.values())),
        weight_bytes=_by_count(sizes),
        transposes=operators["Transpose"],
        resizes=_by_count(Counter(f"{interpolation(node)} {alignment(node)}" for node in resizes)),
        int8_share=int8_share(onnx_works(graph)) if any(pairs(graph)) else None,
    )


def litert_facts(model: LiteRtModel) -> Facts:
    """The facts of a .tflite file."""
    operators = Counter(operator.kind for operator in model.operators)
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.dtype] += tensor.size_bytes
    quantised = any(tensor.dtype in ("int8", "int16") for tensor in model.tensors)
    return Facts(
        version=f"schema {model.schema_version}",
        operators=_by_count(operators),
        tensors=_by_count(Counter(tensor.dtype for tensor in model.tensors)),
        weight_bytes=_by_count(+sizes),
        transposes=operators["TRANSPOSE"],
        resizes=_by_count(Counter(_litert_resizes(model.operators))),
        int8_share=int8_share(litert_works(model)) if quantised else None,
    )


def _litert_resizes(operators: Iterable[LiteRtOperator]) -> Iterable[str]:
    for operator in operators:
        if operator.kind in LITERT_RESIZES:
            aligned = "align_corners" if operator.options.alignCorners else "asymmetric"
            placed = "half_pixel" if has_half_pixel_centres(operator) else aligned
            yield f"{LITERT_RESIZES[operator.kind]} {placed}"


def _by_count(counts: Counter[str]) -> Mapping[str, int]:
    return dict(counts.most_common())
