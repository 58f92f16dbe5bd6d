"""YuNet (Wu et al. 2023) in OpenCV's own FaceDetectorYN."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.quiet import quiet_opencv

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

LEAST_SCORE = 0.9
OVERLAP = 0.3
CANDIDATES = 5000
"""OpenCV's own values for the three."""
LONGEST_SIDE = 640
"""To which a larger image is brought: YuNet finds faces from about 10 pixels on, and its time grows with the area."""


class YuNet:
    """A YuNet file; see Detector. Its boxes are left as they are: they hug the face as WIDER FACE's labels do.

    ``threads`` is taken for the sake of the other detectors: OpenCV has one number of threads for all it does.
    Raises UserError where OpenCV cannot read the file or it holds another network.
    """

    def __init__(self, path: Path, threads: int = 1):
        self._path = path
        try:
            # Its new engine warns of a call that FaceDetectorYN itself makes.
            with quiet_opencv():
                self._network = cv2.FaceDetectorYN.create(
                    str(path), "", (32, 32), LEAST_SCORE, OVERLAP, CANDIDATES
                )
        except cv2.error:
            raise UserError(
                f"{path}: OpenCV cannot read it; give a YuNet file, such as face_detection_yunet_2023mar.onnx"
            ) from None
        self.detect(np.zeros((32, 32, 3), dtype=np.uint8))

    def detect(self, image: Image) -> tuple[Floats, Floats]:
        """Boxes (F, 4) and scores (F,) of the faces in ``image``, see Detector."""
        height, width = image.shape[:2]
        shrink = max(1.0, max(height, width) / LONGEST_SIDE)
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink > 1 else image
        self._network.setInputSize(size)
        try:
            _, found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error:
            raise UserError(
                f"{self._path}: its outputs are not YuNet's; give a file such as face_detection_yunet_2023mar.onnx"
            ) from None
        rows = np.zeros((0, 15)) if found is None else found.astype(np.float64)
        # Pixels are counted from their edges there, from their centres here.
        scale = np.array([width / size[0], height / size[1]])
        low, high = rows[:, :2] * scale - 0.5, (rows[:, :2] + rows[:, 2:4]) * scale - 0.5
        order = np.argsort(-rows[:, 14], kind="stable")
        return np.concatenate([low, high], axis=1)[order], rows[order, 14]
