"""A face with its landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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
