"""Small .tflite files: one operator and its tensors, written through the schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

IMAGE = (1, 4, 4, 8)
OPTIONS = {
    "ABS": "Abs",
    "ADD": "Add",
    "ARG_MAX": "ArgMax",
    "AVERAGE_POOL_2D": "Pool2D",
    "CONCATENATION": "Concatenation",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "DEPTH_TO_SPACE": "DepthToSpace",
    "DIV": "Div",
    "GATHER": "Gather",
    "GELU": "Gelu",
    "LEAKY_RELU": "LeakyRelu",
    "MAXIMUM": "MaximumMinimum",
    "MAX_POOL_2D": "Pool2D",
    "MEAN": "Reducer",
    "MINIMUM": "MaximumMinimum",
    "MIRROR_PAD": "MirrorPad",
    "MUL": "Mul",
    "PAD": "Pad",
    "REDUCE_MAX": "Reducer",
    "REDUCE_MIN": "Reducer",
    "REDUCE_PROD": "Reducer",
    "RESIZE_BILINEAR": "ResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "SOFTMAX": "Softmax",
    "SPACE_TO_DEPTH": "SpaceToDepth",
    "SPLIT": "Split",
    "SQUEEZE": "Squeeze",
    "STRIDED_SLICE": "StridedSlice",
    "SUB": "Sub",
    "SUM": "Reducer",
    "TILE": "Tile",
    "TRANSPOSE": "Transpose",
}
"""The table of options that each kind of operator has; others have none."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: computed, or constant with ``values``."""

    shape: tuple[int, ...] = IMAGE
    dtype: str = "FLOAT32"
    values: NDArray[Any] | None = None
    scale: float | NDArray[Any] | None = None
    zero: int = 0
    axis: int = 0


def computed(dtype: str, shape: tuple[int, ...] = IMAGE, scale: float = 0.1, zero: int = 0) -> Tensor:
    """An activation in float32, or in int8, uint8 or int16 with a scale."""
    quantised = dtype in ("INT8", "UINT8", "INT16")
    return Tensor(shape, dtype, scale=scale if quantised else None, zero=zero)


def constant(values: Any, dtype: Any = np.int32, **quantisation: Any) -> Tensor:
    """A constant."""
    array = np.asarray(values, dtype=dtype)
    return Tensor(array.shape, array.dtype.name.upper(), array, **quantisation)


def litert_file(
    kind: str,
    taken: Sequence[Tensor],
    given: Sequence[Tensor],
    version: int = 1,
    custom: str = "",
    **options: Any,
) -> bytes:
    """A file of one operator; its tensors are ``in0``, ``in1`` ... and ``out0`` ..., options by the schema's names."""
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    names = [f"in{place}" for place in range(len(taken))] + [f"out{place}" for place in range(len(given))]
    graph.tensors = [_tensor(model, name, one) for name, one in zip(names, [*taken, *given], strict=True)]
    operator.inputs = list(range(len(taken)))
    operator.outputs = list(range(len(taken), len(names)))
    graph.inputs = [place for place, one in enumerate(taken) if one.values is None]
    graph.outputs, graph.operators = operator.outputs, [operator]
    if kind in OPTIONS:
        operator.builtinOptions = getattr(schema, f"{OPTIONS[kind]}OptionsT")()
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{OPTIONS[kind]}Options")
        for name, value in options.items():
            setattr(operator.builtinOptions, name, value)
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    code.customCode = custom.encode() or None
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(model: Any, name: str, tensor: Tensor) -> Any:
    made, buffer = schema.TensorT(), schema.BufferT()
    made.name, made.shape = name.encode(), list(tensor.shape)
    made.type = getattr(schema.TensorType, tensor.dtype)
    if tensor.values is not None:
        buffer.data = np.frombuffer(tensor.values.tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    made.buffer = len(model.buffers) - 1
    if tensor.scale is not None:
        scales = np.atleast_1d(np.asarray(tensor.scale, dtype=np.float32))
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = scales
        made.quantization.zeroPoint = np.full(len(scales), tensor.zero, dtype=np.int64)
        made.quantization.quantizedDimension = tensor.axis
    return made
