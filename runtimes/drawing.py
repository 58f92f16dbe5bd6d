"""Landmarks drawn on images, and many images on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_name, check_replaceable, replacing
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

GREEN: Colour = (0, 220, 90)
RED: Colour = (240, 60, 60)
FRACTION_BITS = 4
"""OpenCV draws at whole pixels unless coordinates are given in 1/16 of a pixel."""


def draw_landmarks(
    image: Image, points: Floats, scheme: LandmarkScheme | None = None, colour: Colour = GREEN
) -> Image:
    """A copy of ``image`` (H, W, 3) uint8 RGB with ``points`` (K, 2), in its pixels, as dots.

    With a ``scheme`` its facial boundaries are drawn as lines too.
    """
    if not np.isfinite(points).all():
        raise UserError("landmarks hold NaN or infinite coordinates; they cannot be drawn")
    drawn = np.ascontiguousarray(image).copy()
    fixed = np.round(points * (1 << FRACTION_BITS)).astype(np.int32)
    for region in scheme.regions if scheme is not None else ():
        line = fixed[list(region.indices)].reshape(-1, 1, 2)
        cv2.polylines(drawn, [line], region.closed, colour, 1, cv2.LINE_AA, FRACTION_BITS)
    radius = round(max(1.0, min(image.shape[:2]) / 160) * (1 << FRACTION_BITS))
    for x, y in fixed.tolist():
        cv2.circle(drawn, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)
    return drawn


def enlarged(image: Image, points: Floats, least: int) -> tuple[Image, Floats]:
    """``image`` (H, W, 3) uint8 and ``points`` (K, 2), a whole number of times as large, at least ``least`` high."""
    times = math.ceil(least / len(image))
    height, width = image.shape[:2]
    larger = cv2.resize(image, (times * width, times * height), interpolation=cv2.INTER_CUBIC)
    return larger.astype(np.uint8, copy=False), (points + 0.5) * times - 0.5


def draw_box(image: Image, box: Floats, colour: Colour = RED) -> Image:
    """A copy of ``image`` with ``box`` (x0, y0, x1, y1), in its pixels, as a frame."""
    drawn = np.ascontiguousarray(image).copy()
    x0, y0, x1, y1 = np.round(np.asarray(box) * (1 << FRACTION_BITS)).astype(int).tolist()
    cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, 1, cv2.LINE_AA, FRACTION_BITS)
    return drawn


def contact_sheet(tiles: Sequence[Image], columns: int, gap: int = 4) -> Image:
    """``tiles``, all (H, W, 3) uint8 of one size, row by row on a white sheet, ``gap`` pixels apart."""
    if not tiles or columns < 1:
        raise UserError(
            f"a sheet of {len(tiles)} images in {columns} columns; at least one of each is needed"
        )
    height, width = tiles[0].shape[:2]
    if any(tile.shape != tiles[0].shape for tile in tiles):
        raise UserError(f"images of several sizes on one sheet; bring all to {width}x{height} first")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def check_image_path(path: Path) -> None:
    """Raise UserError where ``write_image`` would not know the format or could not write into the folder."""
    _check_ending(path)
    check_replaceable(path)


def is_image_name(path: Path) -> bool:
    """Whether the ending of ``path`` is that of an image that OpenCV writes."""
    # The ending alone: on a name that is not UTF-8 OpenCV ends the process.
    suffix = path.suffix
    return suffix.isascii() and bool(cv2.haveImageWriter(f"image{suffix}"))


def _check_ending(path: Path) -> None:
    check_name(path)
    if not is_image_name(path):
        raise UserError(f"{path}: its ending names no image format; end it in .png or .jpg")


def write_image(path: str | Path, image: Image) -> None:
    """Write ``image`` (H, W, 3) uint8 RGB in the format that the ending of ``path`` names.

    It is written beside and renamed, so that a kill leaves no half a picture. Raises UserError where the ending
    names no format or the file cannot be written.
    """
    path = Path(path)
    _check_ending(path)
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise UserError(
            f"{path}: an image of shape {image.shape} cannot be written as {path.suffix}; use .png"
        )
    with replacing(path) as beside:
        beside.write_bytes(encoded.tobytes())
