"""The frontier where figures are uncertain, and its knee."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import accuracy, cost, latency, point

from slimalign.benchmarks.axes import AXES, Axis, axes_named, subset_axis
from slimalign.benchmarks.frontier import frontier, knee, unbeaten_points
from slimalign.benchmarks.noise import Noise, noise_to
from slimalign.benchmarks.points import Point, join
from slimalign.benchmarks.results import Results
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import Energy, Memory

AXIS_NAMES = ("latency", "nme")


def uncertain_point(name: str, ms: float, reach: float, nmes: list[int]) -> Point:
    return replace(
        point(name, ms, sum(nmes) / len(nmes)),
        p50_interval=(ms - reach, ms + reach),
        nmes=tuple(float(nme) for nme in nmes),
        faces="0a",
    )


POINT_LISTS = st.lists(
    st.tuples(
        st.integers(2, 6), st.sampled_from([0.0, 0.3, 0.77, 1.3]), st.lists(st.integers(0, 6), min_size=3, max_size=3)
    ),
    min_size=1,
    max_size=9,
).map(lambda rows: [uncertain_point(str(i), *row) for i, row in enumerate(rows)])  # fmt: skip


def values(one: Point) -> tuple[float, float]:
    return one.p50_ms or 0.0, round(one.nme or 0.0, 3)


def sure_axes(one: Point, other: Point) -> list[bool]:
    """On which axes ``one`` is surely better, from the definition."""
    reaches = [(p.p50_interval[1] - p.p50_interval[0]) / 2 for p in (one, other) if p.p50_interval]
    differences = [a - b for a, b in zip(one.nmes, other.nmes, strict=True)]
    widths = math.hypot(*reaches), 1.959964 * statistics.stdev(differences) / math.sqrt(len(differences))
    return [b - a > max(width, 1e-6) for a, b, width in zip(values(one), values(other), widths, strict=True)]


def as_good(one: Point, other: Point) -> bool:
    return all(a <= b for a, b in zip(values(one), values(other), strict=True))


@given(POINT_LISTS)
def test_the_frontier_with_noise_is_its_definition(points: list[Point]) -> None:
    kept = [p for p in points if not any(as_good(q, p) and any(sure_axes(q, p)) for q in points)]
    beaten = [p for p in kept if any(as_good(q, p) and values(q) != values(p) for q in points)]
    doubted = [p for p in kept if any(any(sure_axes(q, p)) and not any(sure_axes(p, q)) for q in kept)]
    found = frontier(points, AXIS_NAMES)
    assert found.points
    assert {p.bundle for p in found.points} == {p.bundle for p in kept}
    assert {p.bundle for p in found.uncertain} == {p.bundle for p in (*beaten, *doubted)}


@given(POINT_LISTS, st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(points: list[Point], random: object) -> None:
    mixed = list(points)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert frontier(mixed, AXIS_NAMES) == frontier(points, AXIS_NAMES)


@given(POINT_LISTS)
def test_without_noise_the_frontier_is_what_nobody_beats(points: list[Point]) -> None:
    exact = [replace(p, p50_interval=None, nmes=()) for p in points]
    found = frontier(exact, AXIS_NAMES)
    expected = [p for p in exact if not any(as_good(q, p) and values(q) != values(p) for q in exact)]
    assert {p.bundle for p in found.points} == {p.bundle for p in expected}
    assert found.uncertain == ()
    assert list(found.points) == unbeaten_points(exact, AXIS_NAMES)


def test_a_difference_inside_the_noise_drops_nothing() -> None:
    # 0.4 ms against a noise of sqrt(0.3^2 + 0.3^2) = 0.42; at 0.5 ms it is sure.
    fast = replace(point("fast", 5.0, 3.0), p50_interval=(4.7, 5.3))
    near = replace(point("near", 5.4, 3.0), p50_interval=(5.1, 5.7))
    far = replace(point("far", 5.5, 3.0), p50_interval=(5.2, 5.8))
    found = frontier([far, near, fast], AXIS_NAMES)
    assert (found.points, found.uncertain) == ((fast, near), (near,))


def test_a_point_whose_only_advantage_is_noise_is_marked() -> None:
    # The slow one is more accurate by 0.1 +- 0.28, and surely slower.
    quick = replace(point("quick", 1.0, 3.1), nme_interval=(2.9, 3.3))
    slow = replace(point("slow", 9.0, 3.0), nme_interval=(2.8, 3.2))
    found = frontier([quick, slow], AXIS_NAMES)
    assert (found.points, found.uncertain) == ((quick, slow), (slow,))
    sure = frontier([quick, replace(slow, nme=2.7)], AXIS_NAMES)
    assert sure.uncertain == ()


def noise(axis: Axis, one: Point, other: Point) -> float:
    return float(noise_to(axis, [one], other)[0])


def test_faces_that_agree_tell_more_than_intervals() -> None:
    easy, hard = (2.0, 4.0, 6.0, 8.0), (2.1, 4.1, 6.1, 8.1)
    pair = [
        replace(point(name, 1, sum(nmes) / 4), nmes=nmes, faces="0a", nme_interval=(3.0, 7.0))
        for name, nmes in (("a", easy), ("b", hard))
    ]
    # No more than the step that rounding to three decimals leaves.
    np.testing.assert_allclose(noise(AXES["nme"], *pair), 1.5e-3)
    other_faces = replace(pair[1], faces="9f")
    # Half-widths of 2 each.
    np.testing.assert_allclose(noise(AXES["nme"], pair[0], other_faces), math.sqrt(8))


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_paired_noise_is_the_standard_error_of_the_differences(faces: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).gamma(3, 1, (3, faces))
    points = [
        replace(point(str(i), 1, 1), nmes=tuple(row.tolist()), faces="0a") for i, row in enumerate(drawn)
    ]
    found = Noise(AXES["nme"], points).between(np.arange(3), np.arange(2))
    for i in range(3):
        for j in range(2):
            error = statistics.stdev((drawn[i] - drawn[j]).tolist()) / math.sqrt(faces)
            assert found[i, j] == pytest.approx(max(1.959964 * error, 1.5e-3), abs=1e-6)


def test_failures_and_subsets_are_paired_too() -> None:
    one = replace(point("a", 1, 1), nmes=(5.0, 20.0, 5.0, 5.0), faces="0a", subset_nmes={"far": (5.0, 20.0)})
    other = replace(one, nmes=(5.0, 5.0, 5.0, 5.0), subset_nmes={"far": (5.0, 5.0)})
    # One face of four fails in one of them: differences 0, 100, 0, 0 have a deviation of 50.
    assert noise(AXES["failure-rate"], one, other) == pytest.approx(1.959964 * 50 / 2)
    # Differences 0 and 15: a deviation of 15 / sqrt(2), over two faces.
    assert noise(subset_axis("far"), one, other) == pytest.approx(1.959964 * 7.5)
    alone = replace(point("a", 1, 1), failure_rate=0.0, images=10)
    # Wilson's interval of 0 in 10 ends at 27.75 %.
    assert AXES["failure-rate"].half_width(alone) == pytest.approx(13.877, abs=1e-3)


def test_throughput_is_as_unsure_as_its_latency() -> None:
    # 8 faces in 2 to 4 ms are 4000 to 2000 a second.
    one = replace(point("a", 3, 1, batch=8), p50_interval=(2.0, 4.0))
    assert AXES["throughput"].half_width(one) == pytest.approx(1000)
    assert AXES["throughput"].cost(one) == pytest.approx(-8000 / 3)


def test_every_axis_of_a_full_record_has_a_value() -> None:
    measured = replace(
        latency("a", (1.0, 2.0, 3.0), batch=2),
        memory=Memory(70.0, 30.0),
        energy=Energy("VDD", 1.0, 3.0, 10.0),
        intervals={"p50_ms": (1.5, 2.5), "p90_ms": (2.0, 3.0)},
        cpu="A72",
    )
    costs = replace(cost("a"), macs=7, bytes_moved=9, params_without_head=5, macs_without_head=6)
    (found,) = join(Results((measured,), (accuracy("a", 3.5),), (costs,)))
    assert {name: axis.value(found) for name, axis in AXES.items()} == pytest.approx(
        {
            "latency": 2.0, "p90": 2.8, "throughput": 1000.0, "nme": 3.5, "failure-rate": 0.0, "size": 4_000_000,
            "params": 1_000_000, "macs": 7, "memory": 70.0, "energy": 5.0,
        }
    )  # fmt: skip
    assert subset_axis("far").value(found) == 3.5
    kept = (found.p50_interval, found.p90_interval, found.bytes_moved, found.params_without_head, found.cpu)
    assert kept == ((1.5, 2.5), (2.0, 3.0), 9, 5, "A72")
    assert found.macs_without_head == 6
    assert "nmes" not in found.to_dict()


def test_what_was_not_measured_is_none_on_every_axis() -> None:
    assert {axis.value(Point("a", "a")) for axis in AXES.values()} == {None}


def test_points_of_several_sets_of_faces_are_paired_within_each() -> None:
    def judged(name: str, faces: str | None, nmes: tuple[float, ...]) -> Point:
        return replace(point(name, 1, 4), faces=faces, nmes=nmes, nme_interval=(3.0, 5.0))

    points = [
        judged("a", "0a", (2.0, 4.0)),
        judged("b", "9f", (1.0, 2.0, 6.0)),
        judged("c", "0a", (4.0, 4.0)),
        judged("d", None, ()),
        judged("e", "9f", (2.0, 4.0, 6.0)),
    ]
    apart = math.sqrt(2)
    # Differences -2, 0 deviate by sqrt(2), over two faces; -1, -2, 0 by 1, over three.
    first, second = 1.959964 * 1.0, 1.959964 / math.sqrt(3)
    expected = [
        [0, apart, first, apart, apart],
        [apart, 0, apart, apart, second],
        [first, apart, 0, apart, apart],
        [apart, apart, apart, apart, apart],
        [apart, second, apart, apart, 0],
    ]
    least = np.maximum(expected, 1.5e-3)
    found = Noise(AXES["nme"], points)
    np.testing.assert_allclose(found.between(np.arange(5), np.arange(5)), least, atol=1e-7)
    mixed = np.array([4, 0, 2])
    np.testing.assert_allclose(found.between(mixed, np.arange(5)), least[mixed], atol=1e-7)


def test_more_points_than_are_held_against_each_other_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = [
        uncertain_point(str(i), ms, 0.3, rng.integers(0, 6, 4).tolist())
        for i, ms in enumerate(rng.uniform(2, 3, 60).tolist())
    ]
    whole = frontier(points, AXIS_NAMES)
    monkeypatch.setattr("slimalign.benchmarks.frontier.AT_ONCE", 7)
    assert frontier(points, AXIS_NAMES) == whole


def test_an_axis_that_is_unknown_is_named_with_the_choices() -> None:
    held = [replace(point("a", 1, 3), subset_nme={"far": 4.0})]
    assert [axis.label for axis in axes_named(["nme:far", "p90"], held)] == [
        "NME on far",
        "latency, nine in ten calls",
    ]
    with pytest.raises(UserError, match=r"axes nme:near: choose from latency, p90, .*, energy, nme:far$"):
        frontier(held, ("latency", "nme:near"))
    with pytest.raises(UserError, match="axes none: choose from latency"):
        frontier(held, ())
    assert frontier(held, ("latency", "nme:far")).points == tuple(held)


def test_the_knee_lies_farthest_below_the_chord() -> None:
    # Scaled: log2(ms) / 4 across and (NME - 3) / 7 up; 1 - across - up is 0, 0.61, 0.43, 0.
    steep = [point("1", 1, 10), point("2", 2, 4), point("4", 4, 3.5), point("16", 16, 3)]
    beaten, untimed = point("beaten", 2.5, 9), point("untimed", None, 1)
    assert knee([*steep, beaten, untimed]) == steep[1]
    # 1 - across - up over params, 0, 0.1, 0 after two points of the same place count as one.
    even = [point("1", 1, 4, params=10), point("2", 2, 3, params=100), point("4", 4, 2, params=1000)]
    assert knee(even) is None  # on the chord
    assert knee([replace(even[1], nme=2.9), even[0], even[2]], "params") is not None
    assert knee([even[0], even[0], even[2]]) is None
    assert knee([]) is None


@pytest.mark.parametrize("level", [3.4523, 3.4524998])
def test_what_rounding_parts_is_not_sure(level: float) -> None:
    """Face by face the NMEs differ by 4e-7 exactly, wherever they are rounded."""
    faces = np.random.default_rng(0).gamma(9, 0.4, 155)
    nmes = faces - faces.mean() + level
    pair = [
        point(name, ms, float(found.mean()), faces="f", nmes=tuple(found.tolist()))
        for name, ms, found in (("lower", 5.01, nmes), ("higher", 5.0, nmes + 4e-7))
    ]
    pair = [replace(one, p50_interval=((one.p50_ms or 0) - 0.1, (one.p50_ms or 0) + 0.1)) for one in pair]
    assert noise_to(AXES["nme"], pair[:1], pair[1])[0] > 1e-3
    found = frontier(pair, ["latency", "nme"])
    assert {one.bundle for one in found.points} == {"lower", "higher"}
    assert "higher" not in {one.bundle for one in found.uncertain}


@pytest.mark.parametrize(
    ("axis", "field", "noise"), [("memory", "memory_mb", 0.02), ("energy", "energy_mj", 0.05)]
)
def test_memory_and_energy_are_sure_to_a_share(axis: str, field: str, noise: float) -> None:
    def kept(more: float) -> list[str]:
        pair = [point("less", 5, 3.0, **{field: 100.0}), point("more", 5, 3.0, **{field: 100.0 * (1 + more)})]
        return [one.bundle for one in frontier(pair, ["nme", axis]).points]

    assert kept(0.9 * noise) == ["less", "more"]
    assert kept(1.1 * noise) == ["less"]
