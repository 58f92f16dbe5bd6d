"""Latency, accuracy and cost joined into points, and the points that no other point beats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.results import AccuracyRecord, AnyLatency, Results
from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Point:
    """One bundle as it was measured; what was not measured is None, never zero.

    ``nme`` is in percent, ``p50_ms`` and ``p90_ms`` are for a whole batch, ``params`` and ``macs`` (of one
    face) are plain counts.
    """

    bundle: str
    sha256: str
    precision: str | None = None
    runtime: str | None = None
    batch: int | None = None
    threads: int | None = None
    target: str | None = None
    protocol: str | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    nme: float | None = None
    split: str | None = None
    normaliser: str | None = None
    params: int | None = None
    macs: int | None = None
    size_bytes: int | None = None

    @property
    def throughput(self) -> float | None:
        """Faces a second."""
        if self.p50_ms is None or self.batch is None or self.p50_ms == 0:
            return None
        return 1000.0 * self.batch / self.p50_ms

    @property
    def way(self) -> str | None:
        """The runtime and, where it is not fp32, the precision; None where the bundle was not timed."""
        if self.runtime is None or self.precision == "fp32":
            return self.runtime
        return f"{self.runtime} {self.precision}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "throughput": self.throughput}


def _negated_throughput(point: Point) -> float | None:
    return None if point.throughput is None else -point.throughput


NME_DIGITS = 3
"""Decimals of an NME in percent that count: the same network differs by less from runtime to runtime."""


def judged_nme(point: Point) -> float | None:
    """The point's NME as it is compared with others'."""
    return None if point.nme is None else round(point.nme, NME_DIGITS)


AXES: Mapping[str, Callable[[Point], float | None]] = MappingProxyType(
    {
        "latency": lambda point: point.p50_ms,
        "nme": judged_nme,
        "params": lambda point: point.params,
        "macs": lambda point: point.macs,
        "size": lambda point: point.size_bytes,
        "throughput": _negated_throughput,
    }
)
"""What a point can be judged by; lower is better in all of them."""


def frontier(points: Sequence[Point], axes: Sequence[str]) -> list[Point]:
    """The points that no other beats over ``axes``, names of AXES; best first by the first axis.

    One point beats another if it is as good on every axis and better on one. A point whose value on an
    axis was not measured cannot be judged and is left out.
    """
    wrong = [axis for axis in axes if axis not in AXES]
    if wrong or not axes:
        raise UserError(f"axes {', '.join(wrong) or 'none'}: choose from {', '.join(AXES)}")
    rows = [[AXES[axis](point) for axis in axes] for point in points]
    known = [i for i, row in enumerate(rows) if None not in row]
    values = np.array([rows[i] for i in known], dtype=np.float64).reshape(len(known), len(axes))
    unbeaten = [known[i] for i in np.flatnonzero(pareto_mask(values))]
    unbeaten.sort(key=lambda i: tuple(rows[i]))
    return [points[i] for i in unbeaten]


def pareto_mask(values: Floats) -> NDArray[np.bool_]:
    """Which rows of ``values`` (N, A), lower is better, no other beats; equal rows do not beat each other."""
    if not np.isfinite(values).all():
        raise UserError("a value on an axis of the frontier is NaN or infinite; measure it again")
    unbeaten = np.zeros(len(values), dtype=bool)
    # In lexicographic order whoever beats a row comes before it, and whoever beats that one beats both.
    for row in np.lexsort(values.T[::-1]):
        rivals = values[unbeaten]
        beaten = (rivals <= values[row]).all(axis=1) & (rivals < values[row]).any(axis=1)
        unbeaten[row] = not beaten.any()
    return unbeaten


def join(
    results: Results,
    split: str | None = None,
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> list[Point]:
    """One point for every bundle, runtime, batch size and thread count; the latest record of each counts.

    A bundle without a latency record that counts gives one point too. ``split``, ``protocol``, ``target``, ``batch``
    and ``threads`` choose among the records; raises UserError where they leave several splits, or bundles that were
    judged on different faces, or several protocols, targets or processors, whose figures must not be ranked
    together. Raises UserError too where there is latency, but none at ``batch`` and ``threads``.
    """
    latencies = _chosen_latencies(results.latencies, protocol, target)
    _one_of_a_kind((record.protocol for record in latencies), "protocols", "choose one with --protocol")
    _one_of_a_kind((record.target for record in latencies), "targets", "choose one with --target")
    latencies = _at_setting(latencies, batch, threads)
    _one_of_a_kind((record.cpu for record in latencies), "processors", "keep one results file a machine")
    accuracies = [r for r in results.accuracy if r.normaliser == normaliser and split in (None, r.split)]
    # The latest counts, but before all the one that was found where the latency was.
    machines = {record.target for record in latencies}
    accuracies.sort(key=lambda record: record.target in machines)
    _one_of_a_kind((record.split for record in accuracies), "splits", "choose one with --split")
    latest = {record.sha256: record for record in accuracies}
    _one_of_a_kind(
        (record.faces for record in latest.values()),
        "sets of faces under the split's name",
        "keep one results file a data set",
    )
    points = _without_latency(results, latest.values())
    measured = {record.setting: _with_latency(points, record) for record in latencies}
    bare = [point for sha256, point in points.items() if sha256 not in {r.sha256 for r in latencies}]
    return [*measured.values(), *bare]


def _chosen_latencies(
    records: Iterable[AnyLatency], protocol: str | None, target: str | None
) -> list[AnyLatency]:
    return [r for r in records if protocol in (None, r.protocol) and target in (None, r.target)]


def _at_setting(records: Sequence[AnyLatency], batch: int | None, threads: int | None) -> list[AnyLatency]:
    found = [r for r in records if batch in (None, r.batch) and threads in (None, r.threads)]
    if records and not found:
        asked = {"batch": batch, "threads": threads}
        words = " ".join(f"--{option} {value}" for option, value in asked.items() if value is not None)
        held = sorted({(record.batch, record.threads) for record in records})
        listed = ", ".join(f"--batch {size} --threads {count}" for size, count in held)
        raise UserError(f"no latency with {words}; the results hold {listed}")
    return found


def _one_of_a_kind(values: Iterable[str], what: str, way_out: str) -> None:
    found = sorted(set(values))
    if len(found) > 1:
        raise UserError(
            f"the results hold several {what} ({', '.join(found)}), which do not compare; {way_out}"
        )


def _without_latency(results: Results, accuracies: Iterable[AccuracyRecord]) -> dict[str, Point]:
    """What is known of each bundle apart from its latency, by its sha256."""
    points: dict[str, Point] = {}
    for cost in results.cost:
        points[cost.sha256] = Point(
            bundle=cost.bundle,
            sha256=cost.sha256,
            precision=cost.precision,
            params=cost.params,
            macs=cost.macs,
            size_bytes=cost.size_bytes,
        )
    for accuracy in accuracies:
        known = points.get(accuracy.sha256, Point(accuracy.bundle, accuracy.sha256))
        points[accuracy.sha256] = replace(
            known, nme=accuracy.nme, split=accuracy.split, normaliser=accuracy.normaliser
        )
    return points


def _with_latency(points: Mapping[str, Point], record: AnyLatency) -> Point:
    return replace(
        points.get(record.sha256, Point(record.bundle, record.sha256)),
        precision=record.precision,
        runtime=record.runtime,
        batch=record.batch,
        threads=record.threads,
        target=record.target,
        protocol=record.protocol,
        p50_ms=record.p50_ms,
        p90_ms=record.p90_ms,
    )
