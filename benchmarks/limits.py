"""What a point may cost at most, and must reach at least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from slimalign.benchmarks.axes import AXES, Axis, subset_axis
from slimalign.benchmarks.points import Point
from slimalign.runtimes.errors import UserError

LIMITED: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "max_latency_ms": ("latency", 1.0),
        "max_p90_ms": ("p90", 1.0),
        "max_nme": ("nme", 1.0),
        "max_failure_rate": ("failure-rate", 1.0),
        "max_size_mb": ("size", 1e6),
        "max_gmacs": ("macs", 1e9),
        "max_params": ("params", 1.0),
        "max_memory_mb": ("memory", 1.0),
        "max_energy_mj": ("energy", 1.0),
        "min_throughput": ("throughput", 1.0),
    }
)
"""The axis that each limit bounds, and its unit in that axis's."""

SUBSET_LIMIT = "max_nme_subset:"


@dataclass(frozen=True)
class Bound:
    """One limit that was set, by its name."""

    name: str
    axis: Axis
    limit: float
    unit: float = 1.0

    @property
    def is_least(self) -> bool:
        """Whether it is the least that is allowed, not the most."""
        return self.axis.more_is_better

    @property
    def is_subset(self) -> bool:
        """Whether it is one of an NME on a subset."""
        return self.name.startswith(SUBSET_LIMIT)

    def value(self, point: Point) -> float | None:
        """The point's figure in the limit's unit, None where it was not measured."""
        value = self.axis.value(point)
        return None if value is None else value / self.unit

    def excess(self, point: Point) -> float:
        """By what share of the limit it would have to move to let in a point that was measured; 0 for one within."""
        value = self.value(point)
        if value is None:
            raise ValueError(f"{point.bundle} has no value for {self.name}")
        least, most = (value, self.limit) if self.is_least else (self.limit, value)
        if most <= least:
            return 0.0
        return most / least - 1.0 if least > 0 else math.inf


@dataclass(frozen=True)
class Limits:
    """What a point may cost at most; None is no limit.

    ``max_latency_ms`` holds for the median of a call on a whole batch and ``max_p90_ms`` for what nine in ten calls
    do not exceed; ``max_nme``, ``max_failure_rate`` and ``max_nme_subset`` (by the subset's name) are in percent, a MB
    is 10^6 bytes, ``max_gmacs`` counts 10^9 multiply-adds and ``max_params`` plain parameters; ``max_energy_mj`` is
    for one face. ``min_throughput`` are the faces a second that are reached at least.
    """

    max_latency_ms: float | None = None
    max_p90_ms: float | None = None
    max_nme: float | None = None
    max_failure_rate: float | None = None
    max_size_mb: float | None = None
    max_gmacs: float | None = None
    max_params: float | None = None
    max_memory_mb: float | None = None
    max_energy_mj: float | None = None
    min_throughput: float | None = None
    max_nme_subset: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for bound in self.bounds():
            may_be_zero = bound.name == "max_failure_rate" and bound.limit == 0
            if not ((math.isfinite(bound.limit) and bound.limit > 0) or may_be_zero):
                raise UserError(
                    f"{_option(bound)}{bound.limit:g}: must be above 0; leave it out for no limit"
                )

    def bounds(self) -> tuple[Bound, ...]:
        """The limits that are set."""
        plain = (
            Bound(name, AXES[axis], limit, unit)
            for name, (axis, unit) in LIMITED.items()
            if (limit := getattr(self, name)) is not None
        )
        subsets = (
            Bound(f"{SUBSET_LIMIT}{name}", subset_axis(name), limit)
            for name, limit in self.max_nme_subset.items()
        )
        return (*plain, *subsets)


def _option(bound: Bound) -> str:
    """The limit as the command line has it, up to its figure."""
    if bound.is_subset:
        return f"--max-nme-subset {bound.name[len(SUBSET_LIMIT) :]}="
    return f"--{bound.name.replace('_', '-')} "
