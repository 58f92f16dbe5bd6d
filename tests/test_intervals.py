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


def test_of_few_visits_one_less_is_drawn() -> None:
    assert percentile_intervals(np.array([1.0, 1.0, 3.0, 3.0]), [2, 2], [50]) == ((1.0, 3.0),)


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
