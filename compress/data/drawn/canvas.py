"""Drawing with sub-pixel vertices: fills, strokes and what shows through a shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]

SHIFT = 6
"""Fractional bits of a vertex: 1/64 pixel."""
GROWTH = 0.65
"""Pixels by which a smooth fill reaches beyond its polygon, measured on discs and squares."""


def _fixed(points: Floats) -> NDArray[np.int32]:
    return np.rint(points * float(1 << SHIFT)).astype(np.int32)


def pairs(x: Floats, y: Floats) -> Floats:
    """(N, 2) of ``x`` (N,) and ``y`` (N,); several times as fast as numpy's stacking for short curves."""
    result = np.empty((len(x), 2))
    result[:, 0], result[:, 1] = x, y
    return result


def fill(image: Image, polygon: Floats, colour: Colour) -> None:
    """Fill ``polygon`` (N, 2), in pixels, with smooth edges; it comes out ``GROWTH`` wider all round."""
    cv2.fillPoly(image, [_fixed(polygon)], colour, cv2.LINE_AA, SHIFT)


def inset(polygon: Floats) -> Floats:
    """``polygon`` (N, 2) drawn in by what OpenCV's smooth fill grows it, so that the edge shows where it is."""
    following = np.concatenate([polygon[1:], polygon[:1]])
    along = following - np.concatenate([polygon[-1:], polygon[:-1]])
    length = np.sqrt((along * along).sum(axis=1)) + 1e-9
    turning = (polygon[:, 0] * following[:, 1] - polygon[:, 1] * following[:, 0]).sum()
    inward = (GROWTH if turning > 0.0 else -GROWTH) / length
    return polygon + pairs(-along[:, 1] * inward, along[:, 0] * inward)


def fill_exactly(image: Image, polygon: Floats, colour: Colour) -> None:
    """Fill ``polygon`` (N, 2) so that half a pixel's change of colour lies on its edge."""
    fill(image, inset(polygon), colour)


def stroke(image: Image, curve: Floats, colour: Colour, thickness: float, closed: bool = False) -> None:
    """Draw a line along ``curve`` (N, 2); it is at least a pixel wide."""
    cv2.polylines(image, [_fixed(curve)], closed, colour, max(1, round(thickness)), cv2.LINE_AA, SHIFT)


def bounds(image: Image, points: Floats, margin: int = 2) -> tuple[slice, slice] | None:
    """Rows and columns of the pixels about ``points``, or None where they miss the picture."""
    height, width = image.shape[:2]
    x0, y0 = (math.floor(value) - margin for value in points.min(axis=0).tolist())
    x1, y1 = (math.ceil(value) + margin + 1 for value in points.max(axis=0).tolist())
    rows, columns = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    return None if rows.start >= rows.stop or columns.start >= columns.stop else (rows, columns)


def through(image: Image, polygon: Floats, opacity: float, paint: Callable[[Image, Floats], None]) -> None:
    """Let ``paint`` draw on a copy of the pixels about ``polygon`` and keep what falls inside the polygon.

    ``paint(patch, corner)`` is given the copy and the pixel (x, y) of its first corner.
    """
    window = bounds(image, polygon)
    if window is None:
        return
    area = image[window]
    corner = np.array([window[1].start, window[0].start], dtype=np.float64)
    patch = area.copy()
    paint(patch, corner)
    mask = np.zeros(area.shape[:2], dtype=np.uint8)
    fill_exactly(mask, polygon - corner, (255.0, 0.0, 0.0))
    weight = mask.astype(np.float32) * np.float32(opacity / 255.0)
    cv2.blendLinear(patch, area, weight, np.float32(1.0) - weight, area)


def glaze(image: Image, polygon: Floats, colour: Colour, opacity: float) -> None:
    """Fill ``polygon`` with a colour that lets the picture through."""
    through(image, polygon, opacity, lambda patch, _: patch.__setitem__(..., np.array(colour)))


def inside(points: Floats, polygon: Floats) -> Bools:
    """(N,): which ``points`` (N, 2) lie in ``polygon`` (M, 2), by the even-odd rule."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    crosses = (y0 > y) != (y1 > y)
    rise = np.where(y1 == y0, 1.0, y1 - y0)
    odd: Bools = (crosses & (x < x0 + (y - y0) * (x1 - x0) / rise)).sum(axis=1) % 2 == 1
    return odd


@dataclass(frozen=True)
class Mark:
    """One thing drawn in front of the face.

    A filled polygon, or a line along ``points`` where ``thickness`` (pixels) is given. ``hides`` says that
    landmarks under it count as occluded.
    """

    points: Floats
    colour: Colour
    thickness: float = 0.0
    closed: bool = False
    opacity: float = 1.0
    hides: bool = False

    def draw(self, image: Image) -> None:
        """Draw it."""
        if self.thickness > 0.0:
            stroke(image, self.points, self.colour, self.thickness, self.closed)
        elif self.opacity < 1.0:
            glaze(image, self.points, self.colour, self.opacity)
        else:
            fill(image, self.points, self.colour)


def covered(points: Floats, marks: Sequence[Mark]) -> Bools:
    """(N,): which ``points`` lie under a mark that hides."""
    result = np.zeros(len(points), dtype=np.bool_)
    for mark in marks:
        if mark.hides:
            result |= inside(points, mark.points)
    return result


def ellipse(centre: Floats, radii: tuple[float, float], angle: float = 0.0, samples: int = 28) -> Floats:
    """A polygon (samples, 2) round ``centre``; ``angle`` in radians, clockwise in the picture."""
    t = np.arange(samples) * (2.0 * np.pi / samples)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    c, s = math.cos(angle), math.sin(angle)
    return pairs(centre[0] + c * x - s * y, centre[1] + s * x + c * y)
