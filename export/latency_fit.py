"""From measured networks to the times of their parts: non-negative least squares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from slimalign.compress.latency_table import PartTime, Shape, described
from slimalign.runtimes.intervals import CONFIDENCE

Floats = NDArray[np.floating]

PERCENTILE = 5.0
"""That of a network's calls which counts as its time: what it takes while the machine does nothing else."""

RESAMPLES = 200
SEED = 0


@dataclass(frozen=True)
class Measured:
    """A network as so many of each part, and its calls in milliseconds, (N,), by the rounds that they came in."""

    counts: Mapping[str, int]
    rounds: Sequence[Floats]

    @property
    def ms(self) -> float:
        """Its time."""
        return _time_of(self.rounds)


def part_times(measured: Sequence[Measured], shape: Shape) -> dict[str, PartTime]:
    """The times of all parts that ``measured`` networks have, which explain their times best.

    A small network counts as much as a large one: errors are shares of the measured times. The intervals come of
    rounds drawn anew, the same ones of all networks.
    """
    names = list(dict.fromkeys(name for network in measured for name in network.counts))
    counts = np.array([[network.counts.get(name, 0) for name in names] for network in measured], float)
    best = least_squares(counts, np.array([network.ms for network in measured]))
    rng = np.random.default_rng(SEED)
    rounds = len(measured[0].rounds)
    resampled = np.empty((RESAMPLES, len(names)))
    for place in range(RESAMPLES):
        drawn = rng.integers(rounds, size=rounds)
        times = [_time_of([network.rounds[turn] for turn in drawn]) for network in measured]
        resampled[place] = least_squares(counts, np.array(times))
    low, high = np.percentile(resampled, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2], axis=0)
    return {
        name: PartTime(what=described(name, shape), ms=best[i], interval=(low[i], high[i]))
        for i, name in enumerate(names)
    }


def least_squares(counts: Floats, times_ms: Floats) -> Floats:
    """Times of parts (P,), none negative, by which ``counts`` (N, P) come nearest to ``times_ms`` (N,), in shares."""
    found, _ = nnls(counts / times_ms[:, None], np.ones(len(times_ms)))
    return np.asarray(found, dtype=np.float64)


def _time_of(rounds: Sequence[Floats]) -> float:
    return float(np.percentile(np.concatenate(rounds), PERCENTILE))
