"""A face with its landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.crop import CropRule

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One annotated face.

    ``points`` (K, 2) and ``box`` (x0, y0, x1, y1) are in pixels of the image, the centre of the first pixel
    at (0, 0). ``occluded`` (K,) says which points the annotators marked as hidden. ``subsets`` are the
    labels under which accuracy is reported apart (300W: the folder; WFLW: pose, expression ...).
    ``load`` decodes the image to (H, W, 3) uint8 RGB.
    """

    name: str
    load: Callable[[], Image]
    box: Floats
    points: Floats
    occluded: NDArray[np.bool_]
    subsets: tuple[str, ...] = field(default=())


def fingerprint_of(samples: Sequence[Sample]) -> str:
    """16 hex digits by which a split is known again: of its faces' names, points and boxes, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.name.encode())
        for numbers in (sample.points, sample.box):
            digest.update(np.ascontiguousarray(numbers, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def cut_crops(samples: Sequence[Sample], rule: CropRule) -> Image:
    """The faces cut out by ``rule``: (N, S, S, 3) uint8 RGB."""
    return np.stack([rule.crop(sample.load(), sample.box) for sample in samples])
