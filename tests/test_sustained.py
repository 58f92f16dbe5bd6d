"""What minutes of calls say of a device, on samples whose course is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from records import latency

from slimalign.benchmarks.sustained import Sustained, sustained_of
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import Record, sustained
from slimalign.runtimes.timing_loop import Span

WINDOWS, CALLS = 60, 100
MINUTES = 5.0
"""Of 5 s windows, in which a call takes 50 ms."""


def course(
    change: Callable[[NDArray[np.floating]], NDArray[np.floating]], seed: int, noise: float = 0.02
) -> Record:
    """Calls of 50 ms times ``change`` of the time from 0 to 1, each with noise and now and then a long one."""
    rng = np.random.default_rng(seed)
    at = (np.arange(WINDOWS * CALLS) + 0.5) / (WINDOWS * CALLS)
    samples = 50.0 * change(at) * (1 + noise * rng.exponential(1.0, len(at)))
    samples *= np.where(rng.random(len(at)) < 0.02, 3.0, 1.0)
    return measured(samples)


def measured(samples_ms: NDArray[np.floating]) -> Record:
    made = latency("a", tuple(samples_ms.tolist()))
    return replace(made, protocol="kernel-1-sustained", visits=(CALLS,) * WINDOWS)


def found(record: Record) -> Sustained:
    one = sustained_of(record)
    assert one is not None
    return one


@pytest.mark.parametrize("seed", range(5))
def test_a_device_that_keeps_its_speed_is_not_throttled(seed: int) -> None:
    one = found(course(np.ones_like, seed))
    assert not one.throttled
    assert one.last_to_first == pytest.approx(1.0, abs=0.01)
    assert one.slope_percent_a_minute == pytest.approx(0.0, abs=0.2)
    low, high = one.slope_interval
    assert low <= one.slope_percent_a_minute <= high


@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_throttling(seed: int) -> None:
    one = found(course(lambda at: np.where(at < 0.6, 1.0, 1.25), seed))
    assert one.throttled
    assert one.last_to_first == pytest.approx(1.25, abs=0.01)
    assert one.last_to_first_interval[0] > 1.2


@pytest.mark.parametrize("seed", range(5))
def test_a_drift_is_told_in_percent_a_minute(seed: int) -> None:
    # From 1 to 1.3 in about 5.75 minutes of calls: 0.3 of the beginning, of the median call 0.3 / 1.15.
    record = course(lambda at: 1 + 0.3 * at, seed)
    minutes = sum(record.samples_ms) / 60e3
    one = found(record)
    expected = 100 * 0.3 / 1.15 / minutes
    assert one.slope_percent_a_minute == pytest.approx(expected, rel=0.1)
    low, high = one.slope_interval
    assert low > 0
    assert high - low < expected
    assert one.throttled
    assert one.last_to_first == pytest.approx(1.27 / 1.03, abs=0.02)


def windows_of(level: Callable[[float], float], seed: int) -> Record:
    """Windows of calls of 5 ms times ``level`` of the part of the time that has passed, with noise of 3 %."""
    rng = np.random.default_rng(seed)
    levels = np.array([level(window / WINDOWS) for window in range(WINDOWS)])
    return measured((5.0 * levels[:, None] * (1 + np.abs(rng.normal(0, 0.03, (WINDOWS, CALLS))))).ravel())


@pytest.mark.parametrize("percent", [5, 10, 50, 90])
def test_a_step_is_throttling_wherever_it_is(percent: int) -> None:
    for seed in range(30):
        record = windows_of(lambda passed: 1.0 if passed < percent / 100 else 1.3, seed)
        one = found(record)
        assert one.throttled
        before = record.samples_ms[: percent * WINDOWS * CALLS // 100]
        assert one.slower_from_minute == pytest.approx(sum(before) / 60e3)


@pytest.mark.parametrize("drift", [0.0, 0.04])
def test_noise_and_a_mild_drift_are_no_throttling(drift: float) -> None:
    for seed in range(30):
        one = found(windows_of(lambda passed: 1 + drift * passed, seed))
        assert (one.throttled, one.slower_from_minute) == (False, None)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_step_is_certain_but_not_large(seed: int) -> None:
    one = found(course(lambda at: np.where(at < 0.6, 1.0, 1.03), seed))
    assert one.last_to_first_interval[0] > 1.0
    assert not one.throttled


@pytest.mark.parametrize("seed", range(20))
def test_another_program_for_a_while_is_no_throttling(seed: int) -> None:
    """It takes half of the calls' time in bursts of several windows, the last fifth's among them."""
    rng = np.random.default_rng(seed)
    busy = np.zeros(WINDOWS, dtype=bool)
    for start in rng.integers(WINDOWS - 6, size=4):
        busy[start : start + 6] = True
    busy[-8:-2] = True
    hit = np.repeat(busy, CALLS) & (rng.random(WINDOWS * CALLS) < 0.7)
    samples = 50.0 * (1 + 0.02 * rng.exponential(1.0, WINDOWS * CALLS)) * np.where(hit, 1.6, 1.0)
    assert not found(measured(samples)).throttled


def test_minutes_are_told_for_a_sustained_record_of_enough_windows_alone() -> None:
    record = course(np.ones_like, 0)
    assert sustained_of(replace(record, protocol="kernel-1-reference")) is None
    short = replace(record, samples_ms=record.samples_ms[: 5 * CALLS], visits=(CALLS,) * 5)
    assert sustained_of(short) is None


def test_many_windows_are_joined() -> None:
    record = course(lambda at: 1 + 0.3 * at, 0)
    split = replace(record, visits=(10,) * (WINDOWS * CALLS // 10))
    assert found(split).slope_percent_a_minute == pytest.approx(
        found(record).slope_percent_a_minute, rel=0.05
    )


def test_minutes_are_split_into_windows_of_five_seconds() -> None:
    long = sustained(10)
    assert (long.rounds, long.length) == (120, Span(120, 600.0))
    assert long.length.share(long.rounds) == Span(1, 5.0)
    assert long.key == "kernel-1-sustained"
    assert sustained(0.1).length.share(sustained(0.1).rounds).seconds == pytest.approx(0.3)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="give minutes above 0"):
            sustained(wrong)
