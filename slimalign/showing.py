"""What the command line shows: text and tables, JSON, progress. File names are never read as markup."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from slimalign.compress.data.evaluation import Evaluation


FILE_COLUMNS = 200
"""Width of tables that go to a file or a pipe, where rich would cut them to 80."""


def console(stderr: bool = False) -> Console:
    """Standard output, or standard error, for plain text and tables."""
    there = Console(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)
    if not there.is_terminal:
        there.width = FILE_COLUMNS
    return there


def say(text: RenderableType) -> None:
    """A line or a table on standard output."""
    console().print(text)


def remark(text: str) -> None:
    """A line on standard error."""
    console(stderr=True).print(text)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Progress with time left, on standard error and only where that is a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    there = console(stderr=True)
    with Progress(*columns, console=there, disable=not there.is_terminal) as progress:
        yield progress


def print_json(document: Any, indent: int | None = 1) -> None:
    """One JSON document on standard output; a value that is not finite is an error, never printed."""
    print(json.dumps(document, indent=indent, allow_nan=False), flush=True)  # noqa: T201


def accuracy_lines(found: Mapping[str, Evaluation]) -> Iterator[str]:
    """Accuracy whole and per subset: the NME by every normaliser, failures and AUC by the first."""
    first = next(iter(found.values()))
    yield (
        f"NME in % by normaliser; failures (NME above {first.threshold:g} %) and AUC (up to it) by"
        f" {first.normaliser}"
    )
    yield f"{'':24} {'images':>7} {''.join(f'{name:>14}' for name in found)} {'failures %':>12} {'AUC %':>8}"
    for name in ("all", *first.subsets):
        part = first.whole if name == "all" else first.subsets[name]
        nmes = (one.whole if name == "all" else one.subsets[name] for one in found.values())
        yield (
            f"{name:24} {part.images:7} {''.join(f'{one.nme:14.3f}' for one in nmes)}"
            f" {part.failure_rate:12.2f} {part.auc:8.2f}"
        )
