"""BlazeFace short range (Bazarevsky et al. 2019) in LiteRT: faces that fill a good part of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.boxes import merged, moved, whole_box
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import open_interpreter

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

# Of face_detection_short_range in MediaPipe: input, layers of anchors, least score, overlap of one face's boxes.
SIZE = 128
LAYERS = ((16, 2), (8, 6))
"""Cells a side, and anchors in each of them."""
LEAST_SCORE = 0.5
OVERLAP = 0.3

SHIFT = (0.0, 0.05)
SCALE = (0.96, 0.94)
"""From the network's box to the tight one around 68 points, in shares of its sides; x, then y.

Means over the validation faces of 300W; ``python -m slimalign.benchmarks.detector_boxes`` shows what they leave.
"""


class BlazeFace:
    """The short-range model's file; see Detector. Raises UserError where the file holds another network."""

    def __init__(self, path: Path, threads: int = 1):
        wanted = "give BlazeFace's face_detection_short_range.tflite"
        self._interpreter = open_interpreter(path, threads, mend=wanted)
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError:  # LiteRT's only kind
            raise UserError(f"{path}: this network cannot be laid out by LiteRT; {wanted}") from None
        taken = self._interpreter.get_input_details()
        ends = self._interpreter.get_output_details()
        given = {tuple(end["shape"]): end["index"] for end in ends}
        self._anchors = anchors()
        count = len(self._anchors)
        if (
            [tuple(end["shape"]) for end in taken] != [(1, SIZE, SIZE, 3)]
            or not {(1, count, 16), (1, count, 1)} <= set(given)
            or any(end["dtype"] != np.float32 for end in (*taken, *ends))
        ):
            raise UserError(f"{path}: not a network as BlazeFace's of short range; {wanted}")
        self._input, self._boxes, self._scores = taken[0]["index"], given[1, count, 16], given[1, count, 1]

    def detect(self, image: Image) -> tuple[Floats, Floats]:
        """Boxes (F, 4) and scores (F,) of the faces in ``image``, see Detector."""
        boxes, scores = self.found(image)
        return moved(boxes, SHIFT, SCALE), scores

    def found(self, image: Image) -> tuple[Floats, Floats]:
        """The same with the network's own boxes, before they are laid as landmarks' are."""
        whole = whole_box(image)
        rule = CropRule(SIZE, 1.0)  # of the whole image: its longer side fills the square, the rest is black
        self._interpreter.set_tensor(
            self._input, rule.crop(image, whole)[None].astype(np.float32) / 127.5 - 1
        )
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._boxes)[0]
        logits = self._interpreter.get_tensor(self._scores)[0, :, 0]
        boxes, scores = decoded(raw, logits, self._anchors)
        corners = transform_points(boxes.reshape(-1, 2), invert(rule.matrix(whole)))
        return merged(corners.reshape(-1, 4), scores, OVERLAP)


def anchors() -> Floats:
    """The centres (896, 2), x then y, in shares of the input's side: row by row, the finer grid first."""
    parts = []
    for cells, count in LAYERS:
        centres = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        parts.append(np.repeat(grid, count, axis=0))
    return np.concatenate(parts)


def decoded(raw: Floats, logits: Floats, centres: Floats) -> tuple[Floats, Floats]:
    """Boxes (N, 4) in pixels of the input and scores (N,) of the anchors that are sure enough.

    ``raw`` (A, 16) holds for each anchor the box's centre as seen from the anchor's, its width and height, in
    pixels, and six points that are not used here; ``logits`` (A,) says how sure it is.
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -100.0, 100.0)))
    sure = scores >= LEAST_SCORE
    middles = raw[sure, :2].astype(np.float64) + SIZE * centres[sure] - 0.5
    reach = raw[sure, 2:4] / 2
    return np.concatenate([middles - reach, middles + reach], axis=1), scores[sure]
