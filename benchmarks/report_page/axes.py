"""Which axes the page draws, and what is written along them."""

from __future__ import annotations

from collections.abc import Sequence

from slimalign.benchmarks.axes import SUBSET, Axis, axes_of
from slimalign.benchmarks.points import Point

ERRORS = ("nme", "failure-rate", SUBSET)
"""How the names of axes begin that say how wrong a bundle is; the others say what it costs."""


def drawn_axes(points: Sequence[Point]) -> tuple[list[Axis], list[Axis]]:
    """The costs and the errors that at least one of ``points`` has, the NME first of the errors."""
    known = [
        axis for axis in axes_of(points).values() if any(axis.value(point) is not None for point in points)
    ]
    return [axis for axis in known if not is_error(axis)], [axis for axis in known if is_error(axis)]


def is_error(axis: Axis) -> bool:
    """Whether it says how wrong a bundle is, and not what it costs."""
    return axis.name.startswith(ERRORS)


def title(axis: Axis) -> str:
    """What is written along it."""
    return f"{axis.label} ({axis.unit})" if axis.unit else axis.label
