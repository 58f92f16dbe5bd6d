"""Which share of a file's multiply-adds outside the head is really in int8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from slimalign.export.litert_model import CONVOLUTIONS, LiteRtModel, read_litert_model
from slimalign.export.onnx_graph import OnnxGraph, read_onnx_graph

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
    return _share(onnx_works(read_onnx_graph(path)))


def onnx_works(graph: OnnxGraph) -> Iterator[ConvWork]:
    """The convolutions outside the head of an ONNX graph."""
    for node in graph.nodes:
        if node.op_type == "Conv" and HEAD not in node.name:
            weights, dequantised = graph.weights(node)
            sizes = [*(graph.shape(node.output[0]) or [])[2:], *(graph.shape(weights) or [])]
            int8 = dequantised is not None and graph.quantised_dtype(dequantised) == "int8"
            yield ConvWork(prod(sizes), int8 and graph.dequantised(node.input[0]))


def litert_int8_share(path: Path) -> float:
    """The share, from 0 to 1, in a .tflite file."""
    return _share(litert_works(read_litert_model(path)))


def litert_works(model: LiteRtModel) -> Iterator[ConvWork]:
    """The convolutions outside the head of a .tflite file."""
    for operator in model.operators:
        if operator.kind not in CONVOLUTIONS:
            continue
        taken, weights = operator.inputs[:2]
        given = operator.outputs[0]
        if taken is not None and weights is not None and HEAD not in given.name:
            macs = prod((*given.shape[1:3], *weights.shape))
            yield ConvWork(macs, {taken.dtype, weights.dtype} == {"int8"})


def _share(works: Iterable[ConvWork]) -> float:
    share = int8_share(works)
    if share is None:
        raise ValueError("a network without convolutions has no share of them in int8")
    return share


def int8_share(works: Iterable[ConvWork]) -> float | None:
    """The share of the multiply-adds of ``works`` that is in int8, from 0 to 1; None where there are none."""
    works = list(works)
    whole = sum(work.macs for work in works)
    return sum(work.macs for work in works if work.int8) / whole if whole else None
