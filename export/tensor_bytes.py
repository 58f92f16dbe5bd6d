"""How many bytes a tensor of a model file takes, and what is said of operators that cannot be counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from slimalign.runtimes.errors import CheckError

BITS: Mapping[str, int] = MappingProxyType(
    {
        "float64": 64,
        "float32": 32,
        "float16": 16,
        "bfloat16": 16,
        "int64": 64,
        "int32": 32,
        "int16": 16,
        "int8": 8,
        "int4": 4,
        "int2": 2,
        "uint64": 64,
        "uint32": 32,
        "uint16": 16,
        "uint8": 8,
        "uint4": 4,
        "uint2": 2,
        "bool": 8,
    }
)
"""Of the number types that files have, by their names in ONNX and TensorFlow Lite in lower case."""


class UncountableError(Exception):
    """An operator's cost is not known; the text says why."""


def tensor_bytes(shape: Sequence[int], dtype: str) -> int:
    """The size of a tensor; raises UncountableError for a number type that is not known."""
    if dtype not in BITS:
        raise UncountableError(f"numbers of type {dtype}")
    return -(-math.prod(shape) * BITS[dtype] // 8)


def check_all_counted(unknown: Sequence[str], path: Path) -> None:
    """Raise CheckError that names all ``unknown`` operators, if there are some."""
    if unknown:
        listed = ", ".join(dict.fromkeys(unknown))
        raise CheckError(
            f"{path}: operators whose cost is not known: {listed}; add a rule for each kind in export/file_cost_*.py"
        )
