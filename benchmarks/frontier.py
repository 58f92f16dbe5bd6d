"""The points that no other point surely beats, those of them that noise alone may have put there, and the knee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.axes import AXES, Axis, axes_named, noise
from slimalign.benchmarks.points import Point
from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

KNEE_POINTS = 3
"""A frontier of fewer points has no knee."""
CHORD = 1e-9
"""What lies no farther below the chord, which is 1 by 1, lies on it."""


@dataclass(frozen=True)
class Frontier:
    """``points`` best first by the first axis, and those of them that are ``uncertain``, in the same order."""

    points: tuple[Point, ...]
    uncertain: tuple[Point, ...]


def frontier(points: Sequence[Point], axes: Sequence[str]) -> Frontier:
    """The points that no other surely beats over ``axes``, names of AXES or ``nme:`` and a subset's.

    A point is dropped only where another is as good or better on every axis by value, and surely better on one: by
    more than the noise of their difference (see ``noise``). Of those that stay these are uncertain: one that another
    beats by value, though not surely; and one that another point of the frontier surely beats on an axis, while
    nothing that it has before that other is sure. A point whose value on an axis was not measured cannot be judged
    and is left out. Raises UserError for an axis that is unknown, and for values that are not finite.
    """
    judged = _judged(points, axes)
    unbeaten = pareto_mask(judged.costs)
    rest = np.flatnonzero(~unbeaten)
    # Most fall to those that nobody beats; only the few that are left are held against all.
    rest = rest[~judged.surely_beaten(rest, np.flatnonzero(unbeaten))]
    rest = rest[~judged.surely_beaten(rest, np.arange(len(unbeaten)))]
    kept = np.concatenate([np.flatnonzero(unbeaten), rest])
    surely = np.any(judged.surely_better(kept, kept), axis=0)
    doubted = np.any(surely.T & ~surely, axis=1) | ~unbeaten[kept]
    ordered = sorted(zip(kept.tolist(), doubted.tolist(), strict=True), key=lambda one: judged.order(one[0]))
    return Frontier(
        tuple(judged.points[place] for place, _ in ordered),
        tuple(judged.points[place] for place, is_doubted in ordered if is_doubted),
    )


def unbeaten_points(points: Sequence[Point], axes: Sequence[str]) -> list[Point]:
    """The points that no other beats by value alone, whatever the noise; best first by the first axis."""
    judged = _judged(points, axes)
    places = np.flatnonzero(pareto_mask(judged.costs)).tolist()
    return [judged.points[place] for place in sorted(places, key=judged.order)]


def knee(points: Sequence[Point], cost: str = "latency", error: str = "nme") -> Point | None:
    """The point behind which a lower ``error`` begins to cost much: axes of AXES.

    Of the points that none beats by value, ``cost`` by its logarithm and ``error`` are each scaled to 0..1; the knee
    lies farthest below the chord from the cheapest to the most accurate. None for fewer than KNEE_POINTS of them, or
    where all lie on the chord or above it.
    """
    judged = _judged([point for point in points if AXES[cost].value(point)], (cost, error))
    unbeaten = np.flatnonzero(pareto_mask(judged.costs)).tolist()
    # Points of equal values are one.
    places = list({judged.costs[i].tobytes(): i for i in sorted(unbeaten, key=judged.order)}.values())
    if len(places) < KNEE_POINTS:
        return None
    across, up = np.log(np.abs(judged.costs[places, 0])), judged.costs[places, 1]
    # From the first point, (0, 1) once scaled, to the last, (1, 0).
    below = 1 - (across - across[0]) / (across[-1] - across[0]) - (up - up[-1]) / (up[0] - up[-1])
    farthest = int(np.argmax(below))
    return judged.points[places[farthest]] if below[farthest] > CHORD else None


def pareto_mask(values: Floats) -> Bools:
    """Which rows of ``values`` (N, A), lower is better, no other beats; equal rows do not beat each other."""
    if not np.isfinite(values).all():
        raise UserError("a value on an axis of the frontier is NaN or infinite; measure it again")
    unbeaten = np.zeros(len(values), dtype=bool)
    rivals = np.empty_like(values)
    count = 0
    # In lexicographic order whoever beats a row comes before it, and whoever beats that one beats both.
    for row in np.lexsort(values.T[::-1]):
        as_good = rivals[:count][(rivals[:count] <= values[row]).all(axis=1)]
        if not (as_good < values[row]).any():
            unbeaten[row] = True
            rivals[count] = values[row]
            count += 1
    return unbeaten


@dataclass(frozen=True)
class _Judged:
    """The points with a value on every axis; ``costs`` is (points, axes), lower is better."""

    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    costs: Floats

    def order(self, place: int) -> tuple[tuple[float, ...], str, str, str, tuple[int, int]]:
        """What points are sorted by: their values, and for equal ones what they are."""
        point = self.points[place]
        return (
            tuple(self.costs[place].tolist()),
            point.bundle,
            point.sha256,
            point.runtime or "",
            (point.batch or 0, point.threads or 0),
        )

    def surely_better(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Bools:
        """On which axes ``rows`` are surely better than ``columns``: (axes, rows, columns)."""
        found = np.zeros((len(self.axes), len(rows), len(columns)), dtype=bool)
        ours, theirs = ([self.points[i] for i in places] for places in (rows, columns))
        for place, axis in enumerate(self.axes):
            less = self.costs[columns, place][None, :] - self.costs[rows, place][:, None]
            found[place] = (less > 0) & (less > noise(axis, ours, theirs))
        return found

    def surely_beaten(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Bools:
        """Which of ``rows`` one of ``columns`` beats by value, and surely on one axis: (rows,)."""
        as_good = np.all(self.costs[columns][:, None, :] <= self.costs[rows][None, :, :], axis=2)
        surely = np.any(self.surely_better(columns, rows), axis=0)
        found: Bools = np.any(as_good & surely, axis=0)
        return found


def _judged(points: Sequence[Point], names: Sequence[str]) -> _Judged:
    axes = axes_named(names, points)
    rows = [[axis.cost(point) for axis in axes] for point in points]
    known = [place for place, row in enumerate(rows) if None not in row]
    costs = np.array([rows[place] for place in known], dtype=np.float64).reshape(len(known), len(axes))
    return _Judged(tuple(axes), tuple(points[place] for place in known), costs)
