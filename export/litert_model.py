"""Reading .tflite files: their operators, and the tensors that they take and give."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimalign.runtimes.errors import UserError

IDENTIFIER = b"TFL3"
"""At the fifth byte of every .tflite file."""
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
"""The kinds of operators that hold nearly all multiply-adds."""


@dataclass(frozen=True)
class LiteRtTensor:
    """A tensor; ``scales`` and ``zero_points`` are empty where it is not quantised, ``size_bytes`` is that of a
    constant's values and 0 where they are computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class LiteRtOperator:
    """An operator by the name of its kind, as in ``CONV_2D``; an input that was left out is None."""

    kind: str
    custom_name: str
    inputs: tuple[LiteRtTensor | None, ...]
    outputs: tuple[LiteRtTensor, ...]
    options: Any


@dataclass(frozen=True)
class LiteRtModel:
    """The operators and tensors of all subgraphs, in order, and the version of the schema."""

    schema_version: int
    operators: tuple[LiteRtOperator, ...]
    tensors: tuple[LiteRtTensor, ...]


def read_litert_model(path: Path) -> LiteRtModel:
    """The .tflite file at ``path``; raises UserError where it is cut short or something else."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a .tflite file") from None
    if packed[4:8] != IDENTIFIER:
        raise UserError(f"{path}: no .tflite file, {IDENTIFIER.decode()} is not in it; export it again")
    try:
        return _model(schema, schema.ModelT.InitFromPackedBuf(packed, 0))
    except (struct.error, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cut short or damaged ({error}); export it again") from None


def _model(schema: Any, model: Any) -> LiteRtModel:
    kinds, dtypes = _names(schema.BuiltinOperator), _names(schema.TensorType)
    operators: list[LiteRtOperator] = []
    tensors: list[LiteRtTensor] = []
    for graph in model.subgraphs:
        own = [_tensor(one, dtypes[one.type].lower(), model.buffers) for one in graph.tensors]
        tensors += own
        for one in graph.operators:
            entry = model.operatorCodes[one.opcodeIndex]
            operators.append(
                LiteRtOperator(
                    kinds[builtin_code(entry)],
                    (entry.customCode or b"").decode(),
                    tuple(own[index] if index >= 0 else None for index in _list(one.inputs)),
                    tuple(own[index] for index in _list(one.outputs)),
                    one.builtinOptions,
                )
            )
    return LiteRtModel(model.version, tuple(operators), tuple(tensors))


def _names(numbers: Any) -> dict[int, str]:
    return {number: name for name, number in vars(numbers).items() if not name.startswith("_")}


def _tensor(tensor: Any, dtype: str, buffers: Any) -> LiteRtTensor:
    values, quantised = buffers[tensor.buffer].data, tensor.quantization
    return LiteRtTensor(
        (tensor.name or b"").decode(),
        tuple(int(size) for size in _list(tensor.shape)),
        dtype,
        tuple(float(scale) for scale in _list(quantised and quantised.scale)),
        tuple(int(zero) for zero in _list(quantised and quantised.zeroPoint)),
        0 if values is None else len(values),
    )


def _list(values: Any) -> Iterable[Any]:
    return [] if values is None else list(values)


def builtin_code(entry: Any) -> int:
    """The operation of an entry of the model's operator codes; codes up to 127 lie in the older of two fields."""
    return int(max(entry.builtinCode, entry.deprecatedBuiltinCode))
