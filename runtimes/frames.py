"""Frames of a video file or a camera, with the time of each."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_name
from slimalign.runtimes.quiet import quiet_opencv

Image = NDArray[np.uint8]

VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts"),
    *(".m2ts", ".3gp", ".ogv", ".mjpeg"),
)
"""Of files that are read as videos; all others are photos."""
CAMERA = "camera:"
PIPELINE = "gstreamer:"
USUAL_FPS = 25.0
"""Where neither the file nor the camera tells its own."""

CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1"
    " ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR"
    " ! appsink drop=true max-buffers=1"
)
"""GStreamer's way from a CSI camera of a Jetson to OpenCV: the newest frame, BGR."""


@dataclass(frozen=True)
class Frame:
    """One frame: ``image`` (H, W, 3) uint8 RGB, at ``time_s`` since the first."""

    image: Image
    time_s: float


def is_film(source: str) -> bool:
    """Whether ``source`` names a camera or a video, not a photo or a folder."""
    return source.startswith((CAMERA, PIPELINE)) or (
        Path(source).suffix.lower() in VIDEO_ENDINGS and not Path(source).is_dir()
    )


class Film:
    """The frames of a video file or a camera, once; a context manager.

    ``fps`` is what the file or the camera tells, ``frames`` how many the file says it has, None for a camera.
    """

    def __init__(self, name: str, capture: cv2.VideoCapture, live: bool) -> None:
        self.name = name
        self._capture = capture
        self._live = live
        told = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = told if np.isfinite(told) and 0 < told < 1000 else USUAL_FPS
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if not live and np.isfinite(count) and count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        """Frames at times that rise; raises UserError where a file breaks off before its end or a camera is gone."""
        count, time_s, start = 0, 0.0, 0.0
        while True:
            there, pixels = self._capture.read()
            if not there:
                break
            stamp = time.perf_counter() if self._live else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # A camera takes its time before the first frame, and some files do not begin at 0.
            start = stamp if count == 0 and np.isfinite(stamp) else start
            stamp -= start
            # Some files have no time stamps, or some that go back.
            later = stamp if count == 0 or stamp > time_s else time_s + 1 / self.fps
            time_s = later if np.isfinite(later) else count / self.fps
            count += 1
            yield Frame(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8), time_s)
        self._check_end(count, time_s)

    def _check_end(self, count: int, time_s: float) -> None:
        """Raise UserError unless the file ended where it says it does."""
        if self._live:
            raise UserError(f"{self.name}: gives no more frames after {count}; see to its cable and power")
        if count == 0:
            raise UserError(f"{self.name}: no frame can be decoded; the file is broken, copy it again")
        told = self.frames or 0
        # The number may be guessed from the length, and the last frame of a variable rate may be shown long.
        if count < told - 2 and time_s < (told - 3) / self.fps:
            raise UserError(f"{self.name}: breaks off after {count} of {told} frames; copy it again")

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


def open_film(source: str) -> Film:
    """Open a video file, ``camera:0`` (a number of the system's), ``camera:csi`` or ``camera:csi1`` (a Jetson's CSI
    cameras), or ``gstreamer:PIPELINE`` (one that ends in an appsink with BGR frames).

    Raises UserError where it is not there, cannot be opened, or OpenCV lacks what it needs.
    """
    if source.startswith(PIPELINE):
        return _pipeline(source, source.removeprefix(PIPELINE))
    if source.startswith(CAMERA):
        return _camera(source, source.removeprefix(CAMERA))
    check_name(Path(source))
    if not Path(source).is_file():
        raise UserError(f"{source}: no such file; give a photo, a folder, a video, camera:0 or camera:csi")
    capture = _opened(lambda: cv2.VideoCapture(source))
    if capture is None:
        raise UserError(
            f"{source}: cannot be opened as a video; it is cut short, broken or of a format unknown to OpenCV"
        )
    return Film(source, capture, live=False)


def _camera(source: str, place: str) -> Film:
    csi = re.fullmatch(r"csi(\d*)", place)
    if csi:
        return _pipeline(source, CSI_PIPELINE.format(sensor=csi.group(1) or "0"))
    if not re.fullmatch(r"\d{1,3}", place):
        raise UserError(f"{source}: no such camera; give camera:0, camera:1 ... or camera:csi")
    capture = _opened(lambda: cv2.VideoCapture(int(place)))
    if capture is None:
        raise UserError(f"{source}: cannot be opened; is it plugged in, and not in use by another program?")
    return Film(source, capture, live=True)


def _pipeline(source: str, pipeline: str) -> Film:
    if not has_gstreamer():
        raise UserError(
            f"{source}: this OpenCV ({cv2.__version__}) is built without GStreamer; use the one of the device's own"
            " system, such as JetPack's python3-opencv"
        )
    capture = _opened(lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER))
    if capture is None:
        raise UserError(
            f"{source}: GStreamer cannot open it; try the pipeline with gst-launch-1.0: {pipeline}"
        )
    return Film(source, capture, live=True)


def has_gstreamer() -> bool:
    """Whether OpenCV can read from GStreamer here."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def _opened(opening: Callable[[], cv2.VideoCapture]) -> cv2.VideoCapture | None:
    """What ``opening`` opens, without what OpenCV and FFmpeg write about it; None where it cannot."""
    with quiet_opencv():
        capture = opening()
        return capture if capture.isOpened() else None
