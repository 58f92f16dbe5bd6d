"""Landmark schemes and the metrics that rest on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import accuracy, area_under_ced, ced_points, image_nmes
from slimalign.runtimes.schemes import AFLW, COFW, SCHEMES, W300, WFLW, scheme_named, scheme_with

SCHEME_CASES = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


@SCHEME_CASES
def test_every_point_has_a_name_of_its_own(scheme):
    assert len(set(scheme.names)) == scheme.count


@SCHEME_CASES
def test_flipping_twice_gives_the_points_back(scheme):
    once = np.arange(scheme.count)[scheme.flip_indices]
    assert (once != np.arange(scheme.count)).any()
    np.testing.assert_array_equal(once[scheme.flip_indices], np.arange(scheme.count))


@SCHEME_CASES
def test_flipping_exchanges_the_eyes(scheme):
    left, right = scheme.eye_corners
    assert scheme.flip_indices[left] == right
    assert {int(scheme.flip_indices[i]) for i in scheme.pupils[0]} == set(scheme.pupils[1])


def test_the_published_eye_corners():
    assert (W300.eye_corners, WFLW.eye_corners, COFW.eye_corners) == ((36, 45), (60, 72), (8, 9))
    assert (WFLW.pupils, COFW.pupils) == (((96,), (97,)), ((16,), (17,)))


def test_normalising_distances_by_hand():
    points = np.zeros((1, 68, 2))
    points[0, 36], points[0, 45] = (10, 20), (40, 60)
    points[0, 0] = (-20, 0)
    distances = {name: W300.distances(points, name)[0] for name in ("inter-ocular", "box", "diagonal")}
    assert distances["inter-ocular"] == pytest.approx(50)  # a 3-4-5 triangle
    assert distances["box"] == pytest.approx(60)  # 60 wide, 60 high
    assert distances["diagonal"] == pytest.approx(60 * 2**0.5)
    # The eyes' centres are a sixth of their corners here, all other points being 0.
    assert W300.distances(points, "inter-pupil")[0] == pytest.approx(50 / 6)


def test_unknown_names_list_what_is_known():
    with pytest.raises(UserError, match="'300w'.*300w-68, wflw-98, cofw-29, aflw-19"):
        scheme_named("300w")
    with pytest.raises(
        UserError, match="no landmark scheme has 5 points; the known ones have 68, 98, 29, 19"
    ):
        scheme_with(5)
    with pytest.raises(UserError, match="normaliser 'eyes'.*inter-ocular"):
        AFLW.distances(np.ones((1, 19, 2)), "eyes")


def slow_nme(predicted, truth, distance):
    """Equation 5, written as the paper prints it."""
    n, m = truth.shape[:2]
    total = 0.0
    for i in range(n):
        for j in range(m):
            dx, dy = predicted[i, j] - truth[i, j]
            total += (dx * dx + dy * dy) ** 0.5 / (n * m * distance[i])
    return total


def test_nme_is_equation_5():
    rng = np.random.default_rng(1)
    truth, predicted = rng.uniform(0, 200, (2, 7, 98, 2))
    distance = np.hypot(*(truth[:, 72] - truth[:, 60]).T)
    nmes = image_nmes(predicted, truth, WFLW.distances(truth, "inter-ocular"))
    assert nmes.mean() == pytest.approx(100 * slow_nme(predicted, truth, distance))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_nme_for_points_that_are_not_finite(bad):
    truth = np.random.default_rng(0).uniform(0, 9, (1, 68, 2))
    predicted = truth.copy()
    predicted[0, 3, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        image_nmes(predicted, truth, W300.distances(truth, "inter-ocular"))


def test_failure_rate_and_auc_by_hand():
    figures = accuracy(np.array([2.0, 4.0, 10.0, 20.0]))
    assert (figures.images, figures.nme, figures.failure_rate) == (4, 9.0, 25.0)
    # Steps of a quarter from 2 to 10, from 4 to 10, and two of no width: (8 + 6) / 40.
    assert figures.auc == pytest.approx(35.0)


def test_no_images_is_a_mistake():
    with pytest.raises(UserError, match="no images"):
        accuracy(np.array([]))


@given(st.lists(st.floats(0, 30), min_size=1, max_size=50))
def test_auc_is_the_area_under_the_ced_points(nmes):
    errors, shares = ced_points(np.array(nmes), steps=20001)
    area = np.trapezoid(shares, errors) / 10.0
    assert area_under_ced(np.array(nmes)) == pytest.approx(area, abs=0.02)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=50))
def test_ced_rises_to_the_share_of_successes(nmes):
    _, shares = ced_points(np.array(nmes))
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] == pytest.approx(100 - accuracy(np.array(nmes)).failure_rate)
