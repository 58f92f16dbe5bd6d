"""One figure of two results files: how it changed, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from slimalign.benchmarks.axes import MEMORY_NOISE
from slimalign.benchmarks.results import AccuracyRecord, AnyLatency, CostRecord
from slimalign.runtimes.intervals import (
    ALPHA,
    SEED,
    Floats,
    Interval,
    mean_interval,
    ratio_test,
    resampled_percentiles,
    sign_flip_p,
)
from slimalign.runtimes.timing import Record

Compared = AnyLatency | AccuracyRecord | CostRecord

BETTER, WORSE, SAME, NOISE, UNTESTED = "better", "worse", "the same", "within the noise", "not tested"
MEMORY = "memory MB"
FIGURES = ("NME %", "p50 ms", "p90 ms", MEMORY, "bytes", "params", "mult-adds")
"""What is compared, in the order it is told."""
PERCENTS = {"p50 ms": 50, "p90 ms": 90}


@dataclass(frozen=True, order=True)
class Row:
    """What is found again in the other file; ``batch``, ``threads`` and ``protocol`` are of latency alone, else 0 and
    empty; ``target`` is empty for what a bundle costs anywhere.
    """

    bundle: str
    runtime: str
    precision: str
    batch: int = 0
    threads: int = 0
    target: str = ""
    protocol: str = ""

    def __str__(self) -> str:
        setting = f"batch {self.batch}, threads {self.threads}" if self.batch else ""
        parts = (f"{self.bundle} on {self.runtime} {self.precision}", setting, self.target, self.protocol)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Found:
    """A figure of one file and the record that it stands in."""

    value: float
    record: Compared


@dataclass(frozen=True)
class Change:
    """One figure before and after; of all of them less is better.

    ``percent`` is the change in percent of ``before``, None where that is 0 or the two do not compare; ``interval`` is
    that of 95 % of it, and ``p`` how likely noise alone brings as much, None where nothing was drawn. ``verdict`` is
    one of better, worse, the same, within the noise, and not tested, for which ``note`` says why.
    """

    row: Row
    figure: str
    before: float
    after: float
    percent: float | None
    interval: Interval | None
    p: float | None
    verdict: str
    note: str = ""

    def fails(self, max_worse: float) -> bool:
        """Whether it surely is worse, by more than ``max_worse`` percent."""
        return self.verdict == WORSE and (self.percent is None or self.percent > max_worse)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the entries of the row and its own."""
        own = {name: value for name, value in asdict(self).items() if name != "row"}
        return {**asdict(self.row), **own}


def figures(record: Compared) -> Iterator[tuple[str, Found]]:
    """The figures of a record that are compared, by their names; what was not measured is not among them."""
    if isinstance(record, AccuracyRecord):
        values: dict[str, float | None] = {"NME %": record.nme}
    elif isinstance(record, CostRecord):
        values = {"bytes": record.size_bytes, "params": record.params, "mult-adds": record.macs}
    else:
        memory = record.memory if isinstance(record, Record) else None
        values = {"p50 ms": record.p50_ms, "p90 ms": record.p90_ms}
        values[MEMORY] = None if memory is None else memory.peak_mb
    yield from ((name, Found(value, record)) for name, value in values.items() if value is not None)


def change_of(row: Row, figure: str, before: Found, after: Found) -> Change:
    """How ``figure`` changed.

    Latencies are told by their ratio, whose interval and test come of drawing visits again; NMEs by the differences
    face by face and flips of their signs, where both were found on the same faces: below p = ALPHA a change counts as
    no noise. Memory may differ by MEMORY_NOISE from one measurement to the next; all else is exact.
    """
    percent = None if before.value == 0 else 100 * (after.value / before.value - 1)
    plain = Change(row, figure, before.value, after.value, percent, None, None, UNTESTED)
    if isinstance(before.record, AccuracyRecord) and isinstance(after.record, AccuracyRecord):
        return _nme_change(plain, before.record, after.record)
    if figure in PERCENTS:
        return _latency_change(plain, before.record, after.record)
    noise = MEMORY_NOISE * before.value if figure == MEMORY else 0.0
    changed = NOISE if abs(after.value - before.value) <= noise else _direction(plain)
    return replace(plain, verdict=SAME if after.value == before.value else changed)


def _nme_change(plain: Change, before: AccuracyRecord, after: AccuracyRecord) -> Change:
    if before.faces != after.faces:
        return replace(plain, percent=None, note="judged on different faces")
    if not before.nmes or len(before.nmes) != len(after.nmes):
        return replace(plain, note="the NMEs of single faces were not kept")
    differences = np.array(after.nmes) - np.array(before.nmes)
    low, high = mean_interval(differences)
    share = 100 / before.nme if before.nme else 0.0
    return _tested(plain, (share * low, share * high), sign_flip_p(differences))


def _latency_change(plain: Change, before: Compared, after: Compared) -> Change:
    if not isinstance(before, Record) or not isinstance(after, Record):
        return replace(plain, note="single calls were not told")
    if min(*before.samples_ms, *after.samples_ms) == 0:
        return replace(plain, note="calls of 0 ms")
    drawn = [
        _drawn_percentiles(record.samples_ms, record.visits or (len(record.samples_ms),), seed)
        for seed, record in enumerate((before, after), start=SEED)
    ]
    (low, high), p = ratio_test(*(percentiles[plain.figure] for percentiles in drawn))
    alone = min(len(before.visits), len(after.visits)) < 2
    note = "of one visit: what differs from time to time is not in the test" if alone else ""
    return replace(_tested(plain, (100 * (low - 1), 100 * (high - 1)), p), note=note)


@lru_cache(maxsize=2)  # what is drawn for p50 holds the p90 of the same two records, whose turn is next
def _drawn_percentiles(
    samples_ms: tuple[float, ...], visits: tuple[int, ...], seed: int
) -> dict[str, Floats]:
    drawn = resampled_percentiles(np.array(samples_ms), visits, list(PERCENTS.values()), seed)
    return dict(zip(PERCENTS, drawn.T, strict=True))


def _tested(plain: Change, interval: Interval, p: float) -> Change:
    changed = _direction(plain) if p < ALPHA else NOISE
    verdict = SAME if plain.after == plain.before else changed
    return replace(plain, interval=interval, p=p, verdict=verdict)


def _direction(change: Change) -> str:
    return WORSE if change.after > change.before else BETTER
