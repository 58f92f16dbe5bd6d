"""A table of points and a scatter picture of their cost against their NME."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.table import Table

from slimalign.benchmarks.frontier import AXES, Point, frontier
from slimalign.compress.figures import check_picture_path, new_figure, save_figure
from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNKNOWN = "?"


def _figure_text(value: float | None, text: str) -> str:
    return UNKNOWN if value is None else text.format(value)


COLUMNS: Mapping[str, Callable[[Point], str]] = MappingProxyType(
    {
        "bundle": lambda p: p.bundle,
        "runtime": lambda p: p.runtime or UNKNOWN,
        "precision": lambda p: p.precision or UNKNOWN,
        "batch": lambda p: _figure_text(p.batch, "{}"),
        "threads": lambda p: _figure_text(p.threads, "{}"),
        "p50 ms": lambda p: _figure_text(p.p50_ms, "{:.2f}"),
        "p90 ms": lambda p: _figure_text(p.p90_ms, "{:.2f}"),
        "faces/s": lambda p: _figure_text(p.throughput, "{:.0f}"),
        "NME %": lambda p: _figure_text(p.nme, "{:.2f}"),
        "params": lambda p: _figure_text(p.params, "{:,}"),
        "multiply-adds": lambda p: _figure_text(p.macs, "{:,}"),
        "bytes": lambda p: _figure_text(p.size_bytes, "{:,}"),
    }
)
TEXT_COLUMNS = ("bundle", "runtime", "precision", "target", "protocol")


def table(points: Sequence[Point]) -> Table:
    """``points`` as a table, best NME first; the protocol and target are columns where they differ."""
    columns = dict(COLUMNS)
    if len({(p.target, p.protocol) for p in points if p.runtime is not None}) > 1:
        columns["target"] = lambda p: p.target or UNKNOWN
        columns["protocol"] = lambda p: p.protocol or UNKNOWN
    made = Table(title=_title(points))
    for name in columns:
        made.add_column(name, justify="left" if name in TEXT_COLUMNS else "right")
    for point in sorted(points, key=_order):
        made.add_row(*(show(point) for show in columns.values()))
    return made


def _title(points: Iterable[Point]) -> str | None:
    settings = {f"{p.target}, {p.protocol}" for p in points if p.runtime is not None}
    return settings.pop() if len(settings) == 1 else None


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


def scatter(points: Sequence[Point], path: str | Path, x: str = "macs") -> None:
    """Draw ``points`` with ``x`` (params, macs, latency or size) across and NME up, their frontier as a line.

    Latencies are all drawn on one axis: give points of one batch size and thread count. Points that lack either
    value are left out, and the picture says how many. Raises UserError where nothing can be drawn, ``path`` is not
    a .png or .svg that can be written, or matplotlib is missing.
    """
    if x not in X_LABELS:
        raise UserError(f"axis '{x}': choose one of {', '.join(X_LABELS)}")
    path = check_picture_path(path)
    known = [p for p in points if AXES[x](p) is not None and p.nme is not None]
    if not known:
        raise UserError(
            f"none of {len(points)} points has both {x} and an NME; run 'slimalign eval' and 'bench'"
        )
    figure = new_figure()
    axes = figure.add_subplot()
    _draw_points(axes, known, x)
    _label(axes, x, len(points) - len(known))
    save_figure(figure, path)


def _draw_points(axes: Axes, points: Sequence[Point], x: str) -> None:
    for runtime in sorted({p.runtime or "not timed" for p in points}):
        group = [p for p in points if (p.runtime or "not timed") == runtime]
        axes.plot(*_coordinates(group, x), "o", label=runtime, markersize=6)
    axes.plot(
        *_coordinates(frontier(points, (x, "nme")).points, x), "-", color="0.3", linewidth=1, label="frontier"
    )
    for group in _by_place(points, x):
        ((across,), (up,)) = _coordinates(group[:1], x)
        # Slanted, so that the names of neighbours do not lie on each other.
        axes.annotate(_name(group), (across, up), (3, 5), textcoords="offset points", fontsize=8, rotation=30)


def _by_place(points: Iterable[Point], x: str) -> Iterable[list[Point]]:
    """Groups of one bundle's points that lie on each other, as those of its formats do but for their latency."""
    places: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        places.setdefault((point.bundle, AXES[x](point), COLUMNS["NME %"](point)), []).append(point)
    return places.values()


def _name(group: Sequence[Point]) -> str:
    """The bundle and the runtimes of points that lie on each other."""
    runtimes = ", ".join(sorted({point.runtime for point in group if point.runtime is not None}))
    return f"{group[0].bundle} · {runtimes}" if runtimes else group[0].bundle


def _coordinates(points: Iterable[Point], x: str) -> tuple[list[float], list[float]]:
    pairs = [(AXES[x](p), p.nme) for p in points]
    known = [(across, up) for across, up in pairs if across is not None and up is not None]
    return [across for across, _ in known], [up for _, up in known]


def _label(axes: Axes, x: str, left_out: int) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(X_LABELS[x])
    axes.set_ylabel("NME (%)")
    if left_out:
        axes.set_title(f"{left_out} points without {x} or NME are not shown", fontsize=9)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
