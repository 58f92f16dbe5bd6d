"""A face with its landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One annotated face.

    ``points`` (K, 2) and ``box`` (x0, y0, x1, y1) are in pixels of the image, the centre of the first pixel
    at (0, 0). ``occluded`` (K,) says which points the annotators marked as hidden. ``subsets`` are the
    labels under which accuracy is reported apart (300W: the folder; WFLW: pose, expression ...).
    ``load`` decodes the image to (H, W, 3) uint8 RGB. ``box_size`` in pixels is the size that AFLW's lists give for
    the face's box, and by which its published NMEs are divided; None stands for that of the tight box.
    """

    name: str
    load: Callable[[], Image]
    box: Floats
    points: Floats
    occluded: NDArray[np.bool_]
    subsets: tuple[str, ...] = field(default=())
    box_size: float | None = None


def fingerprint_of(samples: Sequence[Sample]) -> str:
    """16 hex digits by which a split is known again: of its faces' names, points, boxes and sizes, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.name.encode())
        for numbers in (sample.points, sample.box):
            digest.update(np.ascontiguousarray(numbers, dtype=np.float64).tobytes())
        if sample.box_size is not None:
            digest.update(np.float64(sample.box_size).tobytes())
    return digest.hexdigest()[:16]


def normalising_distances(samples: Sequence[Sample], scheme: LandmarkScheme, normaliser: str) -> Floats:
    """What the errors of each face are divided by, (N,), in pixels of its image."""
    distances = scheme.distances(np.stack([sample.points for sample in samples]), normaliser)
    if normaliser != "box":
        return distances
    given = [sample.box_size for sample in samples]
    return np.array([tight if size is None else size for tight, size in zip(distances, given, strict=True)])


def cut_crops(samples: Sequence[Sample], rule: CropRule) -> Image:
    """The faces cut out by ``rule``: (N, S, S, 3) uint8 RGB."""
    return np.stack([rule.crop(sample.load(), sample.box) for sample in samples])
