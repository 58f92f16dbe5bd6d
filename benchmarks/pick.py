"""The most accurate point within limits, or what the limits would have to become."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slimalign.benchmarks.axes import AXES
from slimalign.benchmarks.frontier import knee
from slimalign.benchmarks.limits import Bound, Limits
from slimalign.benchmarks.noise import noise_to
from slimalign.benchmarks.points import Point
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.intervals import ALPHA, sign_flip_p

LATENCY, NME = AXES["latency"], AXES["nme"]


@dataclass(frozen=True)
class Relaxation:
    """Limits to move together, and to what, and the point that then fits."""

    limits: dict[str, float]
    point: Point

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"limits": self.limits, "point": self.point.to_dict()}


@dataclass(frozen=True)
class Choice:
    """The best point within the limits, and what stands in the way of a better one.

    ``runner_up`` is the best point of another file, and ``why`` says in one sentence why it lost. ``faster`` is the
    fastest of the points that fit, are surely faster than the choice and not surely worse by their NME: for whoever
    would rather have that. ``knee`` is that of latency against NME over all points that were asked for, whatever the
    limits. ``binding`` names the limits that keep every more accurate point out (every point, where none fits). Each
    of ``relaxations`` alone would let one in, at the least change of those limits in parts of them, the least first;
    more limits than must move are moved only where that is less in all. ``left_out`` points lack the NME
    or a figure that a limit bounds.
    """

    point: Point | None
    runner_up: Point | None
    why: str | None
    faster: Point | None
    knee: Point | None
    binding: tuple[str, ...]
    relaxations: tuple[Relaxation, ...]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Its entries by their names, for ``--json``; points as Point gives them."""
        points = {"point": self.point, "runner_up": self.runner_up, "faster": self.faster, "knee": self.knee}
        return {
            **{name: None if point is None else point.to_dict() for name, point in points.items()},
            "why": self.why,
            "binding": list(self.binding),
            "relaxations": [relaxation.to_dict() for relaxation in self.relaxations],
            "left_out": self.left_out,
        }


def pick(
    points: Sequence[Point],
    limits: Limits,
    runtime: str | None = None,
    precision: str | None = None,
) -> Choice:
    """The point of least NME within ``limits``, or of one ``runtime`` or ``precision``, among ``points`` of one batch
    size and thread count, as ``join`` gives them.

    Points that were not timed count too, where neither a runtime nor a limit on latency asks for timing. Equal NME,
    to NME_DIGITS, is decided by latency, then size, then name. Points that lack the NME or a value that a limit
    bounds are left aside. Raises UserError where no point is left to choose from.

    An NME that is lower within the noise still wins. Were all that are not surely worse taken for equal, and the
    fastest of them chosen, few faces would make the choice: over ten of them hardly any difference is sure, and the
    fastest point would win whatever its NME; and one more point, better but noisy, could turn the choice to one that
    is worse. The user has said by the limits how fast is fast enough. What the noise leaves open is told instead, by
    ``why`` and ``faster``.
    """
    asked = _asked(points, runtime, precision)
    bounds = limits.bounds()
    judged = _with_all_figures(asked, bounds)
    fitting = sorted((p for p in judged if not _violated(p, bounds)), key=_merit)
    best = fitting[0] if fitting else None
    runner_up = next((p for p in fitting if best is not None and p.sha256 != best.sha256), None)
    better = [p for p in judged if best is None or _merit(p)[0] < _merit(best)[0]]
    kept_out = _kept_out(better, bounds)
    return Choice(
        point=best,
        runner_up=runner_up,
        why=None if best is None or runner_up is None else why_lost(runner_up, best),
        faster=None if best is None else _faster(best, fitting),
        knee=knee(asked),
        binding=_binding(kept_out, bounds),
        relaxations=_relaxations(kept_out, bounds),
        left_out=len(asked) - len(judged),
    )


def _asked(points: Sequence[Point], runtime: str | None, precision: str | None) -> list[Point]:
    if not points:
        raise UserError(
            "the results hold no bundle; measure some with 'slimalign eval' and 'slimalign bench'"
        )
    asked = list(points)
    for name, value in (("runtime", runtime), ("precision", precision)):
        held = {getattr(point, name) for point in asked}
        if value is not None and value not in held:
            listed = ", ".join(sorted(held - {None})) or "no latency at all"
            raise UserError(
                f"no point with {name} = {value}; the results hold {listed}, measure more with 'slimalign bench'"
            )
        asked = [point for point in asked if value in (None, getattr(point, name))]
    return asked


def _with_all_figures(points: Sequence[Point], bounds: Sequence[Bound]) -> list[Point]:
    needed = {NME.name: NME, **{bound.axis.name: bound.axis for bound in bounds}}
    judged = [p for p in points if all(axis.value(p) is not None for axis in needed.values())]
    if not judged:
        never = [axis.label for axis in needed.values() if all(axis.value(p) is None for p in points)]
        missing = ", ".join(never or [axis.label for axis in needed.values()])
        together = "" if len(never or needed) == 1 else "each of "
        subsets = ", ".join(sorted({subset for point in points for subset in point.subset_nme}) or ["none"])
        held = f" (its subsets: {subsets})" if any(bound.is_subset for bound in bounds) else ""
        energy = "; energy only where the device has a rail to read" if AXES["energy"].label in never else ""
        raise UserError(
            f"none of {len(points)} points has {together}{missing}; measure NME with 'slimalign eval', latency with"
            f" 'slimalign bench', both into one results file{held}{energy}"
        )
    return judged


def _merit(point: Point) -> tuple[float, float, float, str, str]:
    nme = NME.cost(point)
    latency = math.inf if point.p50_ms is None else point.p50_ms
    size = math.inf if point.size_bytes is None else point.size_bytes
    return (math.inf if nme is None else nme, latency, size, point.bundle, point.sha256)


def _faster(best: Point, fitting: Sequence[Point]) -> Point | None:
    if best.p50_ms is None:
        return None
    timed = [p for p in fitting if p.p50_ms is not None and p.p50_ms < best.p50_ms]
    sooner = best.p50_ms - np.array([p.p50_ms for p in timed]) > noise_to(LATENCY, timed, best)
    worse = np.array([NME.cost(p) for p in timed]) - (NME.cost(best) or 0.0) > noise_to(NME, timed, best)
    found = [timed[place] for place in np.flatnonzero(sooner & ~worse)]
    return min(found, key=lambda point: (point.p50_ms, _merit(point)), default=None)


def why_lost(runner_up: Point, best: Point) -> str:
    """Why ``best`` is preferred to ``runner_up``, its figures first and those of ``best`` second; both have an NME."""
    parts = [f"NME {runner_up.nme:.2f} % against {best.nme:.2f} %: {_sureness(runner_up, best)}"]
    if runner_up.p50_ms is not None and best.p50_ms is not None:
        parts.append(f"{runner_up.p50_ms:.3g} ms against {best.p50_ms:.3g} ms")
    if (
        NME.cost(runner_up) == NME.cost(best)
        and runner_up.size_bytes is not None
        and best.size_bytes is not None
    ):
        parts.append(f"{runner_up.size_bytes:,} bytes against {best.size_bytes:,}")
    return "; ".join(parts)


def _sureness(runner_up: Point, best: Point) -> str:
    if NME.cost(runner_up) == NME.cost(best):
        return "the same"
    if best.nmes and len(best.nmes) == len(runner_up.nmes) and best.faces == runner_up.faces:
        p = sign_flip_p(np.array(runner_up.nmes) - np.array(best.nmes))
        return f"{'worse' if p < ALPHA else 'no difference'} beyond the noise (p = {p:.2g})"
    width = float(noise_to(NME, [runner_up], best)[0])
    if width <= NME.step:
        return "how sure that is was not kept"
    is_sure = abs((runner_up.nme or 0.0) - (best.nme or 0.0)) > width
    return f"{'worse' if is_sure else 'no difference'} beyond the noise of {width:.2g}"


def _violated(point: Point, bounds: Sequence[Bound]) -> frozenset[str]:
    return frozenset(bound.name for bound in bounds if bound.excess(point) > 0)


def _kept_out(points: Sequence[Point], bounds: Sequence[Bound]) -> dict[frozenset[str], list[Point]]:
    """``points`` by the limits that keep them out."""
    found: dict[frozenset[str], list[Point]] = {}
    for point in points:
        found.setdefault(_violated(point, bounds), []).append(point)
    return found


def _binding(sets: Iterable[frozenset[str]], bounds: Sequence[Bound]) -> tuple[str, ...]:
    """The limits in the smallest ``sets``, those that hold no other."""
    held = list(sets)
    named = {name for names in held if not any(other < names for other in held) for name in names}
    return tuple(bound.name for bound in bounds if bound.name in named)


def _relaxations(
    kept_out: Mapping[frozenset[str], Sequence[Point]], bounds: Sequence[Bound]
) -> tuple[Relaxation, ...]:
    """The cheapest relaxation for each set of limits, but where fewer of them need not move more; cheapest first."""

    def excess(point: Point) -> float:
        return sum(bound.excess(point) for bound in bounds)

    cheapest = {
        names: min(points, key=lambda point: (excess(point), _merit(point)))
        for names, points in kept_out.items()
    }
    moved = {names: excess(point) for names, point in cheapest.items()}
    told = [
        names for names in moved if not any(other < names and moved[other] <= moved[names] for other in moved)
    ]
    return tuple(
        Relaxation(_limits_for(cheapest[names], bounds), cheapest[names])
        for names in sorted(told, key=lambda names: moved[names])
    )


def _limits_for(point: Point, bounds: Sequence[Bound]) -> dict[str, float]:
    values = ((bound, bound.value(point)) for bound in bounds if bound.excess(point) > 0)
    return {bound.name: value for bound, value in values if value is not None}
