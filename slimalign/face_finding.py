"""Where faces are looked for: in boxes that the caller gives, in a detector's, or in the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Aligner, check_box
from slimalign.runtimes.boxes import whole_box
from slimalign.runtimes.detector import open_detector
from slimalign.runtimes.drawing import draw_box, draw_landmarks
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.session import available_cores
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import USUAL_LEAST_SCORE, FindBoxes, SeenFace, least_score_for, new_faces

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FacePlaces:
    """Where faces are looked for: ``boxes`` (x0, y0, x1, y1), else by the ``detector`` file, else the whole image.

    ``least_score`` is the mean score of a face's points below which it is none; None is decided by ``least_score_of``.
    """

    boxes: Sequence[Sequence[float]] = field(default=())
    detector: Path | None = None
    least_score: float | None = None

    def __post_init__(self) -> None:
        if len(self.boxes) > 0 and self.detector is not None:
            raise UserError(f"--box and --detector {self.detector}: give one of the two")
        if self.least_score is not None and not math.isfinite(self.least_score):
            raise UserError(f"--least-score {self.least_score:g}: give a number, such as {USUAL_LEAST_SCORE}")

    @property
    def whole_image(self) -> bool:
        """Whether nothing says where a face is."""
        return len(self.boxes) == 0 and self.detector is None

    def finder(self) -> FindBoxes:
        """What gives the boxes of an image; raises UserError for a detector that cannot be opened."""
        if self.detector is not None:
            detector = open_detector(self.detector, threads=available_cores())
            return lambda image: detector.detect(image)[0]
        return self._given

    def _given(self, image: Image) -> Floats:
        corners = np.array(self.boxes if len(self.boxes) > 0 else [whole_box(image)], dtype=np.float64)
        for box in corners:
            check_box(box, image.shape[1], image.shape[0])
        return corners


def least_score_of(aligner: Aligner, places: FacePlaces) -> float:
    """The least mean score of a face: what was asked for, or else what ``least_score_for`` says of the bundle."""
    return least_score_for(aligner.manifest) if places.least_score is None else places.least_score


def faces_in_photo(
    aligner: Aligner, image: Image, places: FacePlaces, find: FindBoxes, clock: StageClock
) -> list[SeenFace]:
    """The faces of one image: a detector's are looked at twice and may be none.

    In every given box, and in the whole image, there is one, unless a least score was asked for that it does not reach.
    """
    with clock.stage("detect"):
        boxes = find(image)
    if places.detector is not None:
        return new_faces(aligner, image, boxes, least_score_of(aligner, places))
    found = aligner.align(image, boxes)
    faces = [SeenFace(*parts) for parts in zip(boxes, found.points, found.scores, strict=True)]
    least = -math.inf if places.least_score is None else places.least_score
    return [face for face in faces if face.scores.mean() >= least]


def drawn_faces(image: Image, faces: Sequence[SeenFace], scheme: LandmarkScheme) -> Image:
    """A copy of ``image`` with the boxes and the landmarks of ``faces``."""
    drawn = image
    for face in faces:
        drawn = draw_landmarks(draw_box(drawn, face.box), face.points, scheme)
    return drawn
