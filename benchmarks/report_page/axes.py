"""What the frontier is drawn over: costs across, errors up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slimalign.benchmarks.frontier import Point, frontier
from slimalign.runtimes.intervals import Interval


def _exact(point: Point) -> Interval | None:
    return None


@dataclass(frozen=True)
class Axis:
    """One figure of a point as people read it; ``value`` is None where it was not measured."""

    name: str
    label: str
    unit: str
    value: Callable[[Point], float | None]
    interval: Callable[[Point], Interval | None] = _exact
    more_is_better: bool = False


AXES = (
    Axis("latency", "latency, median of a call", "ms", lambda p: p.p50_ms),
    Axis("throughput", "faces a second", "1/s", lambda p: p.throughput, more_is_better=True),
    Axis("nme", "NME", "%", lambda p: p.nme),
    Axis("size", "file size", "bytes", lambda p: p.size_bytes),
    Axis("params", "parameters", "", lambda p: p.params),
    Axis("macs", "multiply-adds", "", lambda p: p.macs),
)


def axes_of(points: Sequence[Point]) -> list[Axis]:
    """The axes on which at least one of ``points`` has a value."""
    return [axis for axis in AXES if any(axis.value(point) is not None for point in points)]


def is_error(axis: Axis) -> bool:
    """Whether it says how wrong a bundle is, and not what it costs."""
    return axis.name.startswith(("nme", "failure"))


def title(axis: Axis) -> str:
    """What is written along it."""
    return f"{axis.label} ({axis.unit})" if axis.unit else axis.label


def marked_frontier(points: Sequence[Point], axes: Sequence[Axis]) -> tuple[list[Point], list[Point]]:
    """The points that no other beats over ``axes``, and those of them that noise alone may have put there."""
    return frontier(points, [axis.name for axis in axes]), []
