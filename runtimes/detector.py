"""Finding face boxes with a model file that the user names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.blazeface import BlazeFace
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.yunet import YuNet

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]


class Detector(Protocol):
    """Finds faces in an image."""

    def detect(self, image: Image) -> tuple[Floats, Floats]:
        """Boxes (F, 4), x0, y0, x1, y1, and scores (F,) in 0 ... 1 of the faces in ``image`` (H, W, 3) uint8 RGB.

        The boxes are in pixels of the image, the centre of the first pixel at (0, 0), and may reach out of it;
        the surest face comes first. They are laid as tight boxes around landmarks are, as far as what the
        detector's own boxes hold is known.
        """
        ...


DETECTORS: Mapping[str, Callable[[Path, int], Detector]] = MappingProxyType(
    {".tflite": BlazeFace, ".onnx": YuNet}
)
"""What the ending of a model file stands for, opened with a number of threads."""


def open_detector(path: str | Path, threads: int = 1) -> Detector:
    """Open the face detector in the file ``path``: BlazeFace short range (.tflite) or YuNet (.onnx).

    Raises UserError where the file is missing, of another kind, or holds another network.
    """
    path = Path(path)
    opener = DETECTORS.get(path.suffix.lower())
    if opener is None:
        raise UserError(
            f"{path}: not a face detector known here; give BlazeFace short range as .tflite or YuNet as .onnx"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the model file of a face detector")
    return opener(path, threads)
