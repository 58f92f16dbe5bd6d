"""One-Euro smoothing and its lag, jitter, and faces followed from frame to frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from cells import LANDMARKS, cell_weights, onnx_network, write_manifest
from dots import PICTURE, dot_bench, dotted_face
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.batches import MEAN
from slimalign.export.bundle_writer import write_bundle
from slimalign.passes import Figures
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import jitter
from slimalign.runtimes.smoothing import OneEuro, Smoothing
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import Tracker, new_faces

FPS = 25.0
FACES = [dotted_face(1), dotted_face(2)]
NEAR = 6
"""Pixels; the dots are 16 apart, and a heatmap's pixel is about five."""


def one_euro_of_the_paper(values: list[float], times: list[float], parameters: Smoothing) -> list[float]:
    """The paper's algorithm 1 for one number, written out."""
    found, speed = [values[0]], 0.0
    for value, before, now in zip(values[1:], times, times[1:], strict=False):
        period = now - before

        def alpha(cutoff: float, period: float = period) -> float:
            return 1 / (1 + (1 / (2 * np.pi * cutoff)) / period)

        share = alpha(parameters.speed_cutoff_hz)
        speed = share * (value - found[-1]) / period + (1 - share) * speed
        share = alpha(parameters.min_cutoff_hz + parameters.beta * abs(speed))
        found.append(share * value + (1 - share) * found[-1])
    return found


@given(
    steps=st.lists(st.tuples(st.floats(-50, 50), st.floats(0.01, 0.2)), min_size=2, max_size=20),
    beta=st.floats(0, 5),
    size=st.floats(10, 200),
)
def test_points_are_smoothed_as_the_paper_says_with_speeds_in_sizes_of_the_face(
    steps: list[tuple[float, float]], beta: float, size: float
) -> None:
    parameters = Smoothing(min_cutoff_hz=1.5, beta=beta, speed_cutoff_hz=0.8)
    values, times = [value for value, _ in steps], list(np.cumsum([period for _, period in steps]))
    expected = one_euro_of_the_paper([value / size for value in values], times, parameters)
    smoother = OneEuro(parameters)
    # Along x alone the speed in the plane is that of x.
    found = [
        smoother.smooth(np.array([[value, 7.0]]), now, size)[0]
        for value, now in zip(values, times, strict=True)
    ]
    np.testing.assert_allclose(found, [(size * value, 7.0) for value in expected], rtol=1e-9, atol=1e-9)


def test_a_steady_movement_comes_behind_by_the_lag_that_is_reported() -> None:
    smoother = OneEuro(Smoothing(min_cutoff_hz=2.0, beta=0.0, speed_cutoff_hz=1.0))
    for number in range(200):
        time_s = number / FPS
        found = smoother.smooth(np.array([[30 * time_s, -10 * time_s]]), time_s, size=100.0)
    assert smoother.lag_s == pytest.approx([1 / (2 * np.pi * 2.0)])
    np.testing.assert_allclose(found[0], np.array([30, -10]) * (time_s - smoother.lag_s[0]), rtol=1e-9)


def test_swift_points_lag_less_than_slow_ones() -> None:
    smoother = OneEuro(Smoothing(min_cutoff_hz=1.0, beta=10.0, speed_cutoff_hz=1.0))
    for number in range(200):
        smoother.smooth(np.array([[0.0, 0.0], [3.0 * number, 4.0 * number]]), number / FPS, size=50.0)
    # 5 pixels a frame are 2.5 sizes a second, and the speed is taken from the last smoothed point, which lags: the
    # cutoff c is 1 + 10 * 2.5 * (1 + lag * FPS), and the lag 1 / (2 pi c).
    cutoff = 13 + np.sqrt(13**2 + 25 * FPS / (2 * np.pi))
    assert smoother.lag_s == pytest.approx([1 / (2 * np.pi), 1 / (2 * np.pi * cutoff)], rel=1e-6)


def test_what_is_done_to_smoothed_points_does_not_come_back() -> None:
    given = np.ones((2, 2))
    smoother = OneEuro(Smoothing())
    smoother.smooth(given, 0.0, 10.0)[:] = 100.0
    given[:] = 100.0
    smoother.smooth(np.ones((2, 2)), 1.0, 10.0)[:] = 100.0
    np.testing.assert_array_equal(smoother.smooth(np.ones((2, 2)), 2.0, 10.0), np.ones((2, 2)))


def test_the_lag_of_a_pass_is_that_of_the_points_that_move() -> None:
    figures = Figures()
    figures.lag(np.array([0.2, 0.01]), speeds=np.array([0.0, 3.0]))
    assert figures.to_dict()["lag_ms"] == pytest.approx(10.0)
    figures.lag(np.array([0.2, 0.05]), speeds=np.array([0.0, 1.0]))
    assert figures.to_dict()["lag_ms"] == pytest.approx((3 * 10 + 50) / 4)


@pytest.mark.parametrize("time_s", [1.0, 0.5, np.nan])
def test_a_frame_that_is_not_later_is_refused(time_s: float) -> None:
    smoother = OneEuro(Smoothing())
    smoother.smooth(np.zeros((2, 2)), 1.0, 10.0)
    with pytest.raises(UserError, match=f"a frame at {time_s:g} s after one at 1 s"):
        smoother.smooth(np.zeros((2, 2)), time_s, 10.0)


@pytest.mark.parametrize("wrong", [{"min_cutoff_hz": 0.0}, {"beta": -1.0}, {"speed_cutoff_hz": np.nan}])
def test_smoothing_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="both cutoffs must be above 0"):
        Smoothing(**wrong)


def test_jitter_is_the_95th_percentile_of_the_movements() -> None:
    # 21 points; number n moves n pixels along (0.6, 0.8) and back again: of 0 ... 20 the percentile is 19.
    there = np.arange(21)[:, None] * np.array([0.6, 0.8])
    points = np.stack([np.zeros((21, 2)), there, np.zeros((21, 2))])
    assert jitter(points) == pytest.approx(19.0)
    with pytest.raises(UserError, match="jitter over 1 frames"):
        jitter(points[:1])


@pytest.fixture(scope="module")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aligner]:
    bundle = write_bundle(tmp_path_factory.mktemp("dots") / "dots", dot_bench([], []), "torch")
    with open_bundle(bundle, threads=1) as session:
        yield Aligner(session)


def scene(*places: tuple[int, int, int]) -> np.ndarray:
    """A grey image with faces: each is the number of one of ``FACES`` and where its picture's corner is, x and y."""
    image = np.empty((200, 400, 3), dtype=np.uint8)
    image[:] = np.round(np.array(MEAN) * 255)
    for number, x, y in places:
        image[y : y + PICTURE, x : x + PICTURE] = FACES[number].load()
    return image


def box_of(number: int, x: int, y: int) -> np.ndarray:
    return FACES[number].box + np.array([x, y, x, y])


def points_of(number: int, x: int, y: int) -> np.ndarray:
    return FACES[number].points + np.array([x, y])


class Finder:
    """Gives what ``boxes`` holds, and counts how often it was asked."""

    def __init__(self, *boxes: np.ndarray) -> None:
        self.boxes, self.asked = list(boxes), 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.array(self.boxes).reshape(-1, 4)


def tracker(
    aligner: Aligner,
    finder: Finder,
    least_score: float = 0.9,
    find_every: int = 0,
    smoothing: Smoothing | None = None,
) -> Tracker:
    return Tracker(aligner, finder, StageClock(), least_score, find_every, smoothing)


def test_a_face_that_moves_is_followed_by_its_landmarks_alone(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20))
    follow = tracker(aligner, finder).follow
    for frame in range(30):
        x, y = 10 + 5 * frame, 20 + frame
        (face,) = follow(scene((0, x, y)), frame / FPS)
        assert face.number == 0
        assert np.abs(face.seen.points - points_of(0, x, y)).max() < NEAR
        np.testing.assert_array_equal(face.smoothed, face.seen.points)
    assert finder.asked == 1


def test_a_face_at_rest_keeps_its_box(aligner: Aligner) -> None:
    follow = tracker(aligner, Finder(box_of(0, 10, 20) + np.array([-4, 3, 5, 2]))).follow
    boxes = [follow(scene((0, 10, 20)), frame / FPS)[0].seen.box for frame in range(4)]
    np.testing.assert_array_equal(boxes[1], boxes[3])


def test_a_lost_face_is_looked_for_until_it_is_found_and_is_then_a_new_one(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20))
    follow = tracker(aligner, finder, smoothing=Smoothing()).follow
    for frame in range(3):
        (face,) = follow(scene((0, 10, 20)), frame / FPS)
    assert (face.lag_s > 0).all()
    assert follow(scene(), 3 / FPS) == []
    assert follow(scene((0, 200, 60)), 4 / FPS) == []  # the finder still says where it was
    finder.boxes = [box_of(0, 200, 60)]
    (again,) = follow(scene((0, 200, 60)), 5 / FPS)
    assert again.number == 1
    np.testing.assert_array_equal(again.smoothed, again.seen.points)
    assert (again.lag_s == 0).all()
    assert finder.asked == 4


def test_a_face_found_again_at_its_place_in_the_same_frame_keeps_number_and_filter(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 100, 40))
    follow = tracker(aligner, finder, least_score=0.965, smoothing=Smoothing()).follow
    follow(scene((0, 100, 40)), 0.0)
    # So far that points leave the crop, and near enough that the boxes overlap.
    finder.boxes = [box_of(0, 130, 40)]
    (face,) = follow(scene((0, 130, 40)), 1 / FPS)
    assert (face.number, finder.asked) == (0, 2)
    assert np.abs(face.smoothed - face.seen.points).max() > 0.1


def test_two_faces_keep_their_numbers_when_one_of_them_goes(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20), box_of(1, 250, 20))
    follow = tracker(aligner, finder, smoothing=Smoothing()).follow
    both = follow(scene((0, 10, 20), (1, 250, 20)), 0.0)
    assert [face.number for face in both] == [0, 1]
    finder.boxes = [box_of(1, 250, 20)]
    (left,) = follow(scene((1, 250, 20)), 1 / FPS)
    assert left.number == 1
    assert np.abs(left.smoothed - points_of(1, 250, 20)).max() < NEAR
    # It is looked for in every frame, and where it was even when the finder does not see it.
    again = follow(scene((0, 10, 20), (1, 250, 20)), 2 / FPS)
    assert [face.number for face in again] == [0, 1]
    assert finder.asked == 3


def test_a_face_hidden_for_some_frames_comes_back_with_its_number_and_filter(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20), box_of(1, 250, 20))
    follow = tracker(aligner, finder, smoothing=Smoothing()).follow
    follow(scene((0, 10, 20), (1, 250, 20)), 0.0)
    for frame in (1, 2):
        assert [face.number for face in follow(scene((1, 250, 20)), frame / FPS)] == [1]
    finder.boxes = [box_of(0, 30, 24)]
    back, _ = follow(scene((0, 30, 24), (1, 250, 20)), 3 / FPS)
    assert back.number == 0
    # The filter goes on from where the face was last.
    behind = back.seen.points - back.smoothed
    assert (back.lag_s > 0).all()
    assert 0.05 < behind[:, 0].mean() < 20


def test_after_a_second_a_face_that_comes_is_a_new_one_and_the_detector_rests(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20), box_of(1, 250, 20))
    follow = tracker(aligner, finder).follow
    follow(scene((0, 10, 20), (1, 250, 20)), 0.0)
    for frame in range(1, 30):
        follow(scene((1, 250, 20)), frame / FPS)
    assert finder.asked == 1 + 25  # it was last seen at 0 s, and is forgotten after 1 s
    finder = Finder(box_of(0, 10, 20))
    follow = tracker(aligner, finder).follow
    follow(scene((0, 10, 20)), 0.0)
    follow(scene(), 1.0)
    assert follow(scene((0, 10, 20)), 2.1)[0].number == 1


def test_given_boxes_are_looked_at_again_for_as_long_as_a_face_is_missing(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20), box_of(1, 250, 20))
    follow = Tracker(aligner, finder, StageClock(), least_score=0.9, most=2).follow
    follow(scene((0, 10, 20), (1, 250, 20)), 0.0)
    assert len(follow(scene((1, 250, 20)), 5.0)) == 1
    assert len(follow(scene((1, 250, 20)), 10.0)) == 1
    assert len(follow(scene((0, 10, 20), (1, 250, 20)), 15.0)) == 2


def test_a_face_that_has_drifted_is_put_where_the_detector_finds_it(aligner: Aligner) -> None:
    # Laid badly at first, and nothing is too bad to be a face: its points lie wrong until the detector looks again.
    finder = Finder(box_of(0, 140, 40))
    follow = tracker(aligner, finder, least_score=-np.inf, find_every=3).follow
    errors = []
    for frame in range(6):
        (face,) = follow(scene((0, 100, 40)), frame / FPS)
        errors.append(np.abs(face.seen.points - points_of(0, 100, 40)).max())
        finder.boxes = [box_of(0, 100, 40)]
    assert face.number == 0
    assert min(errors[:3]) > NEAR > max(errors[3:])


def test_a_face_that_moves_far_is_looked_at_again_where_it_is(aligner: Aligner) -> None:
    follow = tracker(aligner, Finder(box_of(0, 100, 40))).follow
    follow(scene((0, 100, 40)), 0.0)
    (near,) = follow(scene((0, 101, 40)), 1 / FPS)
    (far,) = follow(scene((0, 108, 46)), 2 / FPS)
    assert np.abs(near.seen.box - box_of(0, 100, 40)).max() < 5
    assert np.abs(far.seen.box - box_of(0, 108, 46)).max() < 5


def blind_bundle(folder: Path) -> Bundle:
    """A network that finds every second point at the top left of the crop and the others at the bottom right."""
    heatmaps = np.zeros((1, LANDMARKS, 4, 4), dtype=np.float32)
    heatmaps[:, 0::2, 0, 0] = heatmaps[:, 1::2, 3, 3] = 1.0
    model = onnx_network("n")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(0 * cell_weights(), "weights"))
    model.graph.node[1].output[0] = "nothing"
    model.graph.node.append(helper.make_node("Add", ["nothing", "fixed"], ["heatmaps"]))
    model.graph.initializer.append(numpy_helper.from_array(heatmaps, "fixed"))
    onnx.save(model, folder / "model.onnx")
    return write_manifest(folder, "model.onnx", box_scale=2.0)


def test_a_face_that_grows_larger_than_the_picture_is_lost(tmp_path: Path) -> None:
    # The points' box is three quarters of the crop, which is twice the box: it grows by half in every frame.
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    with open_bundle(blind_bundle(tmp_path), threads=1) as session:
        follow = tracker(Aligner(session), Finder(np.array([40.0, 20, 60, 40])), least_score=-np.inf).follow
        seen = [follow(image, frame / FPS) for frame in range(60)]
    widths = [np.ptp(face.seen.points[:, 0]) for faces in seen for face in faces]
    assert 100 < max(widths) <= 300
    assert max(face.number for faces in seen for face in faces) > 0


def test_a_detector_is_asked_for_new_faces_now_and_then(aligner: Aligner) -> None:
    finder = Finder(box_of(0, 10, 20), box_of(1, 250, 20))
    follow = tracker(aligner, finder, find_every=3).follow
    numbers = []
    for frame in range(7):
        places = [(0, 10, 20), (1, 250, 20)] if frame >= 1 else [(0, 10, 20)]
        numbers.append([face.number for face in follow(scene(*places), frame / FPS)])
    assert numbers == [[0], [0], [0], *[[0, 1]] * 4]
    assert finder.asked == 3


def test_two_boxes_of_one_face_give_one(aligner: Aligner) -> None:
    boxes = np.stack([box_of(0, 10, 20), box_of(0, 16, 16), box_of(1, 250, 20)])
    faces = new_faces(aligner, scene((0, 10, 20), (1, 250, 20)), boxes, least_score=0.9)
    assert len(faces) == 2
    for face, number, place in zip(faces, (0, 1), ((10, 20), (250, 20)), strict=True):
        assert np.abs(face.points - points_of(number, *place)).max() < NEAR


def test_a_box_that_holds_no_face_or_lies_outside_is_refused(aligner: Aligner) -> None:
    boxes = np.stack([box_of(0, 250, 20), box_of(0, 900, 20), box_of(0, 10, 20)])
    (face,) = new_faces(aligner, scene((0, 10, 20)), boxes, least_score=0.9)
    assert np.abs(face.points - points_of(0, 10, 20)).max() < NEAR
    # Where the network looked the second time: about what it found the first.
    assert np.abs(face.box - box_of(0, 10, 20)).max() < NEAR
