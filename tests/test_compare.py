"""Two results files compared: what changed, how sure that is, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from records import accuracy, cost, latency, told

from slimalign.benchmarks.changes import Change
from slimalign.benchmarks.compare import Comparison, compare
from slimalign.benchmarks.results import AccuracyRecord, Results
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import Memory, Record

VISITS, CALLS = 5, 20


def timed(sha256: str, middle: float, pace: float = 0.01, seed: int = 0) -> Record:
    """Calls of about ``middle`` ms, each visit faster or slower by a share of about ``pace``."""
    rng = np.random.default_rng(seed)
    samples = middle * (1 + rng.normal(0, pace, (VISITS, 1)) + rng.normal(0, 0.002, (VISITS, CALLS)))
    return replace(latency(sha256), samples_ms=tuple(samples.ravel().tolist()), visits=VISITS * (CALLS,))


def judged(sha256: str, nmes: Sequence[float]) -> AccuracyRecord:
    return replace(accuracy(sha256, float(np.mean(nmes))), nmes=tuple(nmes))


def change(found: Comparison, figure: str) -> Change:
    (one,) = [one for one in found.changes if one.figure == figure]
    return one


NMES = np.random.default_rng(9).gamma(9, 0.4, 60).tolist()


def test_a_file_against_itself_is_the_same() -> None:
    held = Results((timed("a", 5),), (judged("a", NMES),), (cost("a"),), (told("b", 2.0),))
    found = compare(held, held, "test")
    assert {one.figure for one in found.changes} == {"NME %", "p50 ms", "p90 ms", "bytes", "params"}
    assert {one.percent for one in found.changes} == {0.0}
    assert {one.verdict for one in found.changes if one.row.runtime == "onnxruntime"} == {"the same"}
    assert (found.worse, found.only_before, found.only_after, found.remarks) == ((), (), (), ())


def test_a_latency_that_surely_grew_fails_beyond_its_share() -> None:
    before, after = Results((timed("a", 5),)), Results((timed("a", 6, seed=1),))
    found = compare(before, after)
    p50 = change(found, "p50 ms")
    assert p50.percent == pytest.approx(20, abs=2)
    assert p50.interval is not None
    assert p50.interval[0] < 20 < p50.interval[1]
    assert (p50.verdict, p50.fails(5), p50.fails(30)) == ("worse", True, False)
    assert [one.figure for one in found.worse] == ["p50 ms", "p90 ms"]
    assert compare(before, after, max_worse=30).worse == ()
    # The other way round it is a gain.
    back = compare(after, before)
    assert (change(back, "p50 ms").verdict, back.worse) == ("better", ())


def test_slower_slow_calls_alone_are_found_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    row = timed("a", 5)
    spread = np.sort(np.array(row.samples_ms).reshape(VISITS, CALLS), axis=1)
    spread[:, -CALLS // 5 :] += 1.0  # the slowest fifth of each visit
    slow = replace(row, samples_ms=tuple(spread.ravel().tolist()))
    found = compare(
        Results((row,)), Results((slow,)), progress=lambda done, total: told.append((done, total))
    )
    assert (change(found, "p50 ms").verdict, change(found, "p90 ms").verdict) == ("within the noise", "worse")
    assert told == [(1, 2), (2, 2)]


def test_a_machine_that_drifts_from_visit_to_visit_does_not_fail_for_it() -> None:
    found = compare(Results((timed("a", 5, 0.3),)), Results((timed("a", 5.5, 0.3, seed=1),)))
    p50 = change(found, "p50 ms")
    assert (p50.verdict, p50.fails(0)) == ("within the noise", False)
    assert p50.percent is not None
    assert abs(p50.percent) > 5


def test_records_without_visits_say_what_their_test_leaves_out() -> None:
    one = replace(timed("a", 5), visits=())
    assert "of one visit" in change(compare(Results((one,)), Results((one,))), "p50 ms").note


@pytest.mark.parametrize("visits", [(1, 1), (4, -1)])
def test_visits_that_are_not_the_samples_are_refused(visits: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="calls in all, but 3 samples; measure again"):
        replace(latency("a"), visits=visits)


def test_an_nme_is_compared_face_by_face() -> None:
    before = Results(accuracy=(judged("a", NMES),))
    # Worse on each face by 8 to 9 % of the mean: sure, though the faces differ by far more.
    higher = [
        nme + 0.085 * np.mean(NMES) + shift for nme, shift in zip(NMES, 30 * [0.01, -0.01], strict=True)
    ]
    found = compare(before, Results(accuracy=(judged("a", higher),)), "test")
    nme = change(found, "NME %")
    assert (nme.verdict, nme.percent) == ("worse", pytest.approx(8.5))
    assert nme.interval is not None
    # The differences deviate by 0.01, so their mean by 0.01 / sqrt(60), of a mean of about 3.6.
    assert nme.interval == pytest.approx((8.5 - 0.07, 8.5 + 0.07), abs=0.03)
    assert found.worse == (nme,)
    mixed = [nme + shift for nme, shift in zip(NMES, 30 * [1.0, -0.9], strict=True)]
    unsure = change(compare(before, Results(accuracy=(judged("a", mixed),)), "test"), "NME %")
    assert (unsure.verdict, unsure.fails(0)) == ("within the noise", False)


def test_nmes_that_cannot_be_paired_are_not_tested() -> None:
    before = Results(accuracy=(judged("a", NMES),))
    elsewhere = replace(judged("a", NMES), faces="9f8e", nme=9.0)
    other = change(compare(before, Results(accuracy=(elsewhere,)), "test"), "NME %")
    assert (other.verdict, other.note, other.percent) == ("not tested", "judged on different faces", None)
    old = change(compare(before, Results(accuracy=(accuracy("a", 9.0),)), "test"), "NME %")
    assert (old.verdict, old.note) == ("not tested", "the NMEs of single faces were not kept")
    assert not old.fails(5)


def test_size_and_counts_are_exact_and_memory_to_two_percent() -> None:
    row = timed("a", 5)
    before = Results((replace(row, memory=Memory(100, 40)),), cost=(cost("a"),))
    grown = replace(cost("a"), size_bytes=4_400_000, params=1_040_000)
    found = compare(before, Results((replace(row, memory=Memory(90, 40)),), cost=(grown,)))
    assert [one.figure for one in found.worse] == ["bytes"]
    assert change(found, "bytes").percent == pytest.approx(10)
    assert (change(found, "params").verdict, change(found, "memory MB").verdict) == ("worse", "better")


@pytest.mark.parametrize(
    ("megabytes", "verdict"),
    [(100, "the same"), (101.9, "within the noise"), (98.1, "within the noise"), (102.1, "worse")],
)
def test_memory_differs_from_one_measurement_to_the_next(megabytes: float, verdict: str) -> None:
    files = [Results((replace(timed("a", 5), memory=Memory(peak, 40)),)) for peak in (100, megabytes)]
    found = change(compare(*files, max_worse=0), "memory MB")
    assert (found.verdict, found.fails(0)) == (verdict, verdict == "worse")


def test_what_only_one_file_holds_is_listed() -> None:
    before = Results((timed("a", 5), timed("b", 5)), cost=(cost("a"),))
    after = Results((timed("a", 5), replace(timed("a", 5), batch=8)), (judged("a", NMES),))
    found = compare(before, after, "test")
    assert found.only_before == (
        "net-a on onnxruntime fp32: bytes, params",
        "net-b on onnxruntime fp32, batch 1, threads 1, local, kernel-1-draft: p50 ms, p90 ms",
    )
    assert found.only_after == (
        "net-a on onnxruntime fp32, local: NME %",
        "net-a on onnxruntime fp32, batch 8, threads 1, local, kernel-1-draft: p50 ms, p90 ms",
    )


def test_files_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"no figure .* in common; the first holds net-a on .*, the second net-b"
    ):
        compare(Results((timed("a", 5),)), Results((timed("b", 5),)))
    with pytest.raises(UserError, match="the second none"):
        compare(Results((timed("a", 5),)), Results())
    with pytest.raises(UserError, match="max_worse = -1; give a share"):
        compare(Results(), Results(), max_worse=-1)


def test_other_protocols_and_processors_are_compared_only_by_force() -> None:
    before = Results((timed("a", 5), timed("b", 5)))
    reference = replace(timed("a", 5), protocol="kernel-1-reference")
    said = "net-a on onnxruntime fp32, batch 1, threads 1, local, kernel-1-reference, against kernel-1-draft"
    with pytest.raises(UserError, match=f"{said}: these do not compare; measure again .* --force"):
        compare(before, Results((reference, timed("b", 5))))
    found = compare(before, Results((reference, timed("b", 5))), force=True)
    assert found.remarks == (f"forced: {said}",)
    assert len(found.changes) == 4
    # Where the same protocol is there too, the other is one that the first file does not hold.
    both = compare(before, Results((reference, timed("a", 5), timed("b", 5))))
    assert [row.partition(":")[0][-18:] for row in both.only_after] == ["kernel-1-reference"]
    faster = Results((replace(timed("a", 5), cpu="Cortex-A78"),))
    with pytest.raises(UserError, match="timed on unknown, against Cortex-A78: these do not compare"):
        compare(before, faster)
    assert compare(before, faster, force=True).remarks == ("forced: timed on unknown, against Cortex-A78",)
    other = Results((replace(reference, cpu="Cortex-A78"),))
    assert len(compare(before, other, force=True).remarks) == 2


def test_by_force_each_protocol_is_compared_with_one_that_times_the_same() -> None:
    def both(mode: str) -> Results:
        kernel = replace(timed("a", 5), protocol=f"kernel-1-{mode}")
        return Results((kernel, replace(timed("a", 9), protocol=f"end-to-end-1-{mode}")))

    found = compare(both("draft"), both("reference"), force=True)
    assert [one.percent for one in found.changes] == [0.0] * 4
    assert (len(found.remarks), found.only_before, found.only_after) == (2, (), ())
    # What times something else stands for nothing.
    with pytest.raises(UserError, match="no figure of one bundle"):
        compare(Results(both("draft").latency[:1]), Results(both("reference").latency[1:]), force=True)


def test_several_protocols_that_may_stand_for_one_are_refused() -> None:
    first = Results((timed("a", 5), replace(timed("a", 5), protocol="kernel-1-sustained")))
    reference = Results((replace(timed("a", 5), protocol="kernel-1-reference"),))
    said = "local: timed by kernel-1-draft, kernel-1-sustained, against kernel-1-reference: which .*; keep one of them"
    with pytest.raises(UserError, match=said):
        compare(first, reference, force=True)
    with pytest.raises(
        UserError, match="timed by kernel-1-reference, against kernel-1-draft, kernel-1-sustained"
    ):
        compare(reference, first, force=True)


def test_sustained_records_are_compared_with_their_like() -> None:
    sustained = replace(timed("a", 5), protocol="kernel-1-sustained")
    found = compare(Results((timed("a", 5), sustained)), Results((replace(sustained, started="later"),)))
    assert {one.row.protocol for one in found.changes} == {"kernel-1-sustained"}
    assert len(found.only_before) == 1


def test_two_bundles_of_one_name_are_remarked_and_the_latest_counts() -> None:
    old = replace(timed("1" * 64, 9), bundle="net")
    new = replace(timed("2" * 64, 5), bundle="net")
    found = compare(Results((old, new)), Results((new,)))
    assert change(found, "p50 ms").percent == 0
    (remark,) = found.remarks
    assert "the first file holds several bundles named net on onnxruntime fp32 (11111111, 22222222)" in remark


def test_namesakes_are_remarked_where_only_their_accuracy_or_cost_is_known() -> None:
    olds = [replace(one("1" * 64), bundle="net") for one in (lambda name: judged(name, NMES), cost)]
    news = [replace(one, sha256="2" * 64) for one in olds]
    said = (
        "the first file holds several bundles named net on onnxruntime ? (11111111, 22222222);"
        " the latest records count"
    )
    files = [Results(accuracy=tuple(held)) for held in ((olds[0], news[0]), (news[0],))]
    assert compare(*files, "test").remarks == (said,)
    assert compare(*files[::-1], "test").remarks == (said.replace("first", "second"),)
    # Of faces that are not asked for nothing counts, so nothing is remarked.
    other = replace(olds[0], split="train")
    assert compare(Results(accuracy=(other, news[0])), files[1], "test").remarks == ()
    costs = [Results(cost=tuple(held)) for held in ((olds[1], news[1]), (news[1],))]
    assert compare(*costs).remarks == (said.replace("onnxruntime ?", "? fp32"),)


def test_what_a_phone_told_is_not_tested() -> None:
    found = compare(Results(told=(told("a", 2.0),)), Results(told=(told("a", 4.0),)))
    p50 = change(found, "p50 ms")
    assert (p50.percent, p50.verdict, p50.note) == (100.0, "not tested", "single calls were not told")
    assert found.worse == ()


def test_figures_of_zero_are_no_crash() -> None:
    nothing = replace(latency("a"), samples_ms=(0.0, 0.0))
    found = compare(Results((nothing,)), Results((latency("a"),)))
    assert (change(found, "p50 ms").percent, change(found, "p50 ms").note) == (None, "calls of 0 ms")
    perfect = compare(
        Results(accuracy=(judged("a", [0.0, 0.0]),)), Results(accuracy=(judged("a", [1.0, 1.0]),)), "test"
    )
    assert change(perfect, "NME %").percent is None
    assert json.loads(json.dumps(perfect.to_dict(), allow_nan=False))["changes"][0]["figure"] == "NME %"
