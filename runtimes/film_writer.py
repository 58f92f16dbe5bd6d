"""Writing drawn frames to a video file, which takes the place of an old one only when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_name, check_replaceable, replacing
from slimalign.runtimes.quiet import quiet_opencv

Image = NDArray[np.uint8]

CODECS: Mapping[str, str] = MappingProxyType({".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"})
"""Codecs that OpenCV's wheels can write, by the file's ending."""
LEAST_FREE_BYTES = 1 << 20
"""Free space, beside a frame's, below which the disk is taken for full: the end of a video needs some of it."""
LONGEST_PAUSE_S = 2.0
"""A longer gap between two frames is written as one of this length."""


def check_film_path(path: Path) -> None:
    """Raise UserError where ``film_writer`` would not know the format or could not write into the folder."""
    if path.suffix.lower() not in CODECS:
        raise UserError(
            f"{path}: its ending names no video that can be written; end it in {', '.join(CODECS)}"
        )
    check_name(path)
    check_replaceable(path)


class FilmWriter:
    """A video of constant frame rate; a frame is shown from its time until that of the next.

    It is written to ``beside``; what is told names ``path``.
    """

    def __init__(self, beside: Path, fps: float, path: Path) -> None:
        self._beside = beside
        self._fps = fps
        self._path = path
        self._writer: cv2.VideoWriter | None = None
        self._shown: Image | None = None
        self._time_s = self._skipped_s = 0.0
        self.written = 0

    def write(self, image: Image, time_s: float) -> None:
        """Add ``image`` (H, W, 3) uint8 RGB, all of one size, at ``time_s``.

        Raises UserError where no such video can be written, and where the disk is all but full: what was added until
        then can still be closed.
        """
        if self._writer is None:
            self._writer = self._opened(image)
            self._skipped_s = time_s
        else:
            self._skipped_s += max(0.0, time_s - self._time_s - LONGEST_PAUSE_S)
            self._check_room(image)
            # Cameras slow down and frame rates vary: frames are repeated or left out, so that the film keeps the pace.
            self._show_until(round((time_s - self._skipped_s) * self._fps))
        self._time_s = time_s
        self._shown = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)

    def close(self) -> None:
        """End the file with the last frame."""
        if self._writer is not None:
            self._show_until(self.written + 1)
            with quiet_opencv():
                self._writer.release()

    def readable(self) -> int:
        """How many frames of the closed file can be read: OpenCV does not tell of a full disk."""
        with quiet_opencv():
            capture = cv2.VideoCapture(str(self._beside))
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            there = capture.isOpened() and capture.grab()
            capture.release()
        return int(count) if there else 0

    def _show_until(self, count: int) -> None:
        """Write the picture that is shown until the film has ``count`` frames."""
        if self._writer is None or self._shown is None:
            return
        with quiet_opencv():
            for _ in range(count - self.written):
                self._writer.write(self._shown)
                self.written += 1

    def _check_room(self, image: Image) -> None:
        if shutil.disk_usage(self._beside.parent).free < LEAST_FREE_BYTES + image.nbytes:
            raise UserError(f"{self._path}: the disk is full after {self.written} frames; free some space")

    def _opened(self, image: Image) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        with quiet_opencv():
            writer = cv2.VideoWriter(str(self._beside), codec, self._fps, (width, height))
        if not writer.isOpened():
            raise UserError(
                f"{self._path}: this OpenCV cannot write {width}x{height} video here; try .avi, or mend the folder"
            )
        return writer


@contextmanager
def film_writer(path: Path, fps: float) -> Iterator[FilmWriter]:
    """A video beside ``path``, which takes its place when the body is done; it needs one frame at least.

    Where it could not be written whole, as much as can be read is kept; raises UserError then.
    """
    with replacing(path) as beside:
        writer = FilmWriter(beside, fps, path)
        try:
            yield writer
        finally:
            writer.close()
        readable = writer.readable()
        if readable == 0:
            raise UserError(f"{path}: the video could not be written; free some space")
    if readable < writer.written - 1:
        raise UserError(
            f"{path}: holds {readable} of {writer.written} frames, more could not be written; free some space"
        )
