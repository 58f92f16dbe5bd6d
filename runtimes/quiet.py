"""Keeping OpenCV's own lines off standard error where ours say it better."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Neither OpenCV nor its FFmpeg writes anything during the body; OPENCV_FFMPEG_LOGLEVEL still decides for the
    latter where it is set.
    """
    # Read once, at FFmpeg's first use; -8 is its word for quiet.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
