"""How sure a figure is: 95 % intervals and tests, by the bootstrap or by flipped signs, always with the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Interval = tuple[float, float]
"""From, to."""

CONFIDENCE = 95.0
NORMAL_95 = 1.959964
"""A normal distribution lies within so many deviations of its mean with 95 %."""
ALPHA = 0.05
"""Below this p a difference counts as no noise."""
RESAMPLES = 500
SIGN_FLIPS = 1999
SEED = 0
AT_ONCE = 2**20
"""Numbers drawn at once, so that long measurements do not fill the memory."""


def percentile_intervals(
    samples: Floats, visits: Sequence[int], percents: Sequence[float]
) -> tuple[Interval, ...]:
    """The interval of each of the ``percents`` percentiles of ``samples`` (N,), which ``visits`` follow one another.

    ``visits`` are their lengths, and add up to N. Of few visits none may have been one of the slow ones, which decide
    the higher percentiles: above what was found an interval reaches at least as far as below it.
    """
    found = resampled_percentiles(samples, visits, percents)
    ends = zip(np.percentile(samples, percents).tolist(), map(middle, found.T), strict=True)
    return tuple((low, max(high, 2 * centre - low)) for centre, (low, high) in ends)


def resampled_percentiles(
    samples: Floats, visits: Sequence[int], percents: Sequence[float], seed: int = SEED
) -> Floats:
    """The ``percents`` percentiles of ``samples`` (N,) as they might have come out too, (RESAMPLES, percents).

    Calls of one visit are alike, those of another time may not be: whole visits are drawn first, a longer one more
    often, then calls within each. Of V visits V - 1 are drawn, without which few visits would seem surer than they
    are: so the variance between visits is unbiased (Rao and Wu 1988). That variance is itself known from few visits
    only, so what is drawn is moved away from what was found, by its ratio to it, as far as Student's t with V - 1
    degrees of freedom reaches beyond the normal distribution.
    """
    if sum(visits) != len(samples) or min(visits) < 1:
        raise ValueError(f"visits of {list(visits)} calls are not {len(samples)} samples")
    rng = np.random.default_rng(seed)
    lengths = np.asarray(visits)
    starts = np.cumsum(lengths) - lengths
    drawn_visits = max(1, len(lengths) - 1)
    calls = math.ceil(len(samples) / len(lengths))
    parts = []
    for count in _portions(drawn_visits * calls):
        drawn = rng.choice(len(lengths), size=(count, drawn_visits, 1), p=lengths / len(samples))
        # The random number is below 1, yet its product with a length may round up to it.
        within = np.minimum(rng.random((count, drawn_visits, calls)) * lengths[drawn], lengths[drawn] - 1)
        places = (starts[drawn] + within.astype(np.int64)).reshape(count, -1)
        parts.append(np.percentile(samples[places], percents, axis=1).T)
    drawn_percentiles = np.concatenate(parts)
    centre = np.percentile(samples, percents)
    known = np.where(centre > 0, centre, 1.0)
    widened: Floats = known * (drawn_percentiles / known) ** _widening(len(lengths) - 1)
    return np.where(centre > 0, widened, drawn_percentiles)


def _widening(freedom: int) -> float:
    """How many times as far Student's t reaches as the normal distribution, with 95 %; 1 for no degree of freedom.

    By the expansion of Abramowitz and Stegun, 26.7.5: from 3 degrees on it is right to 1 %, and too small by 3 % for 2
    and by 24 % for 1.
    """
    if freedom == 0:
        return 1.0
    z = NORMAL_95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return 1.0 + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1)) / z


def ratio_test(before: Floats, after: Floats) -> tuple[Interval, float]:
    """The interval of after / before, and how likely a ratio so far from 1 is by noise alone (p).

    Both are one column of ``resampled_percentiles``, drawn by different seeds; raises ValueError for values of 0.
    """
    if min(before.min(), after.min()) <= 0:
        raise ValueError("ratios of values that are 0 or negative")
    logs = np.log(after) - np.log(before)
    centre = float(np.median(logs))
    low, high = middle(logs)
    return (math.exp(low), math.exp(high)), _share(np.abs(logs - centre) >= abs(centre))


def mean_interval(values: Floats) -> Interval:
    """The interval of the mean of ``values`` (N,), N >= 1, each of a face of its own."""
    rng = np.random.default_rng(SEED)
    parts = [
        values[rng.integers(len(values), size=(count, len(values)))].mean(axis=1)
        for count in _portions(len(values))
    ]
    return middle(np.concatenate(parts))


def sign_flip_p(differences: Floats) -> float:
    """How likely a mean as far from 0 as that of ``differences`` (N,) is where they are as often above as below it.

    The signs are flipped at random SIGN_FLIPS times.
    """
    rng = np.random.default_rng(SEED)
    total = abs(float(differences.sum()))
    # Sums of the same numbers in another order differ in their last digits.
    least = total - 1e-9 * float(np.abs(differences).sum())
    reached = [
        np.abs((2.0 * rng.integers(2, size=(count, len(differences))) - 1.0) @ differences) >= least
        for count in _portions(len(differences), SIGN_FLIPS)
    ]
    return _share(np.concatenate(reached))


def rate_interval(rate: float, count: int) -> Interval:
    """The interval of a ``rate`` from 0 to 1 that was found over ``count`` >= 1 (Wilson's score interval)."""
    weight = NORMAL_95**2 / count
    centre = (rate + weight / 2) / (1 + weight)
    reach = NORMAL_95 * math.sqrt(rate * (1 - rate) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def middle(resampled: Floats) -> Interval:
    """What CONFIDENCE percent of ``resampled`` (N,) lie between."""
    low, high = np.percentile(resampled, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)


def _portions(width: int, rows: int = RESAMPLES) -> Iterator[int]:
    """How many of ``rows`` of ``width`` numbers to draw at once, until all of them are drawn."""
    most = max(1, AT_ONCE // width)
    for start in range(0, rows, most):
        yield min(most, rows - start)


def _share(reached: NDArray[np.bool_]) -> float:
    """The share of draws that reach what was found, which itself counts as one."""
    return float((1 + reached.sum()) / (1 + len(reached)))
