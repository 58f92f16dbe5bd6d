"""Faces from frame to frame: each is looked for where its landmarks were last, and found anew where they are lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Aligner, Image, check_box
from slimalign.runtimes.boxes import overlaps
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.smoothing import OneEuro, Smoothing
from slimalign.runtimes.stage_clock import StageClock

Floats = NDArray[np.floating]
FindBoxes = Callable[[Image], Floats]
"""Boxes (F, 4) of the faces in an image, such as a detector's."""

SAME_FACE = 0.3
"""Overlap from which two boxes are taken for one face's."""
STEADY = 0.95
"""Overlap with the landmarks' tight box from which a box is left where it is.

On a drawn film as ``python -m slimalign.benchmarks.drawn_video`` draws them the jitter is 0.65 pixels with it and 1.5
without, and the error in movement 0.07 % of the inter-ocular distance higher; with 0.9 it is 1.2 % higher.
"""


@dataclass(frozen=True)
class SeenFace:
    """A face in one image: the box (4,) in which the network looked, its points (K, 2) and their scores (K,)."""

    box: Floats
    points: Floats
    scores: Floats

    @property
    def tight(self) -> Floats:
        """The tight box of the points, where the face is looked for next."""
        return tight_box(self.points)


@dataclass(frozen=True)
class TrackedFace:
    """A face of a video in one frame: its number, what was seen, the smoothed points and their lag (K,)."""

    number: int
    seen: SeenFace
    smoothed: Floats
    lag_s: Floats


@dataclass
class _Face:
    """A face that is being followed; ``box`` is where it is looked for in the next frame.

    It stays while the landmarks' tight box is nearly the same: a box that follows them in every frame shakes the
    crop, and that shakes the landmarks.
    """

    number: int
    box: Floats
    filter: OneEuro | None


def faces_at(aligner: Aligner, image: Image, boxes: Floats, least_score: float) -> list[SeenFace]:
    """The faces in ``boxes`` (F, 4) of ``image``, each once: those whose points' mean score is ``least_score``.

    A box outside the image holds none.
    """
    inside = np.array([box for box in boxes if _meets(box, image)]).reshape(-1, 4)
    found = aligner.align(image, inside)
    faces: list[SeenFace] = []
    for face in map(SeenFace, inside, found.points, found.scores):
        if face.scores.mean() >= least_score and not _among(face.tight, [one.tight for one in faces]):
            faces.append(face)
    return faces


def new_faces(aligner: Aligner, image: Image, boxes: Floats, least_score: float) -> list[SeenFace]:
    """``faces_at``, looked at twice: a detector's box lies less well than the one around the first points.

    The first look judges none, for what a box that lies badly scores.
    """
    first = faces_at(aligner, image, boxes, least_score=-np.inf)
    return faces_at(aligner, image, _rows([face.tight for face in first]), least_score)


class Tracker:
    """Follows the faces of one video.

    A face whose points' mean score falls below ``least_score`` is lost. ``find`` is asked for boxes where a face
    was lost or there is none, and every ``find_every`` frames (0: never else). A box found where a face was lost
    in the same frame is that face, with its number and its filter; every other is a new one. ``smoothing`` None
    leaves the points as they are. ``clock`` counts the stages ``detect`` and ``smooth``.
    """

    def __init__(
        self,
        aligner: Aligner,
        find: FindBoxes,
        clock: StageClock,
        least_score: float,
        find_every: int = 0,
        smoothing: Smoothing | None = None,
    ) -> None:
        self._aligner = aligner
        self._find = find
        self._clock = clock
        self._least_score = least_score
        self._find_every = find_every
        self._smoothing = smoothing
        self._faces: list[_Face] = []
        self._frames = 0
        self._numbers = 0

    def follow(self, image: Image, time_s: float) -> list[TrackedFace]:
        """The faces in the next frame, ``image`` (H, W, 3) uint8 RGB at ``time_s``, the longest known first."""
        held, lost = self._held(image)
        due = self._find_every > 0 and self._frames % self._find_every == 0
        if lost or not held or due:
            held += self._found(image, held, lost)
        self._frames += 1
        self._faces = [face for face, _ in held]
        for face, seen in held:
            if float(overlaps(seen.tight[None], face.box)[0]) < STEADY:
                face.box = seen.tight
        with self._clock.stage("smooth"):
            return [_smoothed(face, seen, time_s) for face, seen in held]

    def _held(self, image: Image) -> tuple[list[tuple[_Face, SeenFace]], list[_Face]]:
        """The known faces that are still where they were looked for, and those that are not."""
        held: list[tuple[_Face, SeenFace]] = []
        lost: list[_Face] = []
        seen = faces_at(self._aligner, image, _rows([face.box for face in self._faces]), self._least_score)
        by_box = {one.box.tobytes(): one for one in seen}
        for face in self._faces:
            one = by_box.get(face.box.tobytes())
            if one is None:
                lost.append(face)
            else:
                held.append((face, one))
        return held, lost

    def _found(
        self, image: Image, held: Sequence[tuple[_Face, SeenFace]], lost: Sequence[_Face]
    ) -> list[tuple[_Face, SeenFace]]:
        """Faces that are not among those ``held``; those at the places of the ``lost`` are these."""
        with self._clock.stage("detect"):
            boxes = self._find(image)
        known = [seen.tight for _, seen in held]
        fresh = _rows([box for box in boxes if not _among(box, known)])
        found: list[tuple[_Face, SeenFace]] = []
        left = list(lost)
        for seen in new_faces(self._aligner, image, fresh, self._least_score):
            if _among(seen.tight, known):
                continue
            face = next((one for one in left if _among(seen.tight, [one.box])), None)
            if face is None:
                face = self._new_face(seen)
            else:
                left.remove(face)
            found.append((face, seen))
        return found

    def _new_face(self, seen: SeenFace) -> _Face:
        self._numbers += 1
        smoother = None if self._smoothing is None else OneEuro(self._smoothing)
        return _Face(self._numbers - 1, seen.tight, smoother)


def _smoothed(face: _Face, seen: SeenFace, time_s: float) -> TrackedFace:
    if face.filter is None:
        return TrackedFace(face.number, seen, seen.points, np.zeros(len(seen.points)))
    size = float((face.box[2:] - face.box[:2]).max())
    points = face.filter.smooth(seen.points, time_s, size)
    return TrackedFace(face.number, seen, points, face.filter.lag_s)


def _rows(boxes: Sequence[Floats]) -> Floats:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _among(box: Floats, others: Sequence[Floats]) -> bool:
    return bool((overlaps(_rows(others), box) >= SAME_FACE).any())


def _meets(box: Floats, image: Image) -> bool:
    try:
        check_box(box, image.shape[1], image.shape[0])
    except UserError:
        return False
    return True
