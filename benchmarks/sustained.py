"""What minutes of calls do to their speed: the slope, and whether the device slows itself down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.intervals import RESAMPLES, SEED, Interval, middle
from slimalign.runtimes.timing import LEAST_WINDOWS, SUSTAINED_MODE, Record

Floats = NDArray[np.floating]

SLOWER = 1.05
"""By what factor calls must surely be slower at the end for the device to count as throttled."""
FASTEST = 10
"""The percentile of a window that other programs hardly touch: a device that slows down slows these calls too."""
LEAST_SIDE = 2
"""Windows on either side of a place from which on calls may be slower."""
MOST_POINTS = 120
"""Windows are joined until there are no more, so that all pairs can be looked at."""


@dataclass(frozen=True)
class Sustained:
    """How the time of a call changes in minutes of them; windows are told by the medians of their calls.

    ``slope_percent_a_minute`` is the Theil-Sen slope, in percent of the median window; ``last_to_first`` is the time
    of a call in the last fifth of the windows in parts of that in the first. Both have 95 % intervals of a bootstrap
    that draws runs of neighbours, since what disturbs one window disturbs the next.

    ``throttled``: calls surely take more than 1.05 times what they took before, in the last fifth of the windows
    against the first, or from some place on. That is the one that parts the windows best; LEAST_SIDE windows lie on
    either side of it at least, and the bootstrap says how sure the levels differ. Both the windows' medians and their
    fastest tenth of calls, which other programs hardly slow down, must say so. ``slower_from_minute`` is where that
    place is, None where nothing is throttled; of a steady drift it lies in the midst.
    """

    slope_percent_a_minute: float
    slope_interval: Interval
    last_to_first: float
    last_to_first_interval: Interval
    throttled: bool
    slower_from_minute: float | None


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
    place = _turning_point(fastest)
    from_there = min(_ratio(values, place, place, rng)[1][0] for values in (medians, fastest))
    is_slower = max(from_there, min(ratio_interval[0], fastest_interval[0])) > SLOWER
    minute = float(lengths[:place].sum()) if is_slower else None
    return Sustained(slope, slope_interval, ratio, ratio_interval, is_slower, minute)


def _turning_point(values: Floats) -> int:
    """The first window after the place that parts ``values`` into two levels best, by the sum of their distances."""
    places = range(LEAST_SIDE, len(values) - LEAST_SIDE + 1)
    return min(places, key=lambda place: _distances(values[:place]) + _distances(values[place:]))


def _distances(values: Floats) -> float:
    return float(np.abs(values - np.median(values)).sum())


def _slope(minutes: Floats, medians: Floats, rng: np.random.Generator) -> tuple[float, Interval]:
    """The Theil-Sen slope in percent a minute, and its interval."""
    joined = -(-len(medians) // MOST_POINTS)
    times = np.array([part.mean() for part in _parts(minutes, joined)])
    values = np.array([np.median(part) for part in _parts(medians, joined)])
    percents = 100 * values / np.median(values)
    drawn = [_theil_sen(times[chosen], percents[chosen]) for chosen in _draws(len(times), rng)]
    return _theil_sen(times, percents), middle(np.array(drawn))


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
    return _ratio(values, size, len(values) - size, rng)


def _ratio(values: Floats, end: int, start: int, rng: np.random.Generator) -> tuple[float, Interval]:
    """The median of the windows from ``start`` on in parts of that of those before ``end``, and its interval."""
    first, last = values[:end], values[start:]
    early, late = (np.median(part[_draws(len(part), rng)], axis=1) for part in (first, last))
    return float(np.median(last) / np.median(first)), middle(late / early)


def _draws(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """So many places out of ``count`` as there are, in runs of neighbours, again and again: (RESAMPLES, count)."""
    length = max(1, round(count ** (1 / 3)))
    runs = -(-count // length)
    starts = rng.integers(count - length + 1, size=(RESAMPLES, runs, 1))
    return (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :count]
