"""How sure a figure is: 95 % intervals by the bootstrap, always with the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Interval = tuple[float, float]
"""From, to."""

CONFIDENCE = 95.0
RESAMPLES = 500
SEED = 0


def percentile_intervals(
    samples: Floats, visits: Sequence[int], percents: Sequence[float]
) -> tuple[Interval, ...]:
    """The interval of each of the ``percents`` percentiles of ``samples`` (N,), which ``visits`` follow one another.

    Calls of one visit are alike, those of another time may not be: whole visits are drawn first, then calls within
    each that was drawn. ``visits`` are their lengths, and add up to N.
    """
    if sum(visits) != len(samples) or min(visits) < 1:
        raise ValueError(f"visits of {list(visits)} calls are not {len(samples)} samples")
    rng = np.random.default_rng(SEED)
    starts = np.cumsum([0, *visits[:-1]])
    lengths = np.asarray(visits)
    found = np.empty((RESAMPLES, len(percents)))
    for resample in range(RESAMPLES):
        drawn = rng.integers(len(lengths), size=len(lengths))
        places = [starts[visit] + rng.integers(lengths[visit], size=lengths[visit]) for visit in drawn]
        found[resample] = np.percentile(samples[np.concatenate(places)], percents)
    return tuple(_interval(column) for column in found.T)


def mean_interval(values: Floats) -> Interval:
    """The interval of the mean of ``values`` (N,), N >= 1, each of a face of its own."""
    rng = np.random.default_rng(SEED)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    return _interval(np.array(means))


def _interval(resampled: Floats) -> Interval:
    low, high = np.percentile(resampled, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)
