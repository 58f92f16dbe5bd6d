"""Images a second, and the batch size beyond which there are no more of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slimalign.runtimes.intervals import Interval
from slimalign.runtimes.timing import Record

GROWTH = 1.05
"""A larger batch is worth it where it surely gives more images a second by this factor."""


def images_a_second(record: Record) -> float:
    """By the median of a call."""
    return 1000 * record.batch / record.p50_ms


def image_ms(record: Record) -> float:
    """The share of one image in the median of a call."""
    return record.p50_ms / record.batch


def throughput_knee(records: Sequence[Record]) -> int | None:
    """The batch size up to which throughput grows; ``records`` differ in nothing but that.

    It is the smallest from which no larger one surely gives more than 5 % more images a second. Sure is what holds for
    every median in the two intervals; a record without an interval, of an older version, has its median alone. The
    largest that was measured says that throughput may grow further. None for a single batch size.
    """
    spans = {record.batch: _images_a_second(record) for record in records}
    if len(spans) < 2:
        return None
    batches = sorted(spans)
    return next(
        batch
        for batch in batches
        if not any(larger > batch and spans[larger][0] > GROWTH * spans[batch][1] for larger in batches)
    )


def _images_a_second(record: Record) -> Interval:
    low, high = record.intervals.get("p50_ms", (record.p50_ms, record.p50_ms))
    return 1000 * record.batch / high, 1000 * record.batch / low


Line = tuple[str, str, int, str, str]


def by_batch(records: Iterable[Record]) -> dict[Line, list[Record]]:
    """The records that differ in nothing but the batch size, by sha256, runtime, threads, target and protocol."""
    found: dict[Line, list[Record]] = {}
    for one in records:
        found.setdefault((one.sha256, one.runtime, one.threads, one.target, one.protocol), []).append(one)
    return found
