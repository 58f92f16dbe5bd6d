"""Intervals and tests against closed forms and full enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from slimalign.runtimes.intervals import (
    ALPHA,
    RESAMPLES,
    mean_interval,
    percentile_intervals,
    rate_interval,
    ratio_test,
    resampled_percentiles,
    sign_flip_p,
)
from slimalign.runtimes.timing import DRAFT, REFERENCE, Protocol


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).gamma(9, 0.4, 500)
    reach = 1.959964 * values.std(ddof=1) / math.sqrt(500)
    assert mean_interval(values) == pytest.approx(
        (values.mean() - reach, values.mean() + reach), abs=0.15 * reach
    )


@pytest.mark.parametrize("percent", [50, 90])
def test_the_interval_of_a_percentile_is_the_binomial_one(percent: int) -> None:
    # Of 2000 samples 0 to 1999 in any order, the rank of the percentile has a deviation of sqrt(n p (1 - p)).
    samples = np.random.default_rng(2).permutation(2000).astype(float)
    ((low, high),) = percentile_intervals(samples, [2000], [percent])
    share = percent / 100
    reach = 1.959964 * math.sqrt(2000 * share * (1 - share))
    assert (low, high) == pytest.approx((2000 * share - reach, 2000 * share + reach), abs=0.2 * reach)


def test_visits_that_differ_widen_the_interval_to_that_of_their_own() -> None:
    # 41 visits of equal calls: the median is that of 41 values, whose rank 21 has a deviation of sqrt(41) / 2.
    middles = np.random.default_rng(3).permutation(41).astype(float)
    ((low, high),) = percentile_intervals(np.repeat(middles, 30), [30] * 41, [50])
    reach = 1.959964 * math.sqrt(41) / 2
    assert (low, high) == pytest.approx((20 - reach, 20 + reach), abs=1.5)
    ((low, high),) = percentile_intervals(np.repeat(middles, 30), [41 * 30], [50])
    assert high - low < reach


@pytest.mark.parametrize(
    ("freedom", "t", "within"),
    [(2, 4.302653, 0.035), (3, 3.182446, 0.01), (9, 2.262157, 1e-3), (11, 2.200985, 1e-3)],
)
def test_few_visits_reach_as_far_as_students_t(freedom: int, t: float, within: float) -> None:
    """The table's t for 95 %; visits of one call: 1 ms in the middle, and as many slower as faster ones."""
    many = freedom // 2
    visits = np.array([0.8] * many + [1.0] * (freedom + 1 - 2 * many) + [1.25] * many)
    found = resampled_percentiles(visits, [1] * len(visits), [50])
    assert np.log(found.max()) == pytest.approx(t / 1.959964 * np.log(1.25), rel=within)


def test_the_calls_of_one_visit_are_not_widened() -> None:
    samples = np.array([1.0, 3.0])
    found = resampled_percentiles(samples, [2], [50])
    assert (found.min(), found.max()) == (1.0, 3.0)


def test_calls_of_no_time_have_an_interval() -> None:
    assert percentile_intervals(np.zeros(6), [2, 2, 2], [50, 90]) == ((0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize(("protocol", "calls"), [(DRAFT, 3), (DRAFT, 12), (REFERENCE, 86)])
def test_an_interval_holds_the_truth_as_often_as_it_says(protocol: Protocol, calls: int) -> None:
    """Visits differ by 3 %, calls by gamma-distributed delays of 4 %; the truth is that of very many visits."""
    rng = np.random.default_rng(7)
    percents = (50, 90)

    def run(visits: int) -> np.ndarray:
        return ((1 + rng.normal(0, 0.03, (visits, 1))) * (1 + rng.gamma(2, 0.02, (visits, calls)))).ravel()

    truth = np.percentile(run(20_000), percents)
    lengths = [calls] * protocol.rounds
    ends = np.array([percentile_intervals(run(protocol.rounds), lengths, percents) for _ in range(100)])
    holds = (ends[:, :, 0] <= truth) & (truth <= ends[:, :, 1])
    assert holds.mean(axis=0).min() >= 0.9


def test_a_longer_visit_counts_for_more() -> None:
    samples = np.array([9.0] + 999 * [1.0])
    assert percentile_intervals(samples, [1, 999], [50]) == ((1.0, 1.0),)


def test_long_measurements_are_drawn_in_portions() -> None:
    samples = np.random.default_rng(0).random(10_000)
    found = resampled_percentiles(samples, [2500] * 4, [50, 90])
    assert found.shape == (RESAMPLES, 2)
    np.testing.assert_allclose(found.mean(axis=0), [0.5, 0.9], atol=0.02)


@pytest.mark.parametrize("visits", [[2, 2], [3, 0], []])
def test_visits_that_do_not_make_up_the_samples_are_refused(visits: list[int]) -> None:
    with pytest.raises(ValueError, match="are not 3 samples"):
        percentile_intervals(np.ones(3), visits, [50])


@pytest.mark.parametrize(
    "differences", [[1, 2, 3, 4, 5, 6, 7], [1, -2, 3, -4, 5], [1, -1, 0.5, -0.5], [0, 0, 0]]
)
def test_flipped_signs_are_counted_as_by_going_through_all_of_them(differences: list[float]) -> None:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    exact = sum(total >= abs(sum(differences)) for total in sums) / len(sums)
    assert sign_flip_p(np.array(differences, dtype=float)) == pytest.approx(exact, abs=0.03)


def test_the_ratio_of_two_medians_has_the_interval_of_their_logarithms() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.normal(10, 0.5, 900), rng.normal(20, 1.0, 900)
    drawn = [
        resampled_percentiles(samples, [900], [50], seed)[:, 0]
        for seed, samples in enumerate((before, after))
    ]
    (low, high), p = ratio_test(*drawn)
    # A median of normals deviates by sqrt(pi / 2) s / sqrt(n): here by 1.2533 * 0.05 / 30 of itself, twice.
    reach = 1.959964 * math.sqrt(2) * 1.2533 * 0.05 / 30
    ratio = float(np.median(after) / np.median(before))
    assert (low, high) == pytest.approx((ratio * (1 - reach), ratio * (1 + reach)), abs=0.3 * reach * ratio)
    assert p == pytest.approx(1 / (RESAMPLES + 1))
    with pytest.raises(ValueError, match="0 or negative"):
        ratio_test(drawn[0], np.zeros(RESAMPLES))


@pytest.mark.parametrize("visits", [4, 12])
def test_runs_that_are_alike_are_seldom_called_different(visits: int) -> None:
    """Each visit has a pace of its own, as on a machine that drifts: single calls are no measure of that."""
    rng = np.random.default_rng(5)

    def run(seed: int) -> np.ndarray:
        samples = rng.normal(10, 0.3, (visits, 1)) + rng.normal(0, 0.1, (visits, 30))
        return resampled_percentiles(samples.ravel(), [30] * visits, [50], seed)[:, 0]

    found = [ratio_test(run(0), run(1))[1] < ALPHA for _ in range(100)]
    assert np.mean(found) <= 0.15


def test_a_rate_has_wilsons_interval() -> None:
    # Table values for 0 and 5 of 10.
    assert rate_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert rate_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
