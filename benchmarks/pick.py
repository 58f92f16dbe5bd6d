"""The most accurate point within limits, or what the limits would have to become."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from slimalign.benchmarks.frontier import Point, judged_nme
from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a point may cost at most; None is no limit.

    ``max_latency_ms`` holds for the median of a call on a whole batch, ``max_nme`` is in percent, a MB is
    10^6 bytes, ``max_gmacs`` counts 10^9 multiply-adds and ``max_params`` plain parameters.
    """

    max_latency_ms: float | None = None
    max_nme: float | None = None
    max_size_mb: float | None = None
    max_gmacs: float | None = None
    max_params: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.given().items():
            if not (math.isfinite(limit) and limit > 0):
                raise UserError(f"{name} = {limit:g}, must be above 0; leave it out for no limit")

    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: limit for name in VALUES if (limit := getattr(self, name)) is not None}


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


VALUES: Mapping[str, Callable[[Point], float | None]] = MappingProxyType(
    {
        "max_latency_ms": lambda point: point.p50_ms,
        "max_nme": lambda point: point.nme,
        "max_size_mb": lambda point: _scaled(point.size_bytes, 1e6),
        "max_gmacs": lambda point: _scaled(point.macs, 1e9),
        "max_params": lambda point: point.params,
    }
)
"""The value of a point that each limit bounds, in the limit's unit."""


@dataclass(frozen=True)
class Relaxation:
    """Limits to raise together, and to what, and the point that then fits."""

    limits: Mapping[str, float]
    point: Point

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"limits": dict(self.limits), "point": self.point.to_dict()}


@dataclass(frozen=True)
class Choice:
    """The best point within the limits, and what stands in the way of a better one.

    ``runner_up`` is the best point of another file. ``binding`` names the limits that keep every more
    accurate point out (every point, where none fits). Each of ``relaxations`` alone would let one in, at
    the least change of those limits.
    """

    point: Point | None
    runner_up: Point | None
    binding: tuple[str, ...]
    relaxations: tuple[Relaxation, ...]

    def to_dict(self) -> dict[str, Any]:
        """``{"point", "runner_up", "binding", "relaxations"}`` for ``--json``."""
        return {
            "point": None if self.point is None else self.point.to_dict(),
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(),
            "binding": list(self.binding),
            "relaxations": [relaxation.to_dict() for relaxation in self.relaxations],
        }


def pick(
    points: Sequence[Point],
    limits: Limits,
    runtime: str | None = None,
) -> Choice:
    """The point of least NME within ``limits``, or of one ``runtime``, among ``points`` of one batch size and thread
    count, as ``join`` gives them.

    Points that were not timed count too, where neither a runtime nor a limit on latency asks for timing. Equal NME,
    to NME_DIGITS, is decided by latency, then size, then name. Points that lack the NME or a value that a limit
    bounds are left aside. Raises UserError where no point is left to choose from.
    """
    if not points:
        raise UserError(
            "the results hold no bundle; measure some with 'slimalign eval' and 'slimalign bench'"
        )
    asked = [p for p in points if runtime in (None, p.runtime)]
    if not asked:
        held = ", ".join(sorted({p.runtime for p in points if p.runtime})) or "no latency at all"
        raise UserError(
            f"no point with runtime = {runtime}; the results hold {held}, measure more with 'slimalign bench'"
        )
    needed = {"max_nme", *limits.given()}
    judged = [p for p in asked if all(VALUES[name](p) is not None for name in needed)]
    if not judged:
        raise UserError(
            f"none of {len(asked)} points has each of {', '.join(_measured(name) for name in sorted(needed))};"
            " measure NME with 'slimalign eval', latency with 'slimalign bench', both into one results file"
        )
    fitting = sorted((p for p in judged if not _violated(p, limits)), key=_merit)
    best = fitting[0] if fitting else None
    others = (p for p in fitting if best is not None and p.sha256 != best.sha256)
    better = [p for p in judged if best is None or _merit(p)[0] < _merit(best)[0]]
    relaxations = _relaxations(better, limits)
    named = {name for relaxation in relaxations for name in relaxation.limits}
    binding = tuple(name for name in VALUES if name in named)
    return Choice(best, next(others, None), binding, relaxations)


def _value(point: Point, name: str) -> float:
    """The value of a point that was judged, which therefore has one."""
    value = VALUES[name](point)
    if value is None:
        raise ValueError(f"{point.bundle} has no value for {name}")
    return value


def _merit(point: Point) -> tuple[float, float, float, str]:
    latency = math.inf if point.p50_ms is None else point.p50_ms
    size = math.inf if point.size_bytes is None else point.size_bytes
    nme = judged_nme(point)
    return (math.inf if nme is None else nme, latency, size, point.bundle)


def _violated(point: Point, limits: Limits) -> frozenset[str]:
    return frozenset(name for name, limit in limits.given().items() if _value(point, name) > limit)


def _relaxations(points: Sequence[Point], limits: Limits) -> tuple[Relaxation, ...]:
    """The cheapest relaxation for each smallest set of limits that keeps one of ``points`` out."""
    kept_out: dict[frozenset[str], list[Point]] = {}
    for point in points:
        kept_out.setdefault(_violated(point, limits), []).append(point)
    smallest = [names for names in kept_out if not any(other < names for other in kept_out)]
    given = limits.given()

    def excess(point: Point) -> float:
        return sum(_value(point, name) / given[name] - 1.0 for name in _violated(point, limits))

    cheapest = [min(kept_out[names], key=lambda point: (excess(point), _merit(point))) for names in smallest]
    cheapest.sort(key=excess)
    return tuple(
        Relaxation({name: _value(point, name) for name in VALUES if name in _violated(point, limits)}, point)
        for point in cheapest
    )


def _measured(limit: str) -> str:
    return {"max_nme": "NME", "max_latency_ms": "latency"}.get(limit, limit.removeprefix("max_"))
