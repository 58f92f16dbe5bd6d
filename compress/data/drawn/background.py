"""What is behind the face: soft patterns, shapes, and blobs that look a little like faces."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.canvas import ellipse, fill, stroke
from slimalign.compress.data.drawn.look import colour

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


def random_background(rng: np.random.Generator, size: int) -> Image:
    """(size, size, 3) uint8 RGB; half of them are out of focus."""
    soft = rng.random() < 0.5
    side = size // 2 if soft else size
    image = _pattern(rng, side)
    for _ in range(int(rng.integers(0, 9))):
        _shape(rng, image)
    if rng.random() < 0.25:
        _false_face(rng, image)
    return _resized(image, size, cv2.INTER_LINEAR) if soft else image


def _resized(image: Image, size: int, method: int) -> Image:
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), dtype=np.uint8)


def _pattern(rng: np.random.Generator, side: int) -> Image:
    """Colours on a coarse grid, enlarged; a finer grid on top for half of the pictures."""
    cells = int(rng.choice((1, 2, 3, 5, 9)))
    grey, chroma = rng.standard_normal((cells, cells, 1)), rng.standard_normal((cells, cells, 3))
    base = _tint(rng) + rng.uniform(5.0, 70.0) * grey + rng.uniform(0.0, 40.0) * chroma
    method = cv2.INTER_NEAREST if rng.random() < 0.15 else cv2.INTER_CUBIC
    image = _resized(np.clip(base, 0, 255).astype(np.uint8), side, method)
    if rng.random() < 0.5:
        cells = int(rng.integers(12, 64))
        fine = rng.integers(0, 256, (cells, cells, int(rng.choice((1, 3)))), dtype=np.uint8)
        fine = np.broadcast_to(fine, (cells, cells, 3))
        share = rng.uniform(0.05, 0.35)
        texture = _resized(np.ascontiguousarray(fine), side, cv2.INTER_LINEAR)
        image = np.asarray(cv2.addWeighted(image, 1.0 - share, texture, share, 0.0), dtype=np.uint8)
    return image


def _tint(rng: np.random.Generator) -> Floats:
    """A colour; most are rather grey."""
    bright = rng.uniform(10.0, 245.0)
    return np.asarray(bright + rng.uniform(0.0, 0.8) ** 1.5 * (rng.uniform(10.0, 245.0, 3) - bright))


def _shape(rng: np.random.Generator, image: Image) -> None:
    """One ellipse, polygon or line in any colour."""
    side = image.shape[0]
    turn, kind = rng.uniform(0.0, 1.0, 2)
    paint = colour(_tint(rng))
    at = rng.uniform(0.0, side, 2)
    reach = side * rng.uniform(0.03, 0.3, 2)
    if kind < 0.4:
        fill(image, ellipse(at, (reach[0], reach[1]), np.pi * turn), paint)
    elif kind < 0.75:
        fill(image, at + rng.uniform(-1.5, 1.5, (int(rng.integers(3, 6)), 2)) * reach, paint)
    else:
        stroke(image, at + rng.uniform(-2.5, 2.5, (3, 2)) * reach, paint, rng.uniform(1.0, 5.0))


def _false_face(rng: np.random.Generator, image: Image) -> None:
    """An oval with two dots and a line, smaller than a face and without its details."""
    side = image.shape[0]
    at, radius, turn = rng.uniform(0.05, 0.95, 2) * side, side * rng.uniform(0.04, 0.13), rng.normal(0.0, 0.5)
    tone = rng.uniform(80.0, 240.0)
    fill(image, ellipse(at, (0.8 * radius, radius), turn), (tone, 0.8 * tone, 0.65 * tone))
    c, s = np.cos(turn), np.sin(turn)
    axes = np.array([[c, s], [-s, c]]) * radius
    for offset in ((-0.32, -0.15), (0.32, -0.15)):
        fill(image, ellipse(at + np.array(offset) @ axes, (0.12 * radius, 0.12 * radius)), (25.0, 20.0, 20.0))
    line = np.array([(-0.3, 0.45), (0.0, 0.45 + rng.uniform(-0.1, 0.15)), (0.3, 0.45)]) @ axes
    stroke(image, at + line, (120.0, 40.0, 40.0), 0.1 * radius)
