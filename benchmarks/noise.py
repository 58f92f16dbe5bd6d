"""What the difference of two points may reach by noise alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.axes import Axis
from slimalign.benchmarks.points import Point
from slimalign.runtimes.intervals import NORMAL_95

Floats = NDArray[np.floating]
Places = NDArray[np.intp]


class Noise:
    """The noise of all differences among ``points`` on an axis, with 95 %.

    Of two points whose single faces are known, and are the same, it is 1.96 times the standard error of the mean of
    the differences face by face; else the root of the summed squares of half their intervals. It is never below the
    axis's step.
    """

    def __init__(self, axis: Axis, points: Sequence[Point]) -> None:
        self._step = axis.step
        self._widths = np.array([axis.half_width(point) for point in points])
        singles = [axis.singles(point) for point in points]
        places: dict[tuple[str | None, int], list[int]] = {}
        for place, (point, values) in enumerate(zip(points, singles, strict=True)):
            if len(values) > 1:
                places.setdefault((point.faces, len(values)), []).append(place)
        self._group = np.full(len(points), -1)
        """Which of the sets of faces a point was judged on, -1 where its single faces are not known."""
        self._row = np.zeros(len(points), dtype=np.intp)
        self._centred: list[Floats] = []
        for number, held in enumerate(places.values()):
            known = np.array([singles[place] for place in held])
            self._centred.append(known - known.mean(axis=1, keepdims=True))
            self._group[held], self._row[held] = number, np.arange(len(held))

    def between(self, rows: Places, columns: Places) -> Floats:
        """That of each of ``rows`` to each of ``columns``, places of points: (rows, columns)."""
        found: Floats = np.hypot(self._widths[rows][:, None], self._widths[columns][None, :])
        for number, centred in enumerate(self._centred):
            ours, theirs = (np.flatnonzero(self._group[places] == number) for places in (rows, columns))
            paired = _paired(centred[self._row[rows[ours]]], centred[self._row[columns[theirs]]])
            found[np.ix_(ours, theirs)] = paired
        least: Floats = np.maximum(found, self._step)
        return least


def noise_to(axis: Axis, points: Sequence[Point], other: Point) -> Floats:
    """The noise of each difference of ``points`` to ``other``: (points,), see Noise."""
    whole = Noise(axis, [*points, other])
    return whole.between(np.arange(len(points)), np.array([len(points)]))[:, 0]


def _paired(values: Floats, others: Floats) -> Floats:
    """1.96 standard errors of the mean difference of each row of ``values`` (A, N) to each of ``others`` (B, N), whose
    means are 0.
    """
    count = values.shape[1]
    squares = (values**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2 * values @ others.T
    # Rows that are all but equal leave rounding, which may be below 0.
    result: Floats = NORMAL_95 * np.sqrt(np.maximum(squares, 0)) / math.sqrt((count - 1) * count)
    return result
