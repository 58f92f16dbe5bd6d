"""Keeping OpenCV's own lines off standard error where ours say it better."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT."""
FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Neither OpenCV nor its FFmpeg writes anything during the body; OPENCV_FFMPEG_LOGLEVEL still decides for the
    latter where it is set.
    """
    # OpenCV 4 has both calls in its own name space, 5 in that of utils.
    levels = getattr(cv2.utils, "logging", cv2)
    before = levels.getLogLevel()
    levels.setLogLevel(SILENT)
    # Read once, at FFmpeg's first use, and not to be handed on to other programs; -8 is its word for quiet.
    given = FFMPEG_LEVEL in os.environ
    os.environ.setdefault(FFMPEG_LEVEL, "-8")
    try:
        yield
    finally:
        levels.setLogLevel(before)
        if not given:
            os.environ.pop(FFMPEG_LEVEL, None)
