"""The points that no other point surely beats, those of them that noise alone may have put there, and the knee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.axes import AXES, Axis, axes_named
from slimalign.benchmarks.noise import Noise, Places
from slimalign.benchmarks.points import Point
from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

KNEE_POINTS = 3
"""A frontier of fewer points has no knee."""
AT_ONCE = 512
"""Points held against all others at a time."""
CHORD = 1e-9
"""What lies no farther below the chord, which is 1 by 1, lies on it."""


@dataclass(frozen=True)
class Frontier:
    """``points`` best first by the first axis, and those of them that are ``uncertain``, in the same order."""

    points: tuple[Point, ...]
    uncertain: tuple[Point, ...]


@dataclass(frozen=True)
class Judged:
    """Those of ``points`` at ``places``, a row each; their ``costs`` are (rows, axes), lower is better."""

    points: tuple[Point, ...]
    places: Places
    costs: Floats

    def point(self, row: int) -> Point:
        """That of a row."""
        return self.points[int(self.places[row])]

    def order(self, row: int) -> tuple[tuple[float, ...], str, str, str, tuple[int, int]]:
        """What points are sorted by: their values, and for equal ones what they are."""
        point = self.point(row)
        return (
            tuple(self.costs[row].tolist()),
            point.bundle,
            point.sha256,
            point.runtime or "",
            (point.batch or 0, point.threads or 0),
        )


class Ranking:
    """Points whose costs and noise on an axis are found once, for all frontiers over it."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = tuple(points)
        self._costs: dict[str, tuple[float | None, ...]] = {}
        self._noises: dict[str, Noise] = {}

    def frontier(self, axes: Sequence[str]) -> Frontier:
        """The points that no other surely beats over ``axes``, names of AXES or ``nme:`` and a subset's.

        A point is dropped only where another is as good or better on every axis by value, and surely better on one: by
        more than the noise of their difference (see Noise). Of those that stay these are uncertain: one that another
        beats by value, though not surely; and one that another point of the frontier surely beats on an axis, while
        nothing that it has before that other is sure. A point whose value on an axis was not measured cannot be judged
        and is left out. Raises UserError for an axis that is unknown, and for values that are not finite.
        """
        judged = self.judged(axes)
        noises = [self._noise(axis) for axis in axes_named(axes, self.points)]
        unbeaten = pareto_mask(judged.costs)
        rest = np.flatnonzero(~unbeaten)
        # Most fall to those that nobody beats; only the few that are left are held against all.
        for rivals in (np.flatnonzero(unbeaten), np.arange(len(unbeaten))):
            beaten = [_surely_beaten(judged, noises, rows, rivals) for rows in _portions(rest)]
            rest = rest[~np.concatenate([np.zeros(0, dtype=bool), *beaten])]
        kept = np.concatenate([np.flatnonzero(unbeaten), rest])
        doubts = [_doubted(judged, noises, rows, kept) for rows in _portions(kept)]
        doubted = np.concatenate([np.zeros(0, dtype=bool), *doubts]) | ~unbeaten[kept]
        ordered = sorted(
            zip(kept.tolist(), doubted.tolist(), strict=True), key=lambda one: judged.order(one[0])
        )
        return Frontier(
            tuple(judged.point(row) for row, _ in ordered),
            tuple(judged.point(row) for row, is_doubted in ordered if is_doubted),
        )

    def unbeaten(self, axes: Sequence[str]) -> list[Point]:
        """The points that no other beats by value alone, whatever the noise; best first by the first axis."""
        judged = self.judged(axes)
        rows = np.flatnonzero(pareto_mask(judged.costs)).tolist()
        return [judged.point(row) for row in sorted(rows, key=judged.order)]

    def judged(self, names: Sequence[str]) -> Judged:
        """The points with a value on each of the axes ``names``."""
        columns = [self._costs_on(axis) for axis in axes_named(names, self.points)]
        known = [place for place, costs in enumerate(zip(*columns, strict=True)) if None not in costs]
        costs = np.array([[column[place] for place in known] for column in columns], dtype=np.float64)
        return Judged(self.points, np.array(known, dtype=np.intp), costs.T)

    def _costs_on(self, axis: Axis) -> tuple[float | None, ...]:
        if axis.name not in self._costs:
            self._costs[axis.name] = tuple(map(axis.cost, self.points))
        return self._costs[axis.name]

    def _noise(self, axis: Axis) -> Noise:
        if axis.name not in self._noises:
            self._noises[axis.name] = Noise(axis, self.points)
        return self._noises[axis.name]


def frontier(points: Sequence[Point], axes: Sequence[str]) -> Frontier:
    """The frontier of ``points`` over ``axes`` alone; see Ranking.frontier."""
    return Ranking(points).frontier(axes)


def unbeaten_points(points: Sequence[Point], axes: Sequence[str]) -> list[Point]:
    """Those of ``points`` that no other beats over ``axes`` by value alone; see Ranking.unbeaten."""
    return Ranking(points).unbeaten(axes)


def knee(points: Sequence[Point], cost: str = "latency", error: str = "nme") -> Point | None:
    """The point behind which a lower ``error`` begins to cost much: axes of AXES.

    Of the points that none beats by value, ``cost`` by its logarithm and ``error`` are each scaled to 0..1; the knee
    lies farthest below the chord from the cheapest to the most accurate. None for fewer than KNEE_POINTS of them, or
    where all lie on the chord or above it.
    """
    held = Ranking([point for point in points if AXES[cost].value(point)])
    judged = held.judged((cost, error))
    unbeaten = np.flatnonzero(pareto_mask(judged.costs)).tolist()
    # Points of equal values are one.
    places = list({judged.costs[i].tobytes(): i for i in sorted(unbeaten, key=judged.order)}.values())
    if len(places) < KNEE_POINTS:
        return None
    across, up = np.log(np.abs(judged.costs[places, 0])), judged.costs[places, 1]
    # From the first point, (0, 1) once scaled, to the last, (1, 0).
    below = 1 - (across - across[0]) / (across[-1] - across[0]) - (up - up[-1]) / (up[0] - up[-1])
    farthest = int(np.argmax(below))
    return judged.point(places[farthest]) if below[farthest] > CHORD else None


def pareto_mask(values: Floats) -> Bools:
    """Which rows of ``values`` (N, A), lower is better, no other beats; equal rows do not beat each other."""
    if not np.isfinite(values).all():
        raise UserError("a value on an axis of the frontier is NaN or infinite; measure it again")
    unbeaten = np.zeros(len(values), dtype=bool)
    left = np.lexsort(values.T[::-1])
    while len(left):
        # In lexicographic order whoever beats a row comes before it, so nobody beats the first that is left.
        first = values[left[0]]
        unbeaten[left[(values[left] == first).all(axis=1)]] = True
        left = left[(values[left] < first).any(axis=1)]
    return unbeaten


def _portions(rows: Places) -> list[Places]:
    """``rows`` in parts, so that all pairs of many points do not fill the memory."""
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]


def _surely_better(judged: Judged, noises: Sequence[Noise], rows: Places, columns: Places) -> Bools:
    """Whether ``rows`` are surely better than ``columns`` on an axis: (rows, columns)."""
    found = np.zeros((len(rows), len(columns)), dtype=bool)
    for costs, noise in zip(judged.costs.T, noises, strict=True):
        less = costs[columns][None, :] - costs[rows][:, None]
        found |= (less > 0) & (less > noise.between(judged.places[rows], judged.places[columns]))
    return found


def _surely_beaten(judged: Judged, noises: Sequence[Noise], rows: Places, rivals: Places) -> Bools:
    """Which of ``rows`` one of ``rivals`` beats by value, and surely on one axis: (rows,)."""
    as_good = np.ones((len(rivals), len(rows)), dtype=bool)
    for costs in judged.costs.T:
        as_good &= costs[rivals][:, None] <= costs[rows][None, :]
    found: Bools = np.any(as_good & _surely_better(judged, noises, rivals, rows), axis=0)
    return found


def _doubted(judged: Judged, noises: Sequence[Noise], rows: Places, others: Places) -> Bools:
    """Which of ``rows`` one of ``others`` surely beats on an axis, while they surely beat it on none: (rows,)."""
    worse = _surely_better(judged, noises, others, rows).T
    found: Bools = np.any(worse & ~_surely_better(judged, noises, rows, others), axis=1)
    return found
