"""Crop geometry and heatmap decoding."""

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.runtimes.crop import CropRule, invert, tight_box, transform_points
from slimalign.runtimes.decode import DECODERS, decode
from slimalign.runtimes.errors import UserError

boxes = st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(20, 400), st.floats(20, 400)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


def test_the_crop_square_by_hand():
    # A box 80 wide and 40 high about (99.5, 59.5): the square of side 100 spans pixels 50..149 and 10..109.
    matrix = CropRule(size=100).matrix(np.array([59.5, 39.5, 139.5, 79.5]))
    np.testing.assert_allclose(
        transform_points(np.array([[50.0, 10.0], [149.0, 109.0]]), matrix), [[0, 0], [99, 99]]
    )


def test_half_size_keeps_pixel_edges_in_place():
    # Two image pixels become one: pixel centres 0 and 1 map to -0.25 and 0.25.
    matrix = CropRule(size=50, box_scale=1.0).matrix(np.array([-0.5, -0.5, 99.5, 99.5]))
    np.testing.assert_allclose(transform_points(np.array([[0.0, 1.0]]), matrix), [[-0.25, 0.25]])


@given(boxes, st.integers(16, 300))
def test_points_come_back_from_the_crop(box, size):
    points = np.random.default_rng(0).uniform(-100, 500, (68, 2))
    matrix = CropRule(size).matrix(box)
    np.testing.assert_allclose(
        transform_points(transform_points(points, matrix), invert(matrix)), points, atol=1e-8
    )


@settings(deadline=None, max_examples=25)
@given(st.floats(60, 420), st.floats(180, 320), st.floats(180, 320), st.integers(24, 128))
def test_a_blob_lands_where_the_matrix_says(side, x, y, size):
    """The resampled picture agrees with the matrix, whether the crop shrinks or enlarges."""
    sigma = 0.06 * side
    grid = np.arange(512)
    blob = np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * sigma**2))
    image = np.repeat((255 * blob)[..., None], 3, axis=2).astype(np.uint8)
    centre = np.array([x + 0.2 * side, y - 0.1 * side])
    box = np.concatenate([centre - side / 2, centre + side / 2])
    rule = CropRule(size)
    weights = rule.crop(image, box)[..., 0].astype(float)
    moments = cv2.moments(weights)
    found = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    np.testing.assert_allclose(found, transform_points(np.array([x, y]), rule.matrix(box)), atol=0.06)


@settings(deadline=None, max_examples=100)
@given(boxes, st.integers(16, 128))
def test_the_part_that_a_crop_looks_at_is_enough_for_it(box, size):
    """Of a bright picture: were a pixel lacking in the part, the crop would be dark there."""
    y, x = np.mgrid[:260, :340]
    image = np.stack([150 + x // 4, 150 + y // 4, 150 + (x + y) // 8], axis=2).astype(np.uint8)
    rule = CropRule(size)
    part, box_there = rule.looked_at(image, box)
    there, here = rule.crop(part, box_there), rule.crop(image, box)
    assert np.abs(there.astype(int) - here).max() <= 1
    side = 1.25 * max(box[2] - box[0], box[3] - box[1])
    assert max(part.shape[:2]) <= side + 2 * (3 * max(side / size, 1) + 4)
    assert part.base is None


def test_strong_reduction_does_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    crop = CropRule(size=50, box_scale=1.0).crop(stripes, np.array([40.0, 40.0, 340.0, 340.0]))
    assert np.abs(crop.astype(int) - 100).max() <= 2


def test_outside_the_image_is_black():
    image = np.full((100, 100, 3), 255, np.uint8)
    crop = CropRule(size=60, box_scale=1.0).crop(image, np.array([-60.0, -60.0, 60.0, 60.0]))
    assert crop[:29, :29].max() == 0
    assert crop[32:, 32:].min() == 255


@pytest.mark.parametrize("shape", [(100, 100, 3), (10, 5000, 3)])
@pytest.mark.parametrize("side", [1e4, 3e4, 1e5, 4e6, 1e7, 1e30])
def test_a_huge_box_costs_about_the_memory_of_the_image(shape, side):
    image = np.full(shape, 255, np.uint8)
    corner = np.array([shape[1] - side, shape[0] - side]) / 2
    tracemalloc.start()
    crop = CropRule(size=16, box_scale=1.0).crop(image, np.concatenate([corner, corner + side]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert crop.shape == (16, 16, 3)
    assert peak < 5 * image.nbytes


@pytest.mark.parametrize("side", [1024, 2048, 4096])
@pytest.mark.parametrize("place", [(0, 0), (150, 30), (-190, 60)])
def test_a_box_far_larger_than_the_image_sees_black_around_it(side, place):
    image = np.random.default_rng(0).integers(0, 256, (180, 300, 3), dtype=np.uint8)
    corner = np.array([150, 90]) + np.array(place) - side / 2
    box = np.concatenate([corner, corner + side])
    rule = CropRule(size=4, box_scale=1.0)
    crop = rule.crop(image, box)
    wide = np.pad(image, ((1024, 1024), (1024, 1024), (0, 0)))
    np.testing.assert_array_equal(crop, rule.crop(wide, box + 1024))
    assert crop.max() > 0


@pytest.mark.parametrize("side", [512, 1024])
def test_no_light_is_lost_where_a_pixel_of_the_crop_is_larger_than_the_image(side):
    image = np.full((100, 100, 3), 255, np.uint8)
    crop = CropRule(size=4, box_scale=1.0).crop(image, np.array([-side, -side, side, side]) / 2 + 50)
    # Each crop pixel is the mean over (side / 4) ** 2 pixels of the image; at most four are not black.
    assert crop[..., 0].sum() == pytest.approx(255 * 100**2 / (side / 4) ** 2, abs=4 * 0.5 + 0.5)


@pytest.mark.parametrize("box", [(10, 10, 10, 10), (20, 5, 10, 2), (0, 0, np.nan, 5)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(UserError, match="x1 > x0"):
        CropRule(64).matrix(np.array(box, float))


def test_tight_box():
    np.testing.assert_array_equal(tight_box(np.array([[3.0, 9.0], [5.0, 1.0]])), [3, 1, 5, 9])


def gaussian(x, y, size=32, sigma=1.5):
    grid = np.arange(size)
    return np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * sigma**2))


centres = st.floats(4, 27)


@given(centres, centres)
def test_argmax_quarter_is_within_a_quarter(x, y):
    points, scores = decode(gaussian(x, y)[None, None], 1, "argmax-quarter")
    assert np.abs(points[0, 0] - (x, y)).max() <= 0.26
    assert scores[0, 0] == gaussian(x, y).max()


@given(centres, centres)
def test_local_mean_finds_gaussians_to_a_fraction_of_a_pixel(x, y):
    points, _ = decode(gaussian(x, y, sigma=1.0)[None, None], 1, "local-mean")
    assert np.abs(points[0, 0] - (x, y)).max() < 0.06


@given(centres, centres)
def test_local_softmax_reads_log_gaussians(x, y):
    points, scores = decode(np.log(gaussian(x, y, sigma=1.0) + 1e-9)[None, None], 1, "local-softmax")
    assert np.abs(points[0, 0] - (x, y)).max() < 0.06
    assert 0.9 < scores[0, 0] <= 1


def slow_argmax_quarter(heatmap):
    """The paper's decoder for one heatmap, in plain loops."""
    height, width = heatmap.shape
    y, x = max(((r, c) for r in range(height) for c in range(width)), key=lambda p: heatmap[p])
    px, py = float(x), float(y)
    if 0 < x < width - 1:
        px += 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
    if 0 < y < height - 1:
        py += 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return px, py


def test_argmax_quarter_against_plain_loops():
    heatmaps = np.random.default_rng(2).normal(size=(3, 5, 9, 12))
    points, _ = decode(heatmaps, 1, "argmax-quarter")
    expected = [[slow_argmax_quarter(h) for h in row] for row in heatmaps]
    np.testing.assert_allclose(points, expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_stride_uses_pixel_centres(decoder):
    # A peak alone in heatmap pixel 3 covers crop pixels 12..15, whose middle is 13.5.
    heatmap = np.full((1, 1, 8, 8), -1e4 if decoder == "local-softmax" else 0.0)
    heatmap[0, 0, 3, 3] = 1.0
    points, _ = decode(heatmap, 4, decoder)
    np.testing.assert_allclose(points[0, 0], (13.5, 13.5))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_peak_in_the_corner_stays_in_the_crop(decoder):
    heatmap = np.zeros((1, 1, 8, 8))
    heatmap[0, 0, 7, 0] = 50.0
    points, _ = decode(heatmap, 4, decoder)
    assert (points >= -0.5).all()
    assert (points <= 31.5).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_peak_is_the_largest_value_however_little_it_exceeds_another(decoder):
    """A float32 softmax makes equals of logits 1e-8 apart, of which an earlier one must not win."""
    heatmap = np.zeros((1, 1, 16, 16), np.float32)
    heatmap[0, 0, 2, 2], heatmap[0, 0, 13, 13] = 1e-3, np.nextafter(np.float32(1e-3), np.float32(1))
    points, _ = decode(heatmap, 1, decoder)
    assert np.abs(points[0, 0] - 13).max() < 1


def test_a_dead_heatmap_gives_finite_points():
    points, scores = decode(np.zeros((1, 2, 8, 8)), 4, "local-mean")
    assert np.isfinite(points).all()
    assert (scores == 0).all()


def test_bad_heatmaps_and_decoders_are_refused():
    with pytest.raises(UserError, match="NaN or infinite"):
        decode(np.full((1, 1, 4, 4), np.nan), 4, "local-mean")
    with pytest.raises(UserError, match="decoder 'dark' is unknown; choose one of argmax-quarter"):
        decode(np.zeros((1, 1, 4, 4)), 4, "dark")
