"""Drawn faces as data: the same bytes for a seed, what a face carries, how much the faces differ."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from slimalign.compress.data.drawn import draw_face, drawn_samples, face_seed
from slimalign.compress.data.drawn.generate import _streams
from slimalign.compress.data.drawn.plan import random_plan
from slimalign.runtimes.crop import CropRule, transform_points
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW, COFW, SCHEMES, W300, WFLW, LandmarkScheme, Region

ALL = tuple(SCHEMES.values())


def test_a_seed_gives_the_same_bytes() -> None:
    first, again = draw_face(11, W300), draw_face(11, W300)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.points.tobytes() == again.points.tobytes()
    assert not np.array_equal(first.image, draw_face(12, W300).image)


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = [draw_face(seed, W300).image for seed in range(12)]
        cv2.setNumThreads(4)
        together = [draw_face(seed, W300).image for seed in range(12)]
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_picture_is_the_same_for_every_scheme() -> None:
    images = [draw_face(5, scheme).image for scheme in ALL]
    assert all(np.array_equal(images[0], image) for image in images[1:])


@pytest.mark.parametrize("scheme", ALL, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("size", [32, 97, 256])
def test_what_a_face_carries(scheme: LandmarkScheme, size: int) -> None:
    face = draw_face(3, scheme, size)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    assert face.points.shape == (scheme.count, 2)
    assert face.points.dtype == np.float64
    assert np.isfinite(face.points).all()
    assert face.occluded.shape == (scheme.count,)
    assert face.occluded.dtype == np.bool_
    x, y = face.points.T
    assert face.box.tolist() == [x.min(), y.min(), x.max(), y.max()]


def test_a_face_scales_with_its_picture() -> None:
    # Pixel centres: (p + 0.5) / size is the same place in a picture of any size.
    small, large = draw_face(8, WFLW, 128), draw_face(8, WFLW, 384)
    assert np.abs((small.points + 0.5) / 128 - (large.points + 0.5) / 384).max() < 0.006


@pytest.mark.parametrize(
    ("scheme", "of_300w"),
    [
        (
            COFW,
            {8: 36, 9: 45, 10: 39, 11: 42, 18: 31, 19: 35, 20: 30, 21: 33, 22: 48, 23: 54, 24: 51, 25: 62},
        ),
        (COFW, {26: 66, 27: 57, 28: 8, 0: 17, 1: 26}),
        (AFLW, {0: 17, 5: 26, 6: 36, 8: 39, 9: 42, 11: 45, 12: 31, 13: 30, 14: 35, 15: 48, 17: 54, 18: 8}),
    ],
    ids=["cofw", "cofw-more", "aflw"],
)
def test_schemes_agree_where_they_share_a_landmark(scheme: LandmarkScheme, of_300w: dict[int, int]) -> None:
    for seed in range(20):
        ours, theirs = draw_face(seed, scheme, 64).points, draw_face(seed, W300, 64).points
        assert np.array_equal(ours[list(of_300w)], theirs[list(of_300w.values())])


def test_98_points_hold_the_68() -> None:
    wflw_of_300w = [
        *range(0, 33, 2),
        *(33, 34, 35, 36, 37, 42, 43, 44, 45, 46),
        *(51, 52, 53, 54, 55, 56, 57, 58, 59),
        *(60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75),
        *range(76, 96),
    ]
    for seed in range(20):
        many, few = draw_face(seed, WFLW, 64), draw_face(seed, W300, 64)
        assert np.array_equal(many.points[wflw_of_300w], few.points)
        assert np.array_equal(many.occluded[wflw_of_300w], few.occluded)


def test_samples_are_drawn_when_loaded_and_do_not_depend_on_the_count() -> None:
    many, few = drawn_samples(13, COFW, seed=4, size=96), drawn_samples(2, COFW, seed=4, size=96)
    assert many[12].name == "drawn-4-00012"
    for a, b in zip(many, few, strict=False):
        assert a.name == b.name
        assert np.array_equal(a.points, b.points)
        assert np.array_equal(a.load(), b.load())
    face = draw_face(face_seed(4, 12), COFW, 96)
    assert np.array_equal(many[12].load(), face.image)
    assert np.array_equal(many[12].points, face.points)
    assert np.array_equal(many[12].occluded, face.occluded)
    assert np.array_equal(many[12].box, face.box)


def test_samples_can_be_sent_to_another_process() -> None:
    sample = drawn_samples(1, W300, seed=9, size=64)[0]
    assert np.array_equal(pickle.loads(pickle.dumps(sample)).load(), sample.load())


def test_no_samples_and_other_sets() -> None:
    assert drawn_samples(0, W300, seed=0) == []
    seeds = {face_seed(seed, number) for seed in range(30) for number in range(30)}
    assert len(seeds) == 900


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: draw_face(-1, W300), "seed -1"),
        (lambda: drawn_samples(1, W300, seed=-3), "seed -3"),
        (lambda: draw_face(0, W300, size=31), "size 31"),
        (lambda: drawn_samples(-2, W300, seed=0), "-2 drawn faces"),
    ],
)
def test_mistakes_are_told_in_one_line(call: object, word: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=word) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_scheme_that_cannot_be_drawn() -> None:
    dot = LandmarkScheme("dot-1", (Region("dot", (0,)),), (), (0, 0), ((0,), (0,)), 1)
    with pytest.raises(UserError, match=r"'dot-1' cannot be drawn; choose one of 300w-68"):
        draw_face(0, dot)


def test_faces_fill_the_picture_as_a_photograph_does() -> None:
    samples = drawn_samples(300, W300, seed=1)
    boxes = np.stack([sample.box for sample in samples])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 256
    # The box of the 98 points is 0.45 to 0.7 of the picture; that of the 68 is nearly the same.
    assert sides.min() > 0.4
    assert sides.max() <= 0.7001
    crops = np.array([CropRule(128).matrix(box) for box in boxes])
    corners = np.array([transform_points(np.array([[0.0, 0.0], [255.0, 255.0]]), matrix) for matrix in crops])
    whole = (corners[:, 0] <= 1.0).all(axis=1) & (corners[:, 1] >= 126.0).all(axis=1)
    assert 0.8 < whole.mean() < 0.99


def test_points_off_the_picture_are_occluded() -> None:
    cut = 0
    for sample in drawn_samples(400, WFLW, seed=2):
        off = ((sample.points < -0.5) | (sample.points > 255.5)).any(axis=1)
        assert sample.occluded[off].all()
        cut += bool(off.any())
    assert cut > 0


def test_subsets_follow_pose_and_things_in_front() -> None:
    samples = drawn_samples(400, W300, seed=3)
    shares = {
        label: np.mean([label in s.subsets for s in samples])
        for label in ("frontal", "large-pose", "occluded")
    }
    assert shares["frontal"] > 0.4
    assert 0.08 < shares["large-pose"] < 0.35
    assert 0.1 < shares["occluded"] < 0.4
    for number, sample in enumerate(samples):
        plan = random_plan(_streams(face_seed(3, number), 256)[0], 256)
        yaw = abs(np.degrees(plan.camera.yaw))
        assert yaw <= 60.0
        assert ("large-pose" in sample.subsets) == (yaw > 30.0)
        assert not {"frontal", "large-pose"} <= set(sample.subsets)


def test_points_under_an_object_are_occluded() -> None:
    seen = 0
    for seed in range(150):
        plan = random_plan(_streams(seed, 256)[0], 256)
        for mark in (mark for mark in plan.objects if mark.hides):
            outline = mark.points.astype(np.float32)
            inside = [cv2.pointPolygonTest(outline, (float(x), float(y)), True) > 0.01 for x, y in plan.wflw]
            assert plan.hidden[np.array(inside)].all()
            seen += sum(inside)
    assert seen > 300


def test_the_faces_differ() -> None:
    faces = [draw_face(face_seed(7, number), W300, 64) for number in range(150)]
    images = np.stack([face.image for face in faces]).astype(np.float64)
    # No picture is near the mean picture: the root mean square distance is a good part of the range.
    distance = np.sqrt(((images - images.mean(axis=0)) ** 2).mean(axis=(1, 2, 3)))
    assert distance.min() > 15.0
    # In the crop that a network sees, every landmark still moves by some percent of the crop.
    rule = CropRule(100)
    crops = np.stack([transform_points(face.points, rule.matrix(face.box)) for face in faces])
    spread = crops.std(axis=0)
    assert np.linalg.norm(spread, axis=1).min() > 4.0
    occluded = np.stack([face.occluded for face in faces]).mean(axis=0)
    assert (occluded > 0.0).all()
    assert occluded.max() < 0.6
