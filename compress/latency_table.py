"""The latency table: what each part of the search space's networks takes on one device, as plain data kept as JSON.

A network's predicted time is the sum over its parts. A part is what networks of the search space have some number of:

- ``stem``: the stem, the last convolution, and what else every network has once;
- ``mbconv@stem``, ``mbconv@L``: one MBConv of the first stage's block, and of a block at level L;
- ``stem>L``, ``S>L``: one operation into level L, from the first stage's block or from level S, with its addition;
- ``head@L``: the head's share of a level that the last stage hands to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slimalign.compress.networks.architecture import Architecture, Operation
from slimalign.runtimes.errors import UserError

STEM = "stem"

TOLERANCE = 15.0
"""A prediction further off than so many percent of what was measured does not hold."""

Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Took = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(_Data):
    """What the time of every part hangs on: a table serves all networks of one shape, of whatever operations."""

    landmarks: int
    input_size: int
    stem_width: int
    widths: tuple[int, ...]
    encoders: int
    hidden_width: int

    @classmethod
    def of(cls, architecture: Architecture) -> Shape:
        """The shape of a network."""
        return cls(
            landmarks=architecture.landmarks,
            input_size=architecture.input_size,
            stem_width=architecture.stem_width,
            widths=architecture.widths,
            encoders=architecture.encoders,
            hidden_width=architecture.hidden_width,
        )


class PartTime(_Data):
    """The time of one part, with its 95 % interval, in milliseconds; ``what`` says which shapes it has."""

    what: str
    ms: Milliseconds
    interval: tuple[Milliseconds, Milliseconds]


class Tried(_Data):
    """A network that the table was not made of: its time as predicted and as measured, alike to the parts'.

    ``p50_ms`` is the median of the same calls, whatever else the machine did meanwhile; it is what results are chosen
    by. Whether a prediction holds is not asked of it, because no sum over parts can tell what else a machine will do.
    """

    name: str
    operations: int
    macs: int
    predicted_ms: Milliseconds
    measured_ms: Took
    p50_ms: Took

    @property
    def error(self) -> float:
        """How far the prediction is off, in percent of what was measured."""
        return 100 * (self.predicted_ms / self.measured_ms - 1)

    @property
    def p50_error(self) -> float:
        """How far the prediction is off the median, in percent of it."""
        return 100 * (self.predicted_ms / self.p50_ms - 1)

    @property
    def holds(self) -> bool:
        """Whether the prediction is near enough."""
        return abs(self.error) <= TOLERANCE


class LatencyTable(_Data):
    """Times of all parts in one runtime on one device, and everything that makes them comparable.

    A time is the ``percentile``-th percentile of single calls at batch 1: other work of the machine makes calls longer
    and never shorter, so that a low one tells what the network itself takes. ``tried`` are networks that it was put to
    the proof by, ``command`` makes it again. ``before`` and ``after`` are the device's states.
    """

    schema_version: Literal[1] = 1
    format: str
    runtime: str
    version: str
    threads: int
    target: str
    cpu: str
    protocol: str
    percentile: float
    started: str
    before: dict[str, Any]
    after: dict[str, Any]
    command: str
    shape: Shape
    parts: dict[str, PartTime]
    tried: tuple[Tried, ...] = ()

    @property
    def told_percentile(self) -> str:
        """What a time of it is, as people read it."""
        return f"{self.percentile:g}th percentile"

    def predicted_ms(self, counts: Mapping[str, int]) -> float:
        """The time of so many of each part."""
        return sum(number * self.parts[part].ms for part, number in counts.items())

    def to_json(self) -> str:
        """The table as ``read_latency_table`` takes it."""
        return self.model_dump_json(indent=1) + "\n"


def parts_of(architecture: Architecture) -> Counter[str]:
    """How many of each part a network has."""
    counts = Counter({STEM: 1})
    counts.update(operation_part(op) for op in architecture.operations)
    for block in architecture.encoded_blocks:
        counts.update(encoder_parts(architecture, *block))
    counts.update(f"head@{level}" for level in architecture.output_levels)
    return counts


def operation_part(op: Operation) -> str:
    """The part that an operation is."""
    return f"{_name_of(op.stage - 1, op.source)}>{op.target}"


def encoder_parts(architecture: Architecture, stage: int, level: int) -> dict[str, int]:
    """The MBConvs of a block."""
    return {f"mbconv@{_name_of(stage, level)}": architecture.encoders} if architecture.encoders else {}


def _name_of(stage: int, level: int) -> str:
    return STEM if stage == 1 else str(level)


def described(part: str, shape: Shape) -> str:
    """The shapes that a part works on, channels first, as in ``18x32x32 -> 36x16x16``."""
    if part == STEM:
        size = shape.input_size
        return (
            f"3x{size}x{size} -> {_tensor(STEM, shape)}, {shape.hidden_width} -> {shape.landmarks} heatmaps"
        )
    kind, _, level = part.partition("@")
    if kind == "mbconv":
        return _tensor(level, shape)
    if kind == "head":
        return f"{_tensor(level, shape)} -> {shape.hidden_width} channels"
    source, _, target = part.partition(">")
    return f"{_tensor(source, shape)} -> {_tensor(target, shape)}"


def _tensor(level: str, shape: Shape) -> str:
    width, scale = (shape.stem_width, 4) if level == STEM else (shape.widths[int(level)], 4 * 2 ** int(level))
    return f"{width}x{shape.input_size // scale}x{shape.input_size // scale}"


def read_latency_table(path: str | Path, architecture: Architecture) -> LatencyTable:
    """The table in the file ``path``, which has to be one for ``architecture``.

    Raises UserError with the file, the entry and the reason where it cannot be read, or is for other networks.
    """
    path = Path(path)
    try:
        table = LatencyTable.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make one with 'slimalign latency-table'") from None
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{path}: cannot be read; give the JSON that 'slimalign latency-table' wrote"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(
            f"{path}: {where}: {first['msg']}; give the JSON that 'slimalign latency-table' wrote"
        ) from None
    there, wanted = table.shape.model_dump(), Shape.of(architecture).model_dump()
    for name, value in wanted.items():
        if there[name] != value:
            raise UserError(
                f"{path}: is for networks with {name} = {_shown(there[name])}, these have {_shown(value)}; "
                "measure a table for them with 'slimalign latency-table'"
            )
    if lacking := sorted(set(parts_of(architecture)) - set(table.parts)):
        raise UserError(f"{path}: parts: has no {', '.join(lacking)}; measure the table again")
    return table


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
