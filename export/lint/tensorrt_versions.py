"""What the ONNX parser of a TensorRT version reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path

from slimalign.export.lint.findings import Fault
from slimalign.export.onnx_graph import OnnxGraph
from slimalign.targets.target import Target, version_numbers
from slimalign.targets.toml_files import read_toml

TABLE = Path(__file__).with_name("tensorrt_operators.toml")
Faults = Callable[[OnnxGraph, Target], Iterable[Fault]]
STRONGLY_TYPED = (11,)
"""From this version on an engine computes in the precisions of its file alone, as TensorRT for RTX always did."""


@dataclass(frozen=True)
class Parser:
    """The greatest opset that a parser reads, and the operators that it knows."""

    opset: int
    operators: frozenset[str]


@cache
def parser_of(tensorrt: str) -> Parser:
    """The parser of a TensorRT version, as in ``8.5.2``; one older than the table counts as its first."""
    known = {version_numbers(version): entries for version, entries in read_toml(TABLE).items()}
    there = [entries for version, entries in known.items() if version <= version_numbers(tensorrt)]
    there = there or [next(iter(known.values()))]
    return Parser(there[-1]["opset"], frozenset(name for entries in there for name in entries["operators"]))


def first_version(operator: str) -> str | None:
    """The first TensorRT version that knows ``operator``; None where none does."""
    table = read_toml(TABLE)
    return next((version for version, entries in table.items() if operator in entries["operators"]), None)


def tensorrt_of(target: Target) -> str:
    """The version of TensorRT on a target that runs one."""
    if target.tensorrt is None:
        raise ValueError(f"target {target.name} runs no TensorRT")
    return target.tensorrt


def is_strongly_typed(target: Target) -> bool:
    """Whether the target's TensorRT is of version 11 or newer."""
    return version_numbers(tensorrt_of(target)) >= STRONGLY_TYPED


def before(version: str) -> Callable[[Faults], Faults]:
    """For faults of TensorRT older than ``version``, which newer parsers and builders take."""

    def limited(faults: Faults) -> Faults:
        @wraps(faults)
        def found(graph: OnnxGraph, target: Target) -> Iterator[Fault]:
            if version_numbers(tensorrt_of(target)) < version_numbers(version):
                yield from faults(graph, target)

        return found

    return limited
