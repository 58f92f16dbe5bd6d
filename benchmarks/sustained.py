"""What minutes of calls do to their speed: the slope, and whether the device slows itself down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.intervals import CONFIDENCE, RESAMPLES, SEED, Interval
from slimalign.runtimes.timing import LEAST_WINDOWS, SUSTAINED_MODE, Record

Floats = NDArray[np.floating]

SLOWER = 1.05
"""By what factor calls must surely be slower at the end for the device to count as throttled."""
FASTEST = 10
"""The percentile of a window that other programs hardly touch: a device that slows down slows these calls too."""
MOST_POINTS = 120
"""Windows are joined until there are no more, so that all pairs can be looked at."""


@dataclass(frozen=True)
class Sustained:
    """How the time of a call changes in minutes of them; windows are told by the medians of their calls.

    ``slope_percent_a_minute`` is the Theil-Sen slope, in percent of the median window; ``last_to_first`` is the time
    of a call in the last fifth of the windows in parts of that in the first. Both have 95 % intervals of a bootstrap
    that draws runs of neighbours, since what disturbs one window disturbs the next. ``throttled`` needs size and
    certainty: the whole interval of ``last_to_first`` lies above 1.05, and so does that of each window's fastest
    tenth of calls, which other programs hardly slow down.
    """

    slope_percent_a_minute: float
    slope_interval: Interval
    last_to_first: float
    last_to_first_interval: Interval
    throttled: bool


def sustained_of(record: Record) -> Sustained | None:
    """What ``record`` says of it; None where it was not measured in one go, or in too few windows."""
    if not record.protocol.endswith(f"-{SUSTAINED_MODE}") or len(record.visits) < LEAST_WINDOWS:
        return None
    windows = np.split(np.array(record.samples_ms), np.cumsum(record.visits)[:-1])
    medians = np.array([np.median(window) for window in windows])
    fastest = np.array([np.percentile(window, FASTEST) for window in windows])
    lengths = np.array([window.sum() for window in windows]) / 60e3
    middles = np.cumsum(lengths) - lengths / 2
    rng = np.random.default_rng(SEED)
    slope, slope_interval = _slope(middles, medians, rng)
    ratio, ratio_interval = _last_to_first(medians, rng)
    _, fastest_interval = _last_to_first(fastest, rng)
    throttled = min(ratio_interval[0], fastest_interval[0]) > SLOWER
    return Sustained(slope, slope_interval, ratio, ratio_interval, throttled)


def _slope(minutes: Floats, medians: Floats, rng: np.random.Generator) -> tuple[float, Interval]:
    """The Theil-Sen slope in percent a minute, and its interval."""
    joined = -(-len(medians) // MOST_POINTS)
    times = np.array([part.mean() for part in _parts(minutes, joined)])
    values = np.array([np.median(part) for part in _parts(medians, joined)])
    percents = 100 * values / np.median(values)
    drawn = [_theil_sen(times[chosen], percents[chosen]) for chosen in _draws(len(times), rng)]
    return _theil_sen(times, percents), _interval(np.array(drawn))


def _parts(values: Floats, size: int) -> list[Floats]:
    return np.split(values, range(size, len(values), size))


def _theil_sen(times: Floats, values: Floats) -> float:
    """The median slope of all pairs; one that was drawn twice is no pair."""
    first, second = np.triu_indices(len(times), 1)
    apart = times[second] - times[first]
    real = apart != 0
    return float(np.median((values[second] - values[first])[real] / apart[real])) if real.any() else 0.0


def _last_to_first(values: Floats, rng: np.random.Generator) -> tuple[float, Interval]:
    """The median of the last fifth in parts of that of the first, and its interval."""
    size = max(len(values) // 5, 2)
    first, last = values[:size], values[-size:]
    drawn = [
        np.median(last[late]) / np.median(first[early])
        for early, late in zip(_draws(size, rng), _draws(size, rng), strict=True)
    ]
    return float(np.median(last) / np.median(first)), _interval(np.array(drawn))


def _draws(count: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """So many places out of ``count`` as there are, in runs of neighbours, and that again and again."""
    length = max(1, round(count ** (1 / 3)))
    runs = -(-count // length)
    starts = rng.integers(count - length + 1, size=(RESAMPLES, runs, 1))
    return list((starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :count])


def _interval(resampled: Floats) -> Interval:
    low, high = np.percentile(resampled, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)
