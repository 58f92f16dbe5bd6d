"""Images a second over batch sizes, and where they stop growing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import latency

from slimalign.benchmarks.throughput import by_batch, image_ms, images_a_second, throughput_knee
from slimalign.runtimes.timing import Record


def call(batch: int, p50_ms: float, low_ms: float | None = None, high_ms: float | None = None) -> Record:
    """A call on a batch, with the interval of its median."""
    made = latency("a", (p50_ms,), batch)
    return replace(made, intervals={"p50_ms": (low_ms or p50_ms, high_ms or p50_ms)})


def test_an_image_has_its_share_of_a_call() -> None:
    assert image_ms(call(8, 40.0)) == 5.0
    assert images_a_second(call(8, 40.0)) == 200.0


@pytest.mark.parametrize(
    ("records", "knee"),
    [
        # 100, 125, 250 and 250 images a second.
        ([call(1, 10.0), call(2, 16.0), call(4, 16.0), call(8, 32.0)], 4),
        # 100 and 104: less than 5 % more.
        ([call(1, 10.0), call(2, 19.2)], 1),
        # 100 and 110, but the slower end of one interval is no faster than the faster end of the other.
        ([call(1, 10.0, 9.0, 11.0), call(2, 18.2, 16.0, 20.0)], 1),
        # 100 and 200 whatever the median is.
        ([call(1, 10.0, 9.9, 10.1), call(2, 10.0, 9.9, 10.1)], 2),
        # 100, 90 and 120: what is better for a while does not end it.
        ([call(1, 10.0), call(2, 22.0), call(4, 33.0)], 4),
        # Fewer and fewer.
        ([call(1, 10.0), call(2, 30.0), call(4, 90.0)], 1),
        ([call(1, 10.0)], None),
        ([], None),
    ],
)
def test_throughput_grows_up_to_a_batch(records: list[Record], knee: int | None) -> None:
    assert throughput_knee(records) == knee
    assert throughput_knee(records[::-1]) == knee


def test_a_record_without_an_interval_has_its_median() -> None:
    assert throughput_knee([latency("a", (10.0,), 1), latency("a", (10.0,), 2)]) == 2


@given(st.lists(st.floats(0.1, 100.0), min_size=2, max_size=6))
def test_beyond_the_knee_nothing_is_worth_it(times_ms: list[float]) -> None:
    records = [call(2**place, time_ms) for place, time_ms in enumerate(times_ms)]
    knee = throughput_knee(records)
    speeds = {record.batch: images_a_second(record) for record in records}
    assert knee is not None
    assert all(speed <= 1.05 * speeds[knee] * (1 + 1e-9) for batch, speed in speeds.items() if batch > knee)
    for smaller in (batch for batch in speeds if batch < knee):
        assert any(speed > 1.05 * speeds[smaller] for batch, speed in speeds.items() if batch > smaller)


def test_records_that_differ_in_more_than_the_batch_are_apart() -> None:
    one, two = latency("a", batch=1), latency("a", batch=2)
    others = [replace(one, threads=2), replace(one, target="ssh://pi"), replace(one, runtime="litert")]
    found = by_batch([one, *others, two])
    assert list(found.values()) == [[one, two], *[[other] for other in others]]
