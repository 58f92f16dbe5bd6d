"""The parts of a graph that compute with places in pixels: they stay in float32 whatever the rest is written in.

Eight bits, or the eleven of float16, are too few for a place in hundreds of pixels, and for steps that tell one place
from the next.
"""

from __future__ import annotations

import re

MODULES = ("decoder", "sampler", "mask", "offsets", "in_crop")
"""What the modules are called that do so."""
CLASSES = ("InGraphDecoder", "RegionSampler", "BoundaryMask", "Offsets", "InCrop")
"""And their classes, in the same order."""

_ONNX = re.compile(rf"/({'|'.join(MODULES)})/")


def has_coordinates(node: str) -> bool:
    """Whether the ONNX node of that name is in one of them."""
    return _ONNX.search(node) is not None


LITERT_PATTERN = rf".*({'|'.join(CLASSES)})_.*"
"""What the converter's names of their tensors match."""
