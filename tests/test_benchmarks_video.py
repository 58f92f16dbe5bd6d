"""Figures of a tracked drawn film, and of a detector's boxes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import dot_bench, dotted_faces

from slimalign.benchmarks import detector_boxes, drawn_video
from slimalign.benchmarks.drawn_video import Paths, measured, trailing_s
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.drawn.film import FilmPlan, drawn_film
from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW

FPS = 20.0


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("dots") / "dots", dot_bench([], []), "torch")


def two_points(smoothed_by: float) -> Paths:
    """20 frames of movement by (3, 4) a frame, then 20 of rest; found 1 pixel to the right and, at rest, shaking.

    The smoothed points trail by ``smoothed_by`` frames and do not shake.
    """
    steps = np.minimum(np.arange(40), 19)[:, None, None] * np.array([3.0, 4.0])
    true = np.zeros((40, 2, 2)) + steps
    still = np.arange(40) > 19
    raw = true + np.array([1.0, 0.0])
    raw[still, :, 1] += np.where(np.arange(20) % 2, 0.5, -0.5)[:, None]
    smoothed = true + np.array([1.0, 0.0])
    smoothed[~still] -= smoothed_by * np.array([3.0, 4.0])
    lags = np.where(still, 0.2, 0.01)
    return Paths(true, raw, smoothed, np.full(40, 50.0), still, lags, FPS)


def test_the_figures_of_a_film_are_those_of_its_paths() -> None:
    found = measured(two_points(smoothed_by=0.5))
    raw, smoothed = found["raw"], found["smoothed"]
    assert raw["jitter_px"] == pytest.approx(1.0)
    assert raw["jitter_percent"] == pytest.approx(2.0)
    assert smoothed["jitter_px"] == 0.0
    assert raw["moving"]["error_px"] == pytest.approx(1.0)
    assert raw["moving"]["error_without_offset_px"] == pytest.approx(0.0)
    assert raw["still"]["error_px"] == pytest.approx(np.hypot(1, 0.5))
    assert raw["still"]["error_without_offset_percent"] == pytest.approx(1.0)
    assert smoothed["still"]["error_percent"] == pytest.approx(2.0)
    # Half a frame of (3, 4) behind.
    assert smoothed["moving"]["error_without_offset_px"] == pytest.approx(2.5)
    assert found["lag_ms"] == pytest.approx({"still": 200.0, "moving": 10.0})


def test_the_lag_is_found_in_the_movement() -> None:
    paths = two_points(smoothed_by=0.5)
    # All frames move but the last of them, whose velocity is half, as no frame goes on from it.
    assert trailing_s(paths) == pytest.approx(0.5 / FPS * (19 + 0.5) / (19 + 0.25))


def test_a_film_is_tracked_and_shown_side_by_side(dots: Bundle, tmp_path: Path) -> None:
    plan = FilmPlan(size=160, fps=10.0, moving_s=1.0, still_s=1.0)
    frames = list(drawn_film(plan, AFLW))
    with open_bundle(dots, threads=1) as session:
        # Of drawn faces the finder of dots is never sure.
        finder = drawn_video.finder(None)
        paths = drawn_video.follow(Aligner(session), frames, finder, plan.fps, least_score=-np.inf)
    assert paths.raw.shape == paths.smoothed.shape == paths.true.shape == (20, 19, 2)
    np.testing.assert_array_equal(paths.true, [frame.points for frame in frames])
    tiles = drawn_video.side_by_side(frames, paths, AFLW)
    assert {tile.shape for tile in tiles} == {(160, 324, 3)}
    drawn_video.write_gif(tmp_path / "film.gif", tiles, pause_s=0.1)
    _, animation = cv2.imreadanimation(str(tmp_path / "film.gif"))
    assert len(animation.frames) == 20
    assert set(animation.durations.ravel()) == {100}


def test_a_pan_is_tracked_and_looked_for_anew_in_every_frame(dots: Bundle) -> None:
    plan = FilmPlan(size=160, fps=10.0, moving_s=3.0, still_s=0.5, pan_s=1.0)
    frames = list(drawn_film(plan, AFLW))
    middles = np.array([frame.points[:, 0].mean() for frame in frames])
    assert middles.max() - middles.min() > 0.3 * plan.size
    with open_bundle(dots, threads=1) as session:
        found = drawn_video.panned(Aligner(session), frames, drawn_video.finder(None))
        none = drawn_video.panned(Aligner(session), frames, lambda image: np.zeros((0, 4)))
    assert set(found) == {"tracked", "anew"}
    assert none["tracked"] == none["anew"] == {"error_px": None, "worst_px": None, "frames_without": 31}


class Shifted:
    """A detector that knows the faces and lays its boxes too low and too large; of the second it knows nothing."""

    def __init__(self) -> None:
        self._boxes = {face.load().tobytes(): face.box for face in dotted_faces(3)[::2]}

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known = self._boxes.get(image.tobytes())
        if known is None:
            return np.zeros((0, 4)), np.zeros(0)
        x0, y0, x1, y1 = known
        width, height = x1 - x0, y1 - y0
        # Beside the face's there is one that hardly meets it.
        boxes = [[x1 - 1, y0, x1 + 20, y1], [x0, y0 + 0.1 * height, x1 + 0.25 * width, y1 + 0.1 * height]]
        return np.array(boxes), np.array([0.9, 0.8])


def test_a_detectors_boxes_are_measured_against_the_tight_ones(dots: Bundle) -> None:
    faces = dotted_faces(3)
    matched = detector_boxes.matched_boxes(Shifted(), faces)
    assert ([face.name for face in matched.samples], matched.missed) == (["dots-0", "dots-2"], 1)
    shift, scale = detector_boxes.offsets(matched)
    # In shares of the detector's sides, which are 1.25 times as wide as the face's.
    np.testing.assert_allclose(shift, [[-0.125 / 1.25, -0.1]] * 2)
    np.testing.assert_allclose(scale, [[1 / 1.25, 1.0]] * 2)
    with open_bundle(dots, threads=1) as session:
        nmes = detector_boxes.box_nmes(Aligner(session), matched)
        truth = [Aligner(session).align(face.load(), face.box[None]).points[0] for face in matched.samples]
    eyes = [np.linalg.norm(face.points[11] - face.points[6]) for face in matched.samples]
    errors = [
        np.linalg.norm(p - f.points, axis=1).mean() for p, f in zip(truth, matched.samples, strict=True)
    ]
    np.testing.assert_allclose(nmes["true boxes"], 100 * np.array(errors) / eyes)
    assert set(nmes) == {"true boxes", "detector's boxes", "second look"}
    assert all(values.shape == (2,) for values in nmes.values())
    with pytest.raises(UserError, match="the detector finds none of these faces"):
        detector_boxes.matched_boxes(Shifted(), faces[1:2])


@pytest.mark.parametrize("name", ["aligner_overhead", "harness_overhead", "drawn_video", "detector_boxes"])
def test_a_path_that_is_not_there_ends_a_benchmark_with_one_line(name: str, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    more = {"drawn_video": ["--out", gone], "detector_boxes": ["--detector", gone, "--data", gone]}
    command = [sys.executable, "-m", f"slimalign.benchmarks.{name}", "--bundle", gone, *more.get(name, [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert told.startswith(gone)
