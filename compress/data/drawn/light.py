"""Soft light and shade on the head: a small map of gains, enlarged and multiplied in."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn import worn
from slimalign.compress.data.drawn.canvas import Image, ellipse, fill, stroke
from slimalign.compress.data.drawn.plan import FacePlan, nose_outline

Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]

REDUCTION = 4
"""The map is this much smaller than the picture."""
_UNIT = 100.0
"""The value of an unchanged pixel in the map."""


def lit(image: Image, plan: FacePlan) -> Image:
    """``image`` (S, S, 3) with the lamp's light and colour on the head; outside the head it stays."""
    side = image.shape[0]
    small = max(side // REDUCTION, 8)
    step = side / small
    gain = _lambert(plan, small, step)[..., None] * np.array(plan.look.light_colour, dtype=np.float32)
    shadow, blush = _soft_marks(plan, small, step)
    gain *= (np.float32(1.0) - shadow)[..., None]
    gain[..., 1:] *= (np.float32(1.0) - np.float32(plan.look.blush) * blush)[..., None]
    gain = np.float32(1.0) + (gain - np.float32(1.0)) * _head_mask(plan, small, step)[..., None]
    levels = np.clip(_UNIT * gain, 0.0, 255.0).astype(np.uint8)
    field = cv2.resize(levels, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, field, scale=1.0 / _UNIT), dtype=np.uint8)


def _lambert(plan: FacePlan, small: int, step: float) -> Float32:
    """(small, small): the light on an ellipsoid in the head's place, Lambert's cosine over an ambient part."""
    outline = np.concatenate([plan.curves["contour"], plan.curves["crown"]])
    c, s = np.cos(plan.camera.roll), np.sin(plan.camera.roll)
    upright = outline @ np.array([[c, -s], [s, c]])
    low, high = upright.min(axis=0), upright.max(axis=0)
    (cx, cy), (rx, ry) = (low + high) / 2.0, 0.56 * (high - low)
    place = ((np.arange(small) + 0.5) * step - 0.5).astype(np.float32)
    x, y = place[None, :], place[:, None]
    u = ((c * x + s * y) - cx).astype(np.float32) / np.float32(rx)
    v = ((c * y - s * x) - cy).astype(np.float32) / np.float32(ry)
    towards = np.sqrt(np.maximum(np.float32(1.0) - u * u - v * v, np.float32(0.0)))
    lx, ly, lz = plan.look.light
    facing = u * np.float32(c * lx + s * ly) + v * np.float32(c * ly - s * lx) + towards * np.float32(lz)
    contrast = np.float32(plan.look.contrast)
    return np.asarray(np.float32(1.08) - contrast + np.float32(1.25) * contrast * np.maximum(facing, 0.0))


def _soft_marks(plan: FacePlan, small: int, step: float) -> tuple[Float32, Float32]:
    """(small, small) each, 0 ... 1: shade in the eye sockets, under nose and lip, in the folds; red cheeks."""
    curves, scale, lamp = plan.curves, plan.camera.scale / step, plan.look.light
    points = (plan.wflw + 0.5) / step - 0.5
    marks = np.zeros((small, small, 2), dtype=np.uint8)
    roll = plan.camera.roll
    nose = (nose_outline(curves) + 0.5) / step - 0.5
    fill(marks, nose + scale * 0.1 * np.array([-lamp[0], 0.6]), (60.0, 0.0, 0.0))
    fill(marks, nose, (14.0, 0.0, 0.0))
    for inner, outer, wing, corner in ((64, 60, 55, 76), (68, 72, 59, 82)):
        middle = 0.5 * (points[inner] + points[outer])
        socket = middle - 0.09 * scale * np.array([-np.sin(roll), np.cos(roll)])
        wide = max(0.62 * float(np.linalg.norm(points[inner] - points[outer])), 1.0)
        fill(marks, ellipse(socket, (wide, 0.2 * scale), roll, samples=12), (46.0, 0.0, 0.0))
        cheek = 0.45 * points[outer] + 0.35 * points[corner] + 0.2 * points[wing]
        fill(marks, ellipse(cheek, (0.24 * scale, 0.2 * scale), samples=12), (0.0, 255.0, 0.0))
        fold = np.stack([points[wing], 0.5 * (points[wing] + points[corner]), points[corner]])
        away = fold[1] - points[57]
        fold[1:] += 0.16 * away / max(float(np.linalg.norm(away)), 1e-6) * scale
        stroke(marks, fold, (52.0, 0.0, 0.0), 1.0)
    below = points[85] + 0.12 * (points[16] - points[85])
    fill(marks, ellipse(below, (0.2 * scale, 0.07 * scale), roll, samples=10), (70.0, 0.0, 0.0))
    soft = cv2.GaussianBlur(marks, (5, 5), 1.3).astype(np.float32) / np.float32(255.0)
    return soft[..., 0], soft[..., 1]


def _head_mask(plan: FacePlan, small: int, step: float) -> Float32:
    """(small, small): 1 on the head and its hair, 0 on the background, soft between."""
    mask = np.zeros((small, small), dtype=np.uint8)
    white = (255.0, 255.0, 255.0)
    volume = 1.0 if plan.look.hair_style == "bald" else plan.look.hair_volume
    face = np.concatenate([plan.curves["contour"], plan.curves["crown"]])
    for outline in (face, nose_outline(plan.curves), worn.skull(plan.head, plan.camera, volume)):
        fill(mask, (outline + 0.5) / step - 0.5, white)
    for mark in plan.worn:
        if mark.hides:
            fill(mask, (mark.points + 0.5) / step - 0.5, white)
    return np.asarray(cv2.blur(mask, (3, 3)).astype(np.float32) / np.float32(255.0))
