"""Tables of points, as the command line shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import rich.box
from rich.table import Table

from slimalign.benchmarks.points import Point
from slimalign.benchmarks.report_page.chosen import point_names

UNKNOWN = "?"
MOST_ROWS = 100
"""Of a table; more than that nobody reads in a terminal, and it takes seconds to lay out."""


def _figure_text(value: float | None, text: str) -> str:
    return UNKNOWN if value is None else text.format(value)


def short_count(value: float) -> str:
    """Three digits and a unit, as in ``181 k``, ``11.5 M`` and ``4.66 G``; what is below 1000 as it is."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # From 999.5 on three digits round up to the next unit.
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


COLUMNS: Mapping[str, Callable[[Point], str]] = MappingProxyType(
    {
        "bundle": lambda p: p.bundle,
        "runtime": lambda p: p.runtime or UNKNOWN,
        "precision": lambda p: p.precision or UNKNOWN,
        "batch": lambda p: _figure_text(p.batch, "{}"),
        "threads": lambda p: _figure_text(p.threads, "{}"),
        "target": lambda p: p.target or UNKNOWN,
        "protocol": lambda p: p.protocol or UNKNOWN,
        "p50 ms": lambda p: _figure_text(p.p50_ms, "{:.2f}"),
        "p90 ms": lambda p: _figure_text(p.p90_ms, "{:.2f}"),
        "NME %": lambda p: _figure_text(
            p.nme, "{:.2f}" if p.judged_by is None else f"{{:.2f}} by {p.judged_by}"
        ),
        "params": lambda p: _count_text(p.params),
        "mult-adds": lambda p: _count_text(p.macs),
        "bytes": lambda p: _count_text(p.size_bytes),
    }
)
SETTINGS = ("target", "protocol", "precision", "batch", "threads")
"""Columns that are only shown where they differ; what all points share stands in the title."""


def _count_text(value: float | None) -> str:
    return UNKNOWN if value is None else short_count(value)


def narrow_table(title: str | None, columns: Mapping[str, bool]) -> Table:
    """An empty table without frames; ``columns`` are text (folded where there is no room) or else numbers."""
    made = Table(title=title, box=rich.box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for name, is_text in columns.items():
        if is_text:
            made.add_column(name, overflow="fold")
        else:
            made.add_column(name, justify="right", no_wrap=True)
    return made


def table(points: Sequence[Point], most: int = MOST_ROWS) -> Table:
    """``points`` as a table, best NME first; settings that all of them share stand in the title.

    Bundles of one name, runtime and precision are told apart by a part of their sha256. Of more than ``most`` points
    those of the best NME are shown, and the caption says how many are left out.
    """
    names = point_names(points)
    points = [replace(point, bundle=names[point.sha256]) for point in points]
    timed = [p for p in points if p.runtime is not None]
    shared = [name for name in SETTINGS if len({COLUMNS[name](p) for p in timed}) == 1]
    shown = {name: show for name, show in COLUMNS.items() if name not in shared}
    title = ", ".join(_setting_text(name, COLUMNS[name](timed[0])) for name in shared)
    made = narrow_table(title or None, {name: name in ("bundle", "runtime", *SETTINGS) for name in shown})
    for point in sorted(points, key=_order)[:most]:
        made.add_row(*(show(point) for show in shown.values()))
    if len(points) > most:
        made.caption = f"and {len(points) - most} more of higher NME, or without one"
    return made


def _setting_text(name: str, value: str) -> str:
    return f"{name} {value}" if name in ("batch", "threads") else value


def _order(point: Point) -> tuple[bool, float, str, float]:
    latency = float("inf") if point.p50_ms is None else point.p50_ms
    return (point.nme is None, point.nme or 0.0, point.bundle, latency)
