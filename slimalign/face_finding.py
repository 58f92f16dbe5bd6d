"""Where faces are looked for: in boxes that the caller gives, in a detector's, or in the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Aligner, check_box
from slimalign.runtimes.detector import open_detector
from slimalign.runtimes.drawing import draw_box, draw_landmarks
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.session import available_cores
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import FindBoxes, SeenFace, new_faces

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

USUAL_LEAST_SCORE = 0.9
"""The mean score of a face's points below which it is taken for none, where nothing better is known.

Of the distilled student of ``faces300w_cpu.toml`` the validation and test faces in tight boxes score 0.96 and more,
under noise, in the dark or blurred by movement 0.93, 95 of 100 squares beside them less than 0.9; of faces half hidden
or in boxes a seventh off, those that score less have an NME above 20 %.
"""


@dataclass(frozen=True)
class FacePlaces:
    """Where faces are looked for: ``boxes`` (x0, y0, x1, y1), else by the ``detector`` file, else the whole image.

    ``least_score`` is the mean score of a face's points below which it is none; None is decided by ``least_score_of``.
    """

    boxes: Sequence[Sequence[float]] = field(default=())
    detector: Path | None = None
    least_score: float | None = None

    def __post_init__(self) -> None:
        if self.boxes and self.detector is not None:
            raise UserError(f"--box and --detector {self.detector}: give one of the two")
        if self.least_score is not None and not math.isfinite(self.least_score):
            raise UserError(f"--least-score {self.least_score:g}: give a number, such as {USUAL_LEAST_SCORE}")

    @property
    def whole_image(self) -> bool:
        """Whether nothing says where a face is."""
        return not self.boxes and self.detector is None

    def finder(self) -> FindBoxes:
        """What gives the boxes of an image; raises UserError for a detector that cannot be opened."""
        if self.detector is not None:
            detector = open_detector(self.detector, threads=available_cores())
            return lambda image: detector.detect(image)[0]
        return self._given

    def _given(self, image: Image) -> Floats:
        height, width = image.shape[:2]
        corners = np.array(list(self.boxes) or [[-0.5, -0.5, width - 0.5, height - 0.5]], dtype=np.float64)
        for box in corners:
            check_box(box, width, height)
        return corners


def least_score_of(aligner: Aligner, places: FacePlaces) -> float:
    """The least mean score of a face: what was asked for, what the bundle was measured to need, or else the usual one.

    That is for scores that are probabilities; of peaks of heatmaps nothing is known, and none of them is too low.
    """
    for least in (places.least_score, aligner.manifest.score_threshold):
        if least is not None:
            return least
    return USUAL_LEAST_SCORE if aligner.manifest.decoder == "local-softmax" else -math.inf


def faces_in_photo(
    aligner: Aligner, image: Image, places: FacePlaces, find: FindBoxes, clock: StageClock
) -> list[SeenFace]:
    """The faces of one image: in every given box there is one; a detector's are looked at twice and may be none."""
    with clock.stage("detect"):
        boxes = find(image)
    if places.detector is not None:
        return new_faces(aligner, image, boxes, least_score_of(aligner, places))
    found = aligner.align(image, boxes)
    return [SeenFace(*parts) for parts in zip(boxes, found.points, found.scores, strict=True)]


def drawn_faces(image: Image, faces: Sequence[SeenFace], scheme: LandmarkScheme) -> Image:
    """A copy of ``image`` with the boxes and the landmarks of ``faces``."""
    drawn = image
    for face in faces:
        drawn = draw_landmarks(draw_box(drawn, face.box), face.points, scheme)
    return drawn
