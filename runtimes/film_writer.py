"""Writing drawn frames to a video file, which takes the place of an old one only when it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_replaceable, replacing
from slimalign.runtimes.quiet import quiet_opencv

Image = NDArray[np.uint8]

CODECS: Mapping[str, str] = MappingProxyType({".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"})
"""Codecs that OpenCV's wheels can write, by the file's ending."""
LONGEST_PAUSE_S = 2.0
"""A longer gap between two frames is written as one of this length."""


def check_film_path(path: Path) -> None:
    """Raise UserError where ``film_writer`` would not know the format or could not write into the folder."""
    if path.suffix.lower() not in CODECS:
        raise UserError(
            f"{path}: its ending names no video that can be written; end it in {', '.join(CODECS)}"
        )
    check_replaceable(path)


class FilmWriter:
    """A video of constant frame rate; a frame is shown as long as its time says, at least once."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._time_s = 0.0
        self.written = 0

    def write(self, image: Image, time_s: float) -> None:
        """Add ``image`` (H, W, 3) uint8 RGB, all of one size, at ``time_s``. Raises UserError where it cannot be."""
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._writer = self._opened(image)
            self._time_s = time_s
        # Cameras slow down and frame rates vary: frames are repeated so that the film keeps the pace.
        passed_s = min(time_s - self._time_s, LONGEST_PAUSE_S)
        self._time_s = time_s
        for _ in range(max(1, round(passed_s * self._fps))):
            self._writer.write(pixels)
            self.written += 1

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.release()

    def check(self) -> None:
        """Raise UserError unless the closed file holds what was written: OpenCV does not tell of a full disk."""
        with quiet_opencv():
            capture = cv2.VideoCapture(str(self._path))
            held = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            capture.release()
        if held < self.written - 1:
            raise UserError(f"{self._path}: the video could not be written whole; free some space")

    def _opened(self, image: Image) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        with quiet_opencv():
            writer = cv2.VideoWriter(str(self._path), codec, self._fps, (width, height))
        if not writer.isOpened():
            raise UserError(
                f"{self._path}: this OpenCV cannot write {width}x{height} video here; try .avi, or mend the folder"
            )
        return writer


@contextmanager
def film_writer(path: Path, fps: float) -> Iterator[FilmWriter]:
    """A video beside ``path``, which takes its place when the body is done; it needs one frame at least."""
    with replacing(path) as beside:
        writer = FilmWriter(beside, fps)
        try:
            yield writer
        finally:
            writer.close()
        writer.check()
