"""Decoding image files so that a missing, broken or half-copied one is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError

Image = NDArray[np.uint8]

_JPEG_START = b"\xff\xd8"
_END_OF_IMAGE = 0xD9
# In compressed data a 0xff is followed by 0 (a data byte), a restart marker or another 0xff.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class ImageError(UserError):
    """An image that cannot be decoded; ``fault`` is what is wrong with it, without the file's name."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.fault = fault


def load_image(path: str, upright: bool = False) -> Image:
    """Decode the file at ``path`` to (H, W, 3) uint8 RGB; a grey image gets three equal channels.

    The orientation that a camera wrote into EXIF is applied where ``upright`` is true. The public sets are
    annotated in the pixels as stored, so their readers leave it out. Raises ImageError.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(path, f"the image cannot be read ({error.strerror})") from None
    if data.startswith(_JPEG_START) and not is_whole_jpeg(data):
        raise ImageError(path, "the JPEG is cut short (no end-of-image marker); copy it again")
    pixels = _decode(data, upright)
    if pixels is None:
        raise ImageError(path, f"not an image that can be decoded ({len(data)} bytes); copy it again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def is_whole_jpeg(data: bytes) -> bool:
    """Whether the bytes of a JPEG run to its end-of-image marker.

    Decoders may fill the missing rest of a file that was cut with grey and go on. The search walks from
    segment to segment, so that the end of a thumbnail inside the header does not count.
    """
    position = len(_JPEG_START)
    while (marker := _JPEG_MARKER.search(data, position)) is not None:
        code = marker.group(1)[0]
        if code == _END_OF_IMAGE:
            return True
        # A segment's length counts its own two bytes; after the head of a scan come compressed data.
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False


def _decode(data: bytes, upright: bool) -> Image | None:
    if not data:
        return None
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:  # an image of more pixels than OpenCV agrees to hold
        return None
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)
