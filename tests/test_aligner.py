"""The aligner: batches, memory used again, and the clock of its stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import CROPS, SIZE, expected_points, onnx_bundle

from slimalign.runtimes.aligner import LARGEST_BATCH, Aligner, Face
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import input_shape, network_inputs
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Float32
from slimalign.runtimes.stage_clock import StageClock

MANY = LARGEST_BATCH + 5


class CountingSession(OnnxRuntimeSession):
    """ONNX Runtime that remembers how many faces each run had, and where they lay."""

    def __init__(self, folder: Path, batch: int | None = None) -> None:
        super().__init__(onnx_bundle(folder, batch), threads=1)
        self.batches: list[int] = []
        self.places: set[int] = set()

    def run(self, inputs: Float32) -> Float32:
        self.batches.append(len(inputs))
        self.places.add(inputs.ctypes.data)
        return super().run(inputs)


def faces_in_a_row(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of ``number`` crops side by side, their boxes, and the points in it."""
    chosen = np.arange(number) % len(CROPS)
    left = SIZE * np.arange(number)[:, None]
    boxes = np.concatenate([left, 0 * left, left + SIZE, 0 * left + SIZE], axis=1) - 0.5
    points = expected_points(3)[chosen] + left[:, None] * [1.0, 0.0]
    return np.concatenate(list(CROPS[chosen]), axis=1), boxes, points


@pytest.mark.parametrize(("batch", "runs"), [(None, [LARGEST_BATCH, 5]), (4, [4] * 10)])
def test_a_crowd_goes_through_in_as_few_batches_as_there_may_be(
    tmp_path: Path, batch: int | None, runs: list[int]
) -> None:
    image, boxes, points = faces_in_a_row(MANY)
    with CountingSession(tmp_path, batch) as session:
        found = Aligner(session).align(image, boxes)
        assert session.batches == runs
    np.testing.assert_allclose(found.points, points, atol=1e-9)
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 4])
def test_answers_stay_while_the_memory_is_used_again(tmp_path: Path, batch: int | None) -> None:
    image, boxes, points = faces_in_a_row(3)
    with CountingSession(tmp_path, batch) as session:
        aligner = Aligner(session)
        first = aligner.align(image, boxes)
        second = aligner.align(image, boxes[::-1])
        third = aligner.align_crops(CROPS[:1])
        assert len(session.places) == 1
    np.testing.assert_allclose(first.points, points, atol=1e-9)
    np.testing.assert_allclose(second.points, points[::-1], atol=1e-9)
    np.testing.assert_allclose(third.points, expected_points(1), atol=1e-9)


def test_faces_in_different_images_are_found_as_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(40, 90), (300, 200), (64, 64), (1200, 900), (31, 47)] * 8
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    boxes = [np.array([0.1, 0.2, 0.8, 0.7]) * [*size[::-1], *size[::-1]] for size in sizes]
    faces = [Face(image, box) for image, box in zip(images, boxes, strict=True)]
    with CountingSession(tmp_path) as session:
        aligner = Aligner(session)
        found = aligner.align_faces(faces)
        assert session.batches == [LARGEST_BATCH, len(faces) - LARGEST_BATCH]
        one_by_one = [aligner.align(face.image, face.box[None]) for face in faces]
    np.testing.assert_array_equal(found.points, np.concatenate([one.points for one in one_by_one]))
    np.testing.assert_array_equal(found.scores, np.concatenate([one.scores for one in one_by_one]))


def test_as_many_faces_go_through_at_once_as_is_asked_for(tmp_path: Path) -> None:
    image, boxes, points = faces_in_a_row(MANY)
    with CountingSession(tmp_path) as session:
        found = Aligner(session, largest_batch=MANY).align(image, boxes)
        assert session.batches == [MANY]
    np.testing.assert_allclose(found.points, points, atol=1e-9)


def test_a_face_of_another_kind_is_refused_among_others(tmp_path: Path) -> None:
    good = Face(CROPS[0], np.array([0.0, 0.0, 9.0, 9.0]))
    with CountingSession(tmp_path) as session:
        for bad, said in (
            (good._replace(image=CROPS[0, ..., 0]), r"\(H, W, 3\) uint8 RGB is needed"),
            (good._replace(box=good.box + 20), "box 20,20,29,29: outside the image of 16x16 pixels"),
        ):
            with pytest.raises(UserError, match=said):
                Aligner(session).align_faces([good, bad])
        assert session.batches == []
        assert Aligner(session).align_faces([]).points.shape == (0, 19, 2)


def test_the_clock_is_told_every_stage(tmp_path: Path) -> None:
    image, boxes, _ = faces_in_a_row(2)
    clock = StageClock()
    with CountingSession(tmp_path) as session:
        aligner = Aligner(session, clock)
        assert aligner.clock is clock
        aligner.align(image, boxes)
        assert list(clock.seconds) == ["crop", "network", "decode"]
        before = dict(clock.seconds)
        aligner.align_crops(CROPS)
    assert all(clock.seconds[stage] > before[stage] > 0 for stage in before)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_inputs_are_written_where_they_are_wanted(tmp_path: Path, layout: str) -> None:
    manifest = onnx_bundle(tmp_path, layout=layout, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).manifest
    out = np.full((len(CROPS), *input_shape(manifest)), np.nan, dtype=np.float32)
    assert network_inputs(CROPS, manifest, out=out) is out
    np.testing.assert_array_equal(out, network_inputs(CROPS, manifest))


@pytest.mark.parametrize("side", [20.0, 150.0, 700.0, 1e9])
def test_a_crop_is_written_where_it_is_wanted(side: float) -> None:
    """Enlarged, reduced, averaged, and too large to see anything; what lay there before is gone."""
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    box = np.array([80 - side / 2, 60 - side / 2, 80 + side / 2, 60 + side / 2])
    rule = CropRule(32)
    crops = np.full((3, 32, 32, 3), 77, dtype=np.uint8)
    assert rule.crop(image, box, out=crops[1]).ctypes.data == crops[1].ctypes.data
    np.testing.assert_array_equal(crops[1], rule.crop(image, box))
    assert (crops[[0, 2]] == 77).all()


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 5), (1, 2, 4)])
def test_boxes_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with CountingSession(tmp_path) as session, pytest.raises(UserError, match=r"\(F, 4\) is needed"):
        Aligner(session).align(CROPS[0], np.ones(shape))


@pytest.mark.parametrize("side", [101 * SIZE, 1e160, 1e300])
def test_a_box_far_larger_than_the_image_is_refused(tmp_path: Path, side: float) -> None:
    box = np.array([[-side / 2, -side / 2, side / 2, side / 2]])
    with CountingSession(tmp_path) as session, pytest.raises(UserError, match="more than 100 times as large"):
        Aligner(session).align(CROPS[0], box)


def test_no_boxes_give_no_faces(tmp_path: Path) -> None:
    with CountingSession(tmp_path) as session:
        assert Aligner(session).align(CROPS[0], np.zeros((0, 4))).points.shape == (0, 19, 2)
