"""The Architecture: which operations of the supernet are kept, as plain data that is saved as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slimalign.runtimes.errors import UserError

STRIDE = 4
"""Input size over heatmap size, of every network here."""


class Operation(NamedTuple):
    """One transformation: into block ``target`` of ``stage`` from block ``source`` of the stage before.

    Stages are numbered from 1 as in the paper, so the first stage with operations is 2; blocks are named by
    their level: level l works at 1/2^l of the first level's resolution, which is H/4.
    """

    stage: int
    target: int
    source: int


class Architecture(BaseModel):
    """A network of the search space: the supernet keeps every operation, a student some of them.

    ``stages[s]`` holds stage s + 2 and maps each kept block to the blocks it reads in the stage before; a
    block with no entry was discarded. The last stage only aggregates. ``head_width`` is the width of the
    head's hidden layer; None means as wide as the concatenated levels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    landmarks: int = Field(gt=0)
    input_size: int = Field(default=256, gt=0)
    stem_width: int = Field(default=64, gt=0)
    widths: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(18, 36, 72, 144), min_length=1)
    encoders: int = Field(default=4, ge=0, description="MBConvs in a block")
    head_width: int | None = Field(default=None, gt=0)
    stages: tuple[dict[int, tuple[int, ...]], ...]

    @model_validator(mode="after")
    def _sound(self) -> Architecture:
        if not self.stages:
            raise ValueError("stages is empty; at least one stage after the first is needed")
        if self.input_size % self.input_multiple:
            raise ValueError(f"input_size = {self.input_size}, must be a multiple of {self.input_multiple}")
        living = {0}
        for number, stage in enumerate(self.stages, start=2):
            if not stage:
                raise ValueError(f"stage {number} keeps no block; nothing would reach the head")
            for target, sources in stage.items():
                if not 0 <= target < len(self.widths):
                    raise ValueError(
                        f"stage {number}, block {target}: levels run from 0 to {len(self.widths) - 1}"
                    )
                if not sources or len(set(sources)) != len(sources):
                    raise ValueError(
                        f"stage {number}, block {target}: sources {list(sources)} are empty or repeated"
                    )
                if missing := sorted(set(sources) - living):
                    raise ValueError(
                        f"stage {number}, block {target}: reads {missing}, which stage {number - 1} lacks"
                    )
            living = set(stage)
        return self

    @property
    def input_multiple(self) -> int:
        """The input size must be a multiple of this for the levels to fit on one another."""
        return int(4 * 2 ** (len(self.widths) - 1))

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Every kept operation, in the order of stage, target, source; the importance factors follow it."""
        return tuple(
            Operation(number, target, source)
            for number, stage in enumerate(self.stages, start=2)
            for target in sorted(stage)
            for source in sorted(stage[target])
        )

    @property
    def encoded_blocks(self) -> tuple[tuple[int, int], ...]:
        """(stage, level) of every block that has MBConvs: all but those of the last stage."""
        later = ((n, level) for n, stage in enumerate(self.stages[:-1], start=2) for level in sorted(stage))
        return ((1, 0), *later)

    @property
    def output_levels(self) -> tuple[int, ...]:
        """The levels that the last stage hands to the head."""
        return tuple(sorted(self.stages[-1]))

    @property
    def last_stage(self) -> int:
        """The number of the last stage, which only aggregates."""
        return len(self.stages) + 1

    @property
    def hidden_width(self) -> int:
        """Width of the head's hidden layer."""
        return self.head_width or sum(self.widths[level] for level in self.output_levels)

    def width_of(self, stage: int, level: int) -> int:
        """Channels of a block's output."""
        return self.stem_width if stage == 1 else self.widths[level]

    def keeping(self, operations: Iterable[Operation]) -> Architecture:
        """This architecture cut down to ``operations`` and what still reaches from the input to the head.

        An operation goes too when the block it reads was discarded, or when its own block feeds nothing.
        The head's hidden width stays, so that the cut is exact where the pruned factors are zero.
        Raises UserError when nothing is left.
        """
        wanted = set(operations)
        living = {(1, 0)}
        for op in self.operations:
            if op in wanted and (op.stage - 1, op.source) in living:
                living.add((op.stage, op.target))
        kept = {op for op in wanted if (op.stage - 1, op.source) in living}
        useful = {(self.last_stage, level) for level in range(len(self.widths))}
        for op in sorted(kept, reverse=True):
            if (op.stage, op.target) in useful:
                useful.add((op.stage - 1, op.source))
        kept = {op for op in kept if (op.stage, op.target) in useful}
        if not any(op.stage == self.last_stage for op in kept):
            raise UserError(
                "the cut leaves no path from the input to the head; prune less (a lower threshold)"
            )
        stages: list[dict[int, tuple[int, ...]]] = [{} for _ in self.stages]
        for op in sorted(kept):
            stage = stages[op.stage - 2]
            stage[op.target] = (*stage.get(op.target, ()), op.source)
        return self.model_copy(update={"stages": tuple(stages), "head_width": self.hidden_width})

    def with_input(self, size: int) -> Architecture:
        """The same operations at another input size."""
        return Architecture.model_validate(self.model_dump() | {"input_size": size})

    def with_landmarks(self, landmarks: int) -> Architecture:
        """The same operations for another number of landmarks."""
        return Architecture.model_validate(self.model_dump() | {"landmarks": landmarks})


def full_architecture(
    landmarks: int,
    input_size: int = 256,
    stem_width: int = 64,
    widths: Sequence[int] = (18, 36, 72, 144),
    stage_count: int = 10,
    encoders: int = 4,
    head_width: int | None = None,
) -> Architecture:
    """The supernet: ``stage_count`` stages, every block reading every block of the stage before."""
    levels = tuple(range(len(widths)))
    after_first: dict[int, tuple[int, ...]] = dict.fromkeys(levels, (0,))
    between: dict[int, tuple[int, ...]] = dict.fromkeys(levels, levels)
    return Architecture(
        landmarks=landmarks,
        input_size=input_size,
        stem_width=stem_width,
        widths=tuple(widths),
        encoders=encoders,
        head_width=head_width,
        stages=(after_first, *(between for _ in range(stage_count - 2))),
    )


def architecture_from_keep(keep: Mapping[str, Mapping[str, Sequence[int]]], landmarks: int) -> Architecture:
    """An architecture from {stage: {target: [sources]}} with stages numbered from 2, as the papers count."""
    stages = tuple(
        {int(target): tuple(sources) for target, sources in keep[stage].items()}
        for stage in sorted(keep, key=int)
    )
    return Architecture(landmarks=landmarks, stages=stages)


def read_architecture(path: str | Path) -> Architecture:
    """Read an architecture's JSON; raises UserError with the file, the entry and the reason."""
    path = Path(path)
    try:
        return Architecture.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the JSON of an architecture") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path}: {where}: {first['msg']}") from None
