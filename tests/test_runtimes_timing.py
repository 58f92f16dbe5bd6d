"""The timing loop, protocols and records."""

import gc
import json
import time

import numpy as np
import pytest

from slimalign.benchmarks.typed_json import object_in
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import (
    DRAFT,
    REFERENCE,
    Protocol,
    Record,
    Timing,
)
from slimalign.runtimes.timing_loop import Span, time_calls, time_once_ms


def record(samples_ms: tuple[float, ...]) -> Record:
    return Record(
        bundle="tiny",
        sha256="ab",
        runtime="onnxruntime",
        precision="fp32",
        batch=1,
        threads=1,
        protocol=DRAFT.key,
        target="local",
        cpu="unknown",
        started="2026-01-01T00:00:00+00:00",
        init_ms=3.0,
        first_ms=2.0,
        samples_ms=samples_ms,
    )


def test_warm_up_is_called_but_not_counted() -> None:
    calls: list[bool] = []
    samples_ms = time_calls(lambda: calls.append(gc.isenabled()), Span(3, 0.0), Span(5, 0.0))
    assert len(calls) == 8
    assert len(samples_ms) == 5
    assert not any(calls), "garbage was collected while timing"
    assert gc.isenabled()


def test_a_span_lasts_its_calls_and_its_seconds() -> None:
    start = time.perf_counter()
    samples_ms = time_calls(lambda: time.sleep(0.01), Span(0, 0.0), Span(1, 0.05))
    assert time.perf_counter() - start >= 0.05
    assert 1 < len(samples_ms) <= 5
    assert min(samples_ms) >= 10.0


def test_one_call_is_timed_and_garbage_goes_on_after_an_error() -> None:
    assert time_once_ms(lambda: time.sleep(0.01)) >= 10.0
    with pytest.raises(ZeroDivisionError):
        time_once_ms(lambda: 1 // 0)
    assert gc.isenabled()


def test_percentiles_of_one_to_a_thousand() -> None:
    # Linear between neighbours: rank p/100 * (n - 1), so 1 + 0.9 * 999 = 900.1.
    summary = record(tuple(np.arange(1.0, 1001.0).tolist())).summary()
    assert summary["p50_ms"] == pytest.approx(500.5)
    assert summary["p90_ms"] == pytest.approx(900.1)
    assert summary["p99_ms"] == pytest.approx(990.01)
    assert summary["samples"] == 1000
    assert "samples_ms" not in summary


def test_p99_is_hidden_below_a_thousand_samples() -> None:
    assert "p99_ms" not in record((1.0,) * 999).summary()


def test_a_record_survives_json() -> None:
    made = record((1.0, 2.5, 1.5))
    assert object_in(json.dumps(made.to_dict()), Record) == made


@pytest.mark.parametrize("sample", [float("nan"), float("inf"), -1.0])
def test_samples_that_are_not_durations_are_refused(sample: float) -> None:
    with pytest.raises(UserError, match="NaN, infinite or negative"):
        Timing((1.0, sample))
    with pytest.raises(UserError, match="NaN, infinite or negative"):
        record((sample,))


def test_a_timing_needs_a_sample() -> None:
    with pytest.raises(UserError, match="without samples"):
        Timing(())


def test_the_reference_protocol_keeps_its_promise() -> None:
    assert (REFERENCE.warm_up.calls, REFERENCE.warm_up.seconds) == (50, 2.0)
    share = REFERENCE.length.share(REFERENCE.rounds)
    assert share.calls * REFERENCE.rounds >= 1024
    assert share.seconds * REFERENCE.rounds == pytest.approx(60.0)
    assert REFERENCE.key == "kernel-1-reference"
    assert DRAFT.key == "kernel-1-draft"


@pytest.mark.parametrize(
    ("warm_up", "length"), [(Span(49, 2.0), Span(1024, 60.0)), (Span(50, 2.0), Span(1024, 59.0))]
)
def test_a_short_measurement_is_no_reference(warm_up: Span, length: Span) -> None:
    with pytest.raises(UserError, match="call a shorter one draft"):
        Protocol("kernel", 1, "reference", warm_up, Span(1, 0.0), length, rounds=4)
