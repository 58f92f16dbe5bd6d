"""A device's rest before minutes of calls, on temperatures that are given; nothing is waited for."""

from __future__ import annotations

from itertools import count, repeat

import pytest

from slimalign.runtimes.resting import LONGEST_S, rest


def rested(start_c: float | None, busy_s: float, temperatures: object) -> list[float]:
    """For how long it slept at a time."""
    slept: list[float] = []
    told = iter(temperatures)  # type: ignore[call-overload]
    rest(start_c, busy_s, lambda: next(told), slept.append)
    return slept


def test_a_warm_device_rests_until_it_is_near_what_it_was() -> None:
    assert rested(40.0, 600.0, count(50.0, -0.5)) == [1.0] * 16  # 42 degrees
    assert rested(40.0, 600.0, [41.9]) == []


@pytest.mark.parametrize(("busy_s", "longest_s"), [(600.0, LONGEST_S), (60.0, 60.0), (2.5, 2.5)])
def test_a_device_that_does_not_cool_rests_no_longer_than_it_is_measured(
    busy_s: float, longest_s: float
) -> None:
    slept = rested(40.0, busy_s, repeat(70.0))
    assert sum(slept) == pytest.approx(longest_s)
    assert max(slept) <= 1.0


@pytest.mark.parametrize(("start_c", "now_c"), [(None, None), (40.0, None), (None, 50.0)])
def test_where_no_temperature_is_told_a_fifth_of_that_is_rested(
    start_c: float | None, now_c: float | None
) -> None:
    assert rested(start_c, 600.0, [now_c]) == [60.0]
    assert rested(start_c, 100.0, [now_c]) == [20.0]


def test_a_sensor_that_falls_silent_does_not_make_it_longer() -> None:
    assert rested(40.0, 10.0, [60.0, 60.0, None]) == [1.0, 1.0, pytest.approx(1.6)]
