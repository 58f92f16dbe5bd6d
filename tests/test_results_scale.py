"""The made-up results file that commands are timed on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from slimalign.benchmarks.limits import Limits
from slimalign.benchmarks.pick import pick
from slimalign.benchmarks.points import join
from slimalign.benchmarks.results import append, read
from slimalign.benchmarks.results_scale import made_records


def test_made_up_records_are_whole_and_can_be_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, list(made_records(20)))
    held = read(path)
    assert Counter(len(records) for records in (held.cost, held.accuracy, held.latency)) == {20: 2, 40: 1}
    assert {len(record.samples_ms) for record in held.latency} == {200}
    assert {len(record.nmes) for record in held.accuracy} == {224}
    points = join(held, "val", batch=1, threads=1)
    assert len(points) == 40
    choice = pick(points, Limits(max_latency_ms=20))
    assert choice.point is not None
    assert "noise" in (choice.why or "")


def test_the_same_records_are_made_again() -> None:
    assert list(made_records(2)) == list(made_records(2))
