"""Figures found on devices, joined with what else is known of a bundle."""

from __future__ import annotations

from dataclasses import replace

import pytest
from records import accuracy, latency, told

from slimalign.benchmarks.points import join
from slimalign.benchmarks.results import Results
from slimalign.runtimes.errors import UserError


def test_what_a_phones_program_tells_is_joined_as_far_as_it_goes() -> None:
    results = Results(
        accuracy=(accuracy("a", 3.5), accuracy("b", 3.6)), told=(told("a", 2.0), told("b", None))
    )
    points = {point.bundle: point for point in join(results)}
    assert (points["net-a"].p50_ms, points["net-a"].p90_ms, points["net-a"].nme) == (2.0, None, 3.5)
    assert (points["net-b"].p50_ms, points["net-b"].target) == (None, "adb:X")
    with pytest.raises(UserError, match="several protocols"):
        join(replace(results, latency=(latency("a"),)))


def test_accuracy_found_where_the_latency_was_goes_before_accuracy_found_elsewhere() -> None:
    there, here = replace(accuracy("a", 4.5), target="ssh://orin"), accuracy("a", 3.5)
    for order in ((there, here), (here, there)):
        measured = replace(latency("a"), target="ssh://orin")
        assert [point.nme for point in join(Results((measured,), order))] == [4.5]
        assert [point.nme for point in join(Results((latency("a"),), order))] == [3.5]
