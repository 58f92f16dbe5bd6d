"""Frames of videos and cameras, and videos that are written."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.compress.data.drawn.film import FilmPlan, drawn_film
from slimalign.runtimes import film_writer as film_writer_module
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.film_writer import check_film_path, film_writer
from slimalign.runtimes.frames import Film, has_gstreamer, is_film, open_film
from slimalign.runtimes.schemes import AFLW, W300

FPS = 25.0


def here() -> dict[str, str]:
    """The environment of a process that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def grey_film(path: Path, times: list[float], fps: float = FPS) -> Path:
    """Frame number n is grey, 10 n bright, with texture that fills the file."""
    texture = np.random.default_rng(0).integers(-8, 9, (96, 128, 1))
    with film_writer(path, fps) as film:
        for number, time_s in enumerate(times):
            film.write(
                np.clip(np.broadcast_to(10 * number + texture, (96, 128, 3)), 0, 255).astype(np.uint8), time_s
            )
    return path


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi"])
def test_a_written_film_is_read_with_its_times(tmp_path: Path, ending: str) -> None:
    path = grey_film(tmp_path / f"film.{ending}", [number / FPS for number in range(12)])
    with open_film(str(path)) as film:
        assert (film.fps, film.frames) == (FPS, 12)
        frames = list(film)
    assert [frame.time_s for frame in frames] == pytest.approx([number / FPS for number in range(12)])
    # mp4v codes every frame against the one before: a few grey levels may be lost.
    assert [frame.image.mean() for frame in frames] == pytest.approx([10 * n for n in range(12)], abs=4)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_frame_is_shown_as_long_as_its_time_says(tmp_path: Path) -> None:
    # The second frame comes three periods after the first, the last ten seconds later, of which two are kept.
    path = grey_film(tmp_path / "film.avi", [0.0, 3 / FPS, 4 / FPS, 4 / FPS + 10.0])
    with open_film(str(path)) as film:
        found = [round(frame.image.mean() / 10) for frame in film]
    assert found == [*[0] * 3, 1, *[2] * 50, 3]


@given(gaps=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=40), fps=st.sampled_from([10.0, 25.0, 30.0]))
@settings(max_examples=20, deadline=None)
def test_a_film_is_as_long_as_its_times_say(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[float], fps: float
) -> None:
    times = [0.0, *np.cumsum(gaps)]
    folder = tmp_path_factory.mktemp("film")
    with film_writer(folder / "film.avi", fps) as film:
        for time_s in times:
            film.write(np.zeros((32, 32, 3), dtype=np.uint8), time_s + 5.0)
    assert film.written == round(times[-1] * fps) + 1
    with open_film(str(folder / "film.avi")) as read:
        assert len(list(read)) == film.written


def test_frames_that_come_too_fast_are_left_out(tmp_path: Path) -> None:
    path = grey_film(tmp_path / "film.avi", [number / (2 * FPS) for number in range(21)])
    with open_film(str(path)) as film:
        found = [round(frame.image.mean() / 10) for frame in film]
    assert len(found) == 11
    assert all(abs(number - 2 * place) <= 1 for place, number in enumerate(found))


ON_A_FULL_DISK = """
import resource, sys, numpy as np
from pathlib import Path
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.film_writer import film_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
noise = np.random.default_rng(0)
try:
    with film_writer(Path(sys.argv[1]), 25.0) as film:
        for number in range(100):
            film.write(noise.integers(0, 256, (96, 128, 3)).astype(np.uint8), number / 25)
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="knows no limit of a file's size")
@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_what_fits_on_a_full_disk_is_kept_and_told_in_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"film.{ending}"
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=here())
    assert done.stderr == ""
    (told,) = done.stdout.splitlines()
    if path.exists():
        with open_film(str(path)) as film, suppress(UserError):
            assert len(list(film)) > 5
        assert told.startswith(f"{path}: holds ")
        assert told.endswith(" of 100 frames, more could not be written; free some space")
    else:
        assert told == f"{path}: the video could not be written; free some space"
    assert not list(tmp_path.glob("*.part*"))


def test_a_disk_that_is_all_but_full_ends_the_film_while_it_can_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film_writer_module, "LEAST_FREE_BYTES", 0)
    path = tmp_path / "film.mp4"
    with film_writer(path, FPS) as film:
        for number in range(3):
            film.write(np.zeros((64, 64, 3), dtype=np.uint8), number / FPS)
        # No disk has so much room.
        monkeypatch.setattr(film_writer_module, "LEAST_FREE_BYTES", 1 << 70)
        with pytest.raises(UserError) as caught:
            film.write(np.zeros((64, 64, 3), dtype=np.uint8), 3 / FPS)
    assert str(caught.value) == f"{path}: the disk is full after 2 frames; free some space"
    with open_film(str(path)) as read:
        assert len(list(read)) == 3


def test_the_quiet_of_ffmpeg_is_not_handed_on(tmp_path: Path) -> None:
    grey_film(tmp_path / "film.avi", [0.0])
    assert "OPENCV_FFMPEG_LOGLEVEL" not in os.environ


def test_a_film_that_breaks_off_gives_what_it_holds_and_then_says_so(tmp_path: Path) -> None:
    path = grey_film(tmp_path / "film.avi", [number / FPS for number in range(20)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found = []
    with open_film(str(path)) as film, pytest.raises(UserError) as caught:
        found.extend(film)
    assert 8 <= len(found) <= 14
    assert str(caught.value) == f"{path}: breaks off after {len(found)} of 20 frames; copy it again"


def test_films_that_cannot_be_opened_are_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = grey_film(tmp_path / "cut.mp4", [number / FPS for number in range(20)])
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])  # its index came last
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    faults = {
        str(cut): "cannot be opened as a video; it is cut short",
        str(text): "cannot be opened as a video; it is cut short",
        str(tmp_path / "none.mp4"): "no such file; give a photo, a folder, a video, camera:0 or camera:csi",
        "camera:front": "no such camera; give camera:0, camera:1 ... or camera:csi",
        "camera:987": "cannot be opened; is it plugged in, and not in use by another program?",
    }
    for source, fault in faults.items():
        with pytest.raises(UserError) as caught:
            open_film(source)
        assert str(caught.value).startswith(f"{source}: {fault}")
    assert capfd.readouterr().err == ""


def test_a_camera_that_is_gone_is_told_with_what_it_gave(tmp_path: Path) -> None:
    # A file stands in for the camera: it, too, has no more frames at some time.
    capture = cv2.VideoCapture(str(grey_film(tmp_path / "film.avi", [number / FPS for number in range(4)])))
    times = []
    with Film("camera:0", capture, live=True) as film, pytest.raises(UserError) as caught:
        times.extend(frame.time_s for frame in film)
    assert film.frames is None
    assert str(caught.value) == "camera:0: gives no more frames after 4; see to its cable and power"
    assert len(times) == 4
    assert times[0] == 0
    assert all(np.diff(times) > 0)


def test_a_csi_camera_comes_through_gstreamer_or_says_which_opencv_has_it() -> None:
    if has_gstreamer():
        pipeline = "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! videoconvert ! video/x-raw,format=BGR"
        with open_film(f"gstreamer:{pipeline} ! appsink") as film, pytest.raises(UserError, match="after 5;"):
            assert {frame.image.shape for frame in film} == {(48, 64, 3)}
        return
    for source in ("camera:csi", "camera:csi1", "gstreamer:videotestsrc ! appsink"):
        with pytest.raises(
            UserError, match=f"{source}: this OpenCV .* is built without GStreamer; use the one"
        ):
            open_film(source)


def test_what_is_a_film(tmp_path: Path) -> None:
    (tmp_path / "frames.mp4").mkdir()
    films = ["a.mp4", "B.MOV", "camera:0", "camera:csi", "gstreamer:x"]
    assert all(is_film(source) for source in films)
    assert not any(is_film(source) for source in ["a.png", "a", "a.mp4.jpg", str(tmp_path / "frames.mp4")])


def test_a_film_path_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no video that can be written; end it in .mp4, .mov"):
        check_film_path(tmp_path / "film.png")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        check_film_path(tmp_path / "file" / "film.mp4")


def test_a_film_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), film_writer(path, FPS) as film:
        film.write(np.zeros((32, 32, 3), dtype=np.uint8), 1 / 0)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("film.avi", "old")]


SHORT = FilmPlan(seed=4, size=160, fps=10.0, moving_s=2.0, still_s=1.0, noise=4.0)


def test_a_drawn_film_is_the_same_on_every_call_and_for_every_scheme() -> None:
    one, other = list(drawn_film(SHORT, W300)), list(drawn_film(SHORT, AFLW))
    assert len(one) == len(other) == SHORT.frames == 30
    assert all((a.image == b.image).all() for a, b in zip(one, other, strict=True))
    assert [frame.time_s for frame in one] == pytest.approx([number / 10 for number in range(30)])


def test_a_drawn_face_moves_smoothly_and_then_keeps_still_under_noise_as_told() -> None:
    frames = list(drawn_film(SHORT, W300))
    still = [frame.still for frame in frames]
    assert still == [*[False] * 21, *[True] * 9]
    points = np.stack([frame.points for frame in frames])
    assert (points[20:] == points[20]).all()
    moved = np.linalg.norm(np.diff(points, axis=0), axis=2).mean(axis=1)
    assert moved[:20].max() > 2
    # A film without noise tells which pixels are far enough from black and white not to be clipped.
    clean = np.stack([f.image for f in drawn_film(FilmPlan(4, 160, 10.0, 2.0, 1.0, noise=0.0), W300)])[21:]
    noisy = np.stack([frame.image for frame in frames])[21:]
    assert (clean == clean[0]).all()
    inside = (clean > 20) & (clean < 235)
    noise = (noisy.astype(float) - clean)[inside]
    # Rounding adds 1/12.
    assert noise.std() == pytest.approx(np.sqrt(16 + 1 / 12), rel=0.01)
    assert abs(noise.mean()) < 0.05
