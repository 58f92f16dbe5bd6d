"""The picker: limits, what would have to give, why the runner-up lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import POINTS, accuracy, cost, latency, point

from slimalign.benchmarks.frontier import frontier
from slimalign.benchmarks.limits import Limits
from slimalign.benchmarks.pick import pick
from slimalign.benchmarks.points import Point, join, names_of
from slimalign.benchmarks.results import Results
from slimalign.runtimes.errors import UserError


def test_the_most_accurate_within_the_limits_is_picked() -> None:
    choice = pick(POINTS, Limits(max_latency_ms=6))
    assert choice.point == POINTS[1]
    assert choice.runner_up == POINTS[2]
    assert choice.binding == ("max_latency_ms",)
    (relaxation,) = choice.relaxations
    assert dict(relaxation.limits) == {"max_latency_ms": 10.0}
    assert relaxation.point == POINTS[0]


def test_energy_that_was_never_told_is_not_asked_of_bench() -> None:
    with pytest.raises(
        UserError, match="energy of a face; .*; energy only where the device has a rail to read$"
    ):
        pick(POINTS, Limits(max_energy_mj=5))
    with pytest.raises(UserError, match="one results file$"):
        pick(POINTS, Limits(max_gmacs=5))


def test_without_limits_the_best_is_picked_and_nothing_binds() -> None:
    choice = pick(POINTS, Limits())
    assert (choice.point, choice.runner_up) == (POINTS[0], POINTS[1])
    assert (choice.binding, choice.relaxations) == ((), ())


def test_when_none_fits_the_cheapest_way_out_is_given() -> None:
    # 4 ms keeps big and middle out, 4 % keeps small out: either limit alone lets one in.
    choice = pick(POINTS, Limits(max_latency_ms=4, max_nme=4))
    assert choice.point is None
    assert choice.runner_up is None
    assert choice.binding == ("max_latency_ms", "max_nme")
    assert [dict(r.limits) for r in choice.relaxations] == [{"max_nme": 4.5}, {"max_latency_ms": 5}]
    assert json.loads(json.dumps(choice.to_dict()))["relaxations"][0]["point"]["bundle"] == "small"


def test_limits_that_must_be_raised_together() -> None:
    choice = pick(POINTS[:1], Limits(max_latency_ms=5, max_size_mb=4, max_nme=9))
    assert choice.binding == ("max_latency_ms", "max_size_mb")
    assert [dict(r.limits) for r in choice.relaxations] == [{"max_latency_ms": 10, "max_size_mb": 8.0}]


def test_two_limits_that_move_a_little_are_told_beside_one_that_moves_far() -> None:
    far, near = point("far", 30, 3.3), point("near", 6, 3.5)
    choice = pick([far, near], Limits(max_latency_ms=5, max_nme=3.4))
    # near is over by 20 % and 2.9 %, far by 500 %.
    assert choice.binding == ("max_latency_ms",)
    assert [r.limits for r in choice.relaxations] == [
        {"max_latency_ms": 6, "max_nme": 3.5},
        {"max_latency_ms": 30},
    ]


def test_the_runner_up_is_another_file() -> None:
    twice = [POINTS[0], replace(POINTS[0], runtime="onnxruntime", p50_ms=6.0), POINTS[1]]
    choice = pick(twice, Limits())
    assert choice.point == twice[1]
    assert choice.runner_up == POINTS[1]
    assert pick(twice, Limits(), runtime="litert").point == POINTS[0]


def test_one_that_was_timed_at_another_batch_size_is_still_chosen_by_its_accuracy() -> None:
    held = Results(
        latency=(latency("a"), latency("b", batch=8)),
        accuracy=(accuracy("a", 5.0), accuracy("b", 3.0)),
        cost=(cost("a"), cost("b")),
    )
    found = join(held, batch=1, threads=1)
    assert [
        point.bundle for point in (pick(found, Limits()).point, pick(found, Limits(max_latency_ms=9)).point)
    ] == [
        latency("b").bundle,
        latency("a").bundle,
    ]


def test_what_cannot_be_picked_from_is_said() -> None:
    with pytest.raises(UserError, match="no point with runtime = onnx; the results hold litert, measure"):
        pick(POINTS, Limits(), runtime="onnx")
    with pytest.raises(UserError, match="the results hold no bundle"):
        pick([], Limits())
    with pytest.raises(
        UserError, match="none of 3 points has multiply-adds; measure NME with 'slimalign eval'"
    ):
        pick(POINTS, Limits(max_gmacs=1))
    with pytest.raises(UserError, match="--max-nme 0: must be above 0"):
        Limits(max_nme=0)


NUMBERS = st.integers(1, 5).map(float)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(1, 5)), min_size=1, max_size=8),
    st.builds(
        Limits,
        max_latency_ms=st.none() | NUMBERS,
        max_nme=st.none() | NUMBERS,
        max_size_mb=st.none() | NUMBERS,
    ),
)
def test_a_choice_keeps_the_limits_and_its_relaxations_hold(
    rows: list[tuple[float, float, int]], limits: Limits
) -> None:
    points = [point(str(i), ms, nme, size_bytes=mb * 10**6) for i, (ms, nme, mb) in enumerate(rows)]
    fitting = [
        nme
        for ms, nme, mb in rows
        if ms <= (limits.max_latency_ms or 9)
        and nme <= (limits.max_nme or 9)
        and mb <= (limits.max_size_mb or 9)
    ]
    choice = pick(points, limits)
    assert (choice.point is None) == (not fitting)
    if choice.point is not None:
        assert choice.point.nme == min(fitting)
    for relaxation in choice.relaxations:
        raised = pick(points, replace(limits, **relaxation.limits))
        assert raised.point is not None
        assert choice.point is None or (raised.point.nme or 9) < (choice.point.nme or 0)
        one = relaxation.point
        held = {"max_latency_ms": one.p50_ms, "max_nme": one.nme, "max_size_mb": (one.size_bytes or 0) / 1e6}
        assert relaxation.limits == {name: held[name] for name in relaxation.limits}


def test_what_rounding_alone_tells_apart_is_judged_by_its_latency() -> None:
    """Runtimes differ in the seventh digit of an NME; the slower is no better choice for that."""
    fast, slow = point("fast", 1, 9.9317041), point("slow", 5, 9.9317039)
    other = point("other", 0.5, 9.94)
    choice = pick([slow, fast, other], Limits(max_latency_ms=9))
    assert (choice.point, choice.runner_up) == (fast, slow)
    assert choice.relaxations == ()
    assert frontier([slow, fast, other], ("latency", "nme")).points == (other, fast)


COSTLY = point(
    "costly", 4, 3.0, p90_ms=6.0, failure_rate=2.0, subset_nme={"far": 5.0}, size_bytes=3_000_000,
    macs=2_000_000_000, params=500, memory_mb=70.0, energy_mj=8.0, batch=2,
)  # fmt: skip
"""500 faces a second."""


@pytest.mark.parametrize(
    ("limits", "name", "value"),
    [
        (Limits(max_latency_ms=3.9), "max_latency_ms", 4.0),
        (Limits(max_p90_ms=5.9), "max_p90_ms", 6.0),
        (Limits(max_nme=2.9), "max_nme", 3.0),
        (Limits(max_failure_rate=1.9), "max_failure_rate", 2.0),
        (Limits(max_failure_rate=0.0), "max_failure_rate", 2.0),
        (Limits(max_nme_subset={"far": 4.9}), "max_nme_subset:far", 5.0),
        (Limits(max_size_mb=2.9), "max_size_mb", 3.0),
        (Limits(max_gmacs=1.9), "max_gmacs", 2.0),
        (Limits(max_params=499), "max_params", 500.0),
        (Limits(max_memory_mb=69), "max_memory_mb", 70.0),
        (Limits(max_energy_mj=7), "max_energy_mj", 8.0),
        (Limits(min_throughput=501), "min_throughput", 500.0),
    ],
)
def test_each_limit_keeps_a_point_out_and_says_what_it_would_take(
    limits: Limits, name: str, value: float
) -> None:
    choice = pick([COSTLY], limits)
    assert (choice.point, choice.binding) == (None, (name,))
    assert [dict(relaxation.limits) for relaxation in choice.relaxations] == [{name: pytest.approx(value)}]
    changed = {"far": value} if name.startswith("max_nme_subset") else value
    just_enough = replace(limits, **{name.partition(":")[0]: changed})
    assert pick([COSTLY], just_enough).point == COSTLY


def test_points_that_lack_a_figure_are_counted_not_forgotten() -> None:
    choice = pick([*POINTS, COSTLY], Limits(max_memory_mb=100))
    assert (choice.point, choice.left_out) == (COSTLY, 3)
    with pytest.raises(UserError, match=r"none of 4 points has NME on near; .* \(its subsets: far\)"):
        pick([*POINTS, COSTLY], Limits(max_nme_subset={"near": 4}))


def test_one_precision_can_be_asked_for() -> None:
    small = replace(POINTS[2], precision="int8")
    assert pick([*POINTS, small], Limits(), precision="int8").point == small
    with pytest.raises(UserError, match="no point with precision = int4; the results hold fp32, int8"):
        pick([*POINTS, small], Limits(), precision="int4")


def judged(name: str, ms: float, nmes: list[float]) -> Point:
    return point(name, ms, sum(nmes) / len(nmes), nmes=tuple(nmes), faces="0a")


def test_the_sentence_on_the_runner_up_knows_the_noise() -> None:
    faces = [3.0, 4.0, 5.0, 6.0, 3.5, 4.5, 5.5, 6.5, 3.2, 4.2]
    best = judged("best", 6, faces)
    # Worse on every face: of 1024 ways to set ten signs two are as far from 0, p = 0.002.
    surely = pick([best, judged("worse", 3, [nme + 0.01 for nme in faces])], Limits())
    said = r"NME 4.55 % against 4.54 %: worse beyond the noise \(p = (0.00\d+)\); 3 ms against 6 ms"
    found = re.fullmatch(said, surely.why or "")
    assert found is not None
    assert float(found[1]) == pytest.approx(0.002, abs=0.004)
    # Better on one face, worse on another: a quarter of the ways give 0.1 or more up, a quarter down, and as many more.
    mixed = [faces[0] + 0.3, faces[1] - 0.2, *faces[2:]]
    unsure = pick([best, judged("mixed", 3, mixed)], Limits())
    assert unsure.point == best
    assert unsure.why is not None
    assert unsure.why.startswith("NME 4.55 % against 4.54 %: no difference beyond the noise (p = 1)")
    assert surely.faster is None
    assert unsure.faster is not None
    assert unsure.faster.bundle == "mixed"


def test_an_nme_without_single_faces_is_told_by_its_interval_or_as_unknown() -> None:
    best, other = point("best", 2, 3.0), point("other", 1, 3.5)
    assert "how sure that is was not kept" in (pick([best, other], Limits()).why or "")
    for reach, said in (
        (0.1, "worse beyond the noise of 0.14"),
        (0.5, "no difference beyond the noise of 0.71"),
    ):
        pair = [replace(p, nme_interval=((p.nme or 0) - reach, (p.nme or 0) + reach)) for p in (best, other)]
        assert said in (pick(pair, Limits()).why or "")


def test_a_faster_point_is_named_only_where_that_is_sure() -> None:
    figures = (("a", 6, 3.0), ("b", 5, 3.2))
    wide = [replace(point(name, ms, nme), nme_interval=(nme - 1, nme + 1)) for name, ms, nme in figures]
    assert (found := pick(wide, Limits()).faster) is not None
    assert found.bundle == "b"
    unsure = [replace(p, p50_interval=((p.p50_ms or 0) - 1, (p.p50_ms or 0) + 1)) for p in wide]
    assert pick(unsure, Limits()).faster is None


def test_few_noisy_faces_do_not_make_the_fastest_the_choice() -> None:
    # Differences 5, -1, -2 and 4: 1.5 +- 3.4.
    slow, fast = judged("slow", 9, [1.0, 2.0, 3.0, 4.0]), judged("fast", 1, [6.0, 1.0, 1.0, 8.0])
    choice = pick([slow, fast], Limits())
    assert (choice.point, choice.faster) == (slow, fast)


def test_two_bundles_of_one_name_are_told_apart_by_their_hash() -> None:
    twins = [replace(point("x", 1, nme), bundle="net", sha256=c * 64) for c, nme in (("a", 3.0), ("b", 4.0))]
    names = names_of([*twins, point("other", 1, 5)])
    assert names == {"a" * 64: "net (aaaaaaaa)", "b" * 64: "net (bbbbbbbb)", "other": "other"}
    choice = pick(twins, Limits())
    assert (choice.point, choice.runner_up) == tuple(twins)
