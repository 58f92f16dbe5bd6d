"""Which share of a file's multiply-adds outside the head is really in int8."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from slimalign.export.litert_graph import litert_convolutions

LEAST_SHARE = 0.9
"""A file with less is not called int8."""
HEAD = "head/"
"""In the names of the head's layers, which may stay in float."""


class ConvWork(NamedTuple):
    """The multiply-adds of one convolution on one face, and whether it takes int8 and multiplies by int8."""

    macs: int
    int8: bool


def onnx_int8_share(path: Path) -> float:
    """The share, from 0 to 1, in an ONNX file with QuantizeLinear and DequantizeLinear around its operations."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    works = []
    for node in graph.node:
        if node.op_type == "Conv" and HEAD not in node.name:
            weights, int8 = _onnx_weights(node.input[1], makers, constants)
            macs = prod(shapes[node.output[0]][2:]) * prod(weights.dims)
            taken = makers.get(node.input[0])
            works.append(ConvWork(macs, int8 and taken is not None and taken.op_type == "DequantizeLinear"))
    return _share(works)


def _onnx_weights(name: str, makers: dict[str, Any], constants: dict[str, Any]) -> tuple[Any, bool]:
    """The constant behind a convolution's weights, and whether it is int8."""
    import onnx

    maker = makers.get(name)
    while maker is not None and maker.op_type == "Identity":  # equal weights are kept once
        name = maker.input[0]
        maker = makers.get(name)
    if maker is None or maker.op_type != "DequantizeLinear":
        return constants[name], False
    quantiser = makers.get(maker.input[0])
    if quantiser is None:
        weights = constants[maker.input[0]]
        return weights, weights.data_type == onnx.TensorProto.INT8
    # Float weights in front of a pair of their own: int8 is what the zero point says.
    return constants[quantiser.input[0]], constants[quantiser.input[2]].data_type == onnx.TensorProto.INT8


def litert_int8_share(path: Path) -> float:
    """The share, from 0 to 1, in a .tflite file."""
    from ai_edge_litert import schema_py_generated as schema

    works = []
    for (taken, weights), made in litert_convolutions(path):
        if HEAD not in made.name.decode():
            macs = prod(int(size) for size in (*made.shape[1:3], *weights.shape))
            works.append(ConvWork(macs, {taken.type, weights.type} == {schema.TensorType.INT8}))
    return _share(works)


def _share(works: Iterable[ConvWork]) -> float:
    works = list(works)
    return sum(work.macs for work in works if work.int8) / sum(work.macs for work in works)
