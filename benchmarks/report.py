"""A table of points and a scatter picture of their cost against their NME."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import rich.box
from numpy.typing import NDArray
from rich.table import Table

from slimalign.benchmarks.axes import AXES
from slimalign.benchmarks.frontier import frontier, unbeaten_points
from slimalign.benchmarks.points import Point
from slimalign.compress.figures import check_picture_path, new_figure, save_figure
from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNKNOWN = "?"


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
        "NME %": lambda p: _figure_text(p.nme, "{:.2f}"),
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


def table(points: Sequence[Point]) -> Table:
    """``points`` as a table, best NME first; settings that all of them share stand in the title."""
    timed = [p for p in points if p.runtime is not None]
    shared = [name for name in SETTINGS if len({COLUMNS[name](p) for p in timed}) == 1]
    shown = {name: show for name, show in COLUMNS.items() if name not in shared}
    title = ", ".join(_setting_text(name, COLUMNS[name](timed[0])) for name in shared)
    made = narrow_table(title or None, {name: name in ("bundle", "runtime", *SETTINGS) for name in shown})
    for point in sorted(points, key=_order):
        made.add_row(*(show(point) for show in shown.values()))
    return made


def _setting_text(name: str, value: str) -> str:
    return f"{name} {value}" if name in ("batch", "threads") else value


def _order(point: Point) -> tuple[bool, float, str, float]:
    latency = float("inf") if point.p50_ms is None else point.p50_ms
    return (point.nme is None, point.nme or 0.0, point.bundle, latency)


X_LABELS = MappingProxyType(
    {
        "params": "parameters",
        "macs": "multiply-adds",
        "latency": "latency, median of a call (ms)",
        "size": "file size (bytes)",
    }
)


NAME_PIXELS = 14
"""Places closer than this share one name."""
LEAST_NME_SPAN = 0.5
"""What the axis of the NME covers at least, in percent."""


def scatter(points: Sequence[Point], path: str | Path, x: str = "macs") -> None:
    """Draw ``points`` with ``x`` (params, macs, latency or size) across and NME up, their frontier as a line.

    Latencies are all drawn on one axis: give points of one batch size and thread count. Points that lack either
    value are left out, and the picture says how many. Raises UserError where nothing can be drawn, ``path`` is not
    a .png or .svg that can be written, or matplotlib is missing.
    """
    if x not in X_LABELS:
        raise UserError(f"axis '{x}': choose one of {', '.join(X_LABELS)}")
    path = check_picture_path(path)
    known = [p for p in points if AXES[x].value(p) is not None and p.nme is not None]
    if not known:
        raise UserError(
            f"none of {len(points)} points has both {x} and an NME; run 'slimalign eval' and 'bench'"
        )
    figure = new_figure()
    axes = figure.add_subplot()
    _draw_points(axes, known, x)
    _label(axes, x, len(points) - len(known))
    _write_names(axes, known, x)
    save_figure(figure, path)


def _draw_points(axes: Axes, points: Sequence[Point], x: str) -> None:
    for runtime in sorted({p.runtime or "not timed" for p in points}):
        group = [p for p in points if (p.runtime or "not timed") == runtime]
        axes.plot(*_coordinates(group, x), "o", label=runtime, markersize=6)
    axes.plot(
        *_coordinates(unbeaten_points(points, (x, "nme")), x), "-", color="0.3", linewidth=1, label="frontier"
    )


def _write_names(axes: Axes, points: Sequence[Point], x: str) -> None:
    """A name at each place, those on the frontier first; none where another name stands already."""
    best = {point.sha256 for point in frontier(points, (x, "nme")).points}
    named: list[NDArray[np.float64]] = []
    for group in sorted(_by_place(points, x), key=lambda group: group[0].sha256 not in best):
        ((across,), (up,)) = _coordinates(group[:1], x)
        place = axes.transData.transform((across, up))
        if all(np.abs(place - other).max() > NAME_PIXELS for other in named):
            # Slanted, so that the names of neighbours do not lie on each other.
            axes.annotate(
                _name(group), (across, up), (3, 5), textcoords="offset points", fontsize=8, rotation=30
            )
            named.append(place)


def _by_place(points: Iterable[Point], x: str) -> Iterable[list[Point]]:
    """Groups of one bundle's points that lie on each other, as those of its formats do but for their latency."""
    places: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        places.setdefault((point.bundle, AXES[x].value(point), COLUMNS["NME %"](point)), []).append(point)
    return places.values()


def _name(group: Sequence[Point]) -> str:
    """The bundle and the ways to run it of points that lie on each other."""
    ways = ", ".join(sorted({point.way for point in group if point.way is not None}))
    return f"{group[0].bundle} · {ways}" if ways else group[0].bundle


def _coordinates(points: Iterable[Point], x: str) -> tuple[list[float], list[float]]:
    pairs = [(AXES[x].value(p), p.nme) for p in points]
    known = [(across, up) for across, up in pairs if across is not None and up is not None]
    return [across for across, _ in known], [up for _, up in known]


def _label(axes: Axes, x: str, left_out: int) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel("NME (%)")
    if left_out:
        axes.set_title(f"{left_out} points without {x} or NME are not shown", fontsize=9)
    # Figures that are all but equal would fill the picture with their rounding.
    low, high = axes.get_ylim()
    middle, reach = (low + high) / 2, max(high - low, LEAST_NME_SPAN) / 2
    axes.set_ylim(middle - reach, middle + reach)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if x == "latency" else short_count(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
