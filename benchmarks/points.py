"""Latency, accuracy and cost joined into points, one for each way to run a bundle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from slimalign.benchmarks.garbage import collection_paused
from slimalign.benchmarks.results import AccuracyRecord, AnyLatency, Results
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.intervals import NORMAL_95, Interval
from slimalign.runtimes.metrics import FAILURE_THRESHOLD
from slimalign.runtimes.timing import Record

HASH_DIGITS = 8
"""Of a sha256, where two bundles have one name."""


@dataclass(frozen=True)
class Point:
    """One bundle as it was measured; what was not measured is None, never zero.

    ``nme``, ``failure_rate`` and ``subset_nme`` (of each subset by its name) are in percent, ``p50_ms`` and ``p90_ms``
    are for a whole batch; intervals are those of 95 %. ``params`` and ``macs`` (of one face) are plain counts,
    ``memory_mb`` is the peak in 10^6 bytes, ``energy_mj`` what a face takes. ``faces`` is the fingerprint of the
    split, ``nmes`` and ``subset_nmes`` those of its single images in their order, empty where they were not kept.
    ``judged_by`` is the runtime that found the points where it is another one than the timed ``runtime``.
    """

    bundle: str
    sha256: str
    precision: str | None = None
    runtime: str | None = None
    batch: int | None = None
    threads: int | None = None
    target: str | None = None
    cpu: str | None = None
    protocol: str | None = None
    p50_ms: float | None = None
    p50_interval: Interval | None = None
    p90_ms: float | None = None
    p90_interval: Interval | None = None
    nme: float | None = None
    nme_interval: Interval | None = None
    failure_rate: float | None = None
    images: int | None = None
    subset_nme: Mapping[str, float] = field(default_factory=dict)
    split: str | None = None
    normaliser: str | None = None
    params: int | None = None
    macs: int | None = None
    params_without_head: int | None = None
    macs_without_head: int | None = None
    bytes_moved: int | None = None
    size_bytes: int | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    faces: str | None = None
    judged_by: str | None = None
    nmes: tuple[float, ...] = field(default=(), repr=False)
    subset_nmes: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False)

    @property
    def throughput(self) -> float | None:
        """Faces a second."""
        if self.p50_ms is None or self.batch is None or self.p50_ms == 0:
            return None
        return 1000.0 * self.batch / self.p50_ms

    @cached_property
    def failures(self) -> tuple[float, ...]:
        """Of each single image 100 where it is a failure, else 0: their mean is the failure rate."""
        return tuple(100.0 if nme > FAILURE_THRESHOLD else 0.0 for nme in self.nmes)

    @cached_property
    def subset_intervals(self) -> Mapping[str, Interval]:
        """The interval of 95 % of each NME in ``subset_nme`` whose single images are known, two at least."""
        reaches = {
            subset: NORMAL_95 * float(np.std(nmes, ddof=1)) / math.sqrt(len(nmes))
            for subset, nmes in self.subset_nmes.items()
            if len(nmes) > 1 and subset in self.subset_nme
        }
        found = {subset: (self.subset_nme[subset], reach) for subset, reach in reaches.items()}
        return {subset: (value - reach, value + reach) for subset, (value, reach) in found.items()}

    @property
    def way(self) -> str | None:
        """The runtime and, where it is not fp32, the precision; None where the bundle was not timed."""
        if self.runtime is None or self.precision == "fp32":
            return self.runtime
        return f"{self.runtime} {self.precision}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the NMEs of single images."""
        singles = ("nmes", "subset_nmes")
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in singles}
        return {**plain, "subset_nme": dict(self.subset_nme), "throughput": self.throughput}


def names_of(points: Iterable[Point]) -> dict[str, str]:
    """A name for each bundle by its sha256, which is a part of it where other bundles have the same name."""
    held: dict[str, set[str]] = {}
    for point in points:
        held.setdefault(point.bundle, set()).add(point.sha256)
    return {
        sha256: bundle if len(sha256s) == 1 else f"{bundle} ({sha256[:HASH_DIGITS]})"
        for bundle, sha256s in held.items()
        for sha256 in sha256s
    }


@collection_paused()
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

    A bundle without a latency record that counts gives one point too. Its accuracy is that of the same runtime on the
    same target, else of the same runtime, else of any; of several the latest counts. ``split``, ``protocol``,
    ``target``, ``batch`` and ``threads`` choose among the records; raises UserError where they leave several splits, or
    bundles that were judged on different faces, or several protocols, targets or processors, whose figures must not be
    ranked together. Raises UserError too where there is latency, but none at ``batch`` and ``threads``.
    """
    latencies = _chosen_latencies(results.latencies, protocol, target)
    _one_of_a_kind((record.protocol for record in latencies), "protocols", "choose one with --protocol")
    _one_of_a_kind((record.target for record in latencies), "targets", "choose one with --target")
    latencies = _at_setting(latencies, batch, threads)
    _one_of_a_kind((record.cpu for record in latencies), "processors", "keep one results file a machine")
    accuracies = [r for r in results.accuracy if r.normaliser == normaliser and split in (None, r.split)]
    _one_of_a_kind((record.split for record in accuracies), "splits", "choose one with --split")
    measured = {record.setting: record for record in latencies}
    timed = {record.sha256 for record in latencies}
    machines = {record.target for record in latencies}
    untimed = sorted(accuracies, key=lambda record: record.target in machines)
    judges: dict[str, AccuracyRecord] = {r.sha256: r for r in untimed if r.sha256 not in timed}
    held: dict[str, list[AccuracyRecord]] = {}
    for accuracy in accuracies:
        held.setdefault(accuracy.sha256, []).append(accuracy)
    pairs = [(record, _judge_of(record, held.get(record.sha256, ()))) for record in measured.values()]
    _one_of_a_kind(
        (judge.faces for judge in (*judges.values(), *(judge for _, judge in pairs)) if judge is not None),
        "sets of faces under the split's name",
        "keep one results file a data set",
    )
    costs = {cost.sha256: dict(vars(cost)) for cost in results.cost}
    return [
        *(
            Point(**{**costs.get(record.sha256, {}), **_judged(judge, record.runtime), **_timed(record)})
            for record, judge in pairs
        ),
        *(
            Point(**{**costs.get(sha256, {}), **_judged(judges.get(sha256))})
            for sha256 in dict.fromkeys((*costs, *judges))
            if sha256 not in timed
        ),
    ]


def _judge_of(latency: AnyLatency, accuracies: Iterable[AccuracyRecord]) -> AccuracyRecord | None:
    """The one of the same bundle's ``accuracies`` that says most of what was timed, and of several such the latest."""
    ranked = sorted(
        accuracies, key=lambda record: (record.runtime == latency.runtime, record.target == latency.target)
    )
    return ranked[-1] if ranked else None


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


def _judged(accuracy: AccuracyRecord | None, runtime: str | None = None) -> dict[str, Any]:
    """The entries of a Point that come of its accuracy; ``runtime`` is the one that was timed."""
    if accuracy is None:
        return {}
    return {
        "bundle": accuracy.bundle,
        "sha256": accuracy.sha256,
        "nme": accuracy.nme,
        "nme_interval": accuracy.nme_interval,
        "failure_rate": accuracy.failure_rate,
        "images": accuracy.images,
        "subset_nme": {name: figures["nme"] for name, figures in accuracy.subsets.items()},
        "split": accuracy.split,
        "normaliser": accuracy.normaliser,
        "faces": accuracy.faces,
        "judged_by": None if runtime in (None, accuracy.runtime) else accuracy.runtime,
        "nmes": accuracy.nmes,
        "subset_nmes": accuracy.subset_nmes,
    }


SETTING = ("bundle", "sha256", "precision", "runtime", "batch", "threads", "target", "cpu", "protocol")


def _timed(record: AnyLatency) -> dict[str, Any]:
    """The entries of a Point that come of its latency."""
    entries = {name: getattr(record, name) for name in SETTING}
    entries |= {"p50_ms": record.p50_ms, "p90_ms": record.p90_ms}
    if isinstance(record, Record):
        entries["p50_interval"] = record.intervals.get("p50_ms")
        entries["p90_interval"] = record.intervals.get("p90_ms")
        entries["memory_mb"] = None if record.memory is None else record.memory.peak_mb
        entries["energy_mj"] = None if record.energy is None else record.energy.call_mj / record.batch
    return entries
