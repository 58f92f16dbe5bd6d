"""The figures that points are judged by: what each is called, its unit, which way is better, how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from slimalign.benchmarks.points import Point
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.intervals import Interval, rate_interval

Singles = tuple[float, ...]

NME_DIGITS = 3
"""Decimals of an NME in percent that count: the same network differs by less from runtime to runtime."""
MEMORY_NOISE, ENERGY_NOISE = 0.02, 0.05
"""By what share two measurements of one bundle may differ; no intervals of these are kept."""


def _exact(point: Point) -> Interval | None:
    return None


def _of_no_faces(point: Point) -> Singles:
    return ()


@dataclass(frozen=True)
class Axis:
    """One figure of a point. ``value`` is None where it was not measured.

    ``interval`` is that of 95 %, None for what is exact and for what was kept without one, which counts as exact; of
    memory and energy it comes of MEMORY_NOISE and ENERGY_NOISE.
    ``singles`` are the figures of the single faces whose mean is the value, empty where there are none; they tell
    far more of a difference than the intervals do. Of the value only ``digits`` decimals count.
    """

    name: str
    label: str
    unit: str
    value: Callable[[Point], float | None]
    interval: Callable[[Point], Interval | None] = _exact
    singles: Callable[[Point], Singles] = _of_no_faces
    more_is_better: bool = False
    digits: int | None = None

    def cost(self, point: Point) -> float | None:
        """The value as it is compared: less is better."""
        value = self.value(point)
        if value is None:
            return None
        kept = value if self.digits is None else round(value, self.digits)
        return -kept if self.more_is_better else kept

    @property
    def step(self) -> float:
        """What a difference must exceed to be more than rounding: values a step apart may have been all but equal."""
        return 0.0 if self.digits is None else 1.5 * 10.0**-self.digits

    def half_width(self, point: Point) -> float:
        """Half of the interval, 0 for what is exact."""
        interval = self.interval(point)
        return 0.0 if interval is None else (interval[1] - interval[0]) / 2


def _within(value: float | None, noise: float) -> Interval | None:
    """The interval whose ``noise`` is that of the difference of two such values."""
    if value is None:
        return None
    reach = value * noise / math.sqrt(2)
    return value - reach, value + reach


def _throughput_interval(point: Point) -> Interval | None:
    if point.p50_interval is None or point.batch is None or min(point.p50_interval) <= 0:
        return None
    low, high = point.p50_interval
    return 1000.0 * point.batch / high, 1000.0 * point.batch / low


def _failure_interval(point: Point) -> Interval | None:
    if point.failure_rate is None or not point.images:
        return None
    low, high = rate_interval(point.failure_rate / 100, point.images)
    return 100 * low, 100 * high


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        axis.name: axis
        for axis in (
            Axis(
                "latency", "latency, median of a call", "ms", lambda p: p.p50_ms, lambda p: p.p50_interval
            ),
            Axis(
                "p90", "latency, nine in ten calls", "ms", lambda p: p.p90_ms, lambda p: p.p90_interval
            ),
            Axis(
                "throughput", "faces a second", "1/s", lambda p: p.throughput, _throughput_interval,
                more_is_better=True,
            ),
            Axis(
                "nme", "NME", "%", lambda p: p.nme, lambda p: p.nme_interval, lambda p: p.nmes, digits=NME_DIGITS
            ),
            Axis("failure-rate", "failures", "%", lambda p: p.failure_rate, _failure_interval, lambda p: p.failures),
            Axis("size", "file size", "bytes", lambda p: p.size_bytes),
            Axis("params", "parameters", "", lambda p: p.params),
            Axis("macs", "multiply-adds", "", lambda p: p.macs),
            Axis(
                "memory", "peak memory", "MB", lambda p: p.memory_mb, lambda p: _within(p.memory_mb, MEMORY_NOISE)
            ),
            Axis(
                "energy", "energy of a face", "mJ", lambda p: p.energy_mj, lambda p: _within(p.energy_mj, ENERGY_NOISE)
            ),
        )
    }
)  # fmt: skip
"""The axes that every results file may have; ``nme:`` and a subset's name is the NME on that subset."""

SUBSET = "nme:"


def subset_axis(subset: str) -> Axis:
    """The NME on the subset of that name."""

    def singles(point: Point) -> Singles:
        return point.subset_nmes.get(subset, ())

    return Axis(
        f"{SUBSET}{subset}",
        f"NME on {subset}",
        "%",
        lambda point: point.subset_nme.get(subset),
        lambda point: point.subset_intervals.get(subset),
        singles,
        digits=NME_DIGITS,
    )


def axes_of(points: Sequence[Point]) -> dict[str, Axis]:
    """AXES, and one for each subset that any of ``points`` was judged on, by their names."""
    subsets = sorted({subset for point in points for subset in point.subset_nme})
    return {**AXES, **{f"{SUBSET}{subset}": subset_axis(subset) for subset in subsets}}


def axes_named(names: Sequence[str], points: Sequence[Point]) -> list[Axis]:
    """The axes of these names; raises UserError for one that is unknown, or a subset that none of ``points`` has."""
    choices = axes_of(points)
    wrong = [name for name in names if name not in choices]
    if wrong or not names:
        raise UserError(f"axes {', '.join(wrong) or 'none'}: choose from {', '.join(choices)}")
    return [choices[name] for name in names]
