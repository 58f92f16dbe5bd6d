"""Faces from frame to frame: each is looked for where its landmarks were last, and found anew where they are lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Aligner, check_box
from slimalign.runtimes.boxes import overlaps
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.smoothing import OneEuro, Smoothing
from slimalign.runtimes.stage_clock import StageClock

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]
FindBoxes = Callable[[Image], Floats]
"""Boxes (F, 4) of the faces in an image, such as a detector's."""

SAME_FACE = 0.3
"""Overlap from which two boxes are taken for one face's."""
STEADY = 0.95
"""Overlap with the landmarks' tight box from which a box is left where it is.

On a drawn film as ``python -m slimalign.benchmarks.drawn_video`` draws them the jitter is 0.65 pixels with it and 1.5
without, and the error in movement 0.07 % of the inter-ocular distance higher; with 0.9 it is 1.2 % higher.
"""
LEFT = 0.9
"""Overlap with the landmarks' tight box below which a face has left its box and is looked at again in the tight one."""
DRIFTED = 0.8
"""Overlap with a detection below which a face that is followed may have drifted, and is put there if it has.

In the pan of ``python -m slimalign.benchmarks.drawn_video`` the error is 6.0 pixels with this and LEFT, 7.9 with 0.7
and 0.8, and 10.6 where faces are neither looked at again nor put right.
"""
REMEMBERED_S = 1.0
"""How long a lost face keeps its number and its filter."""
FIND_EVERY = 30
"""Frames after which a detector had better look again: for faces that have come in, and for drift."""
LARGEST_FACE = 3
"""Sides of the picture: what the landmarks of a larger face say is noise."""
USUAL_LEAST_SCORE = 0.9
"""The mean score of a face's points below which it is taken for none, where nothing better is known.

Of the distilled student of ``faces300w_cpu.toml`` the validation and test faces in tight boxes score 0.96 and more,
under noise, in the dark or blurred by movement 0.93, 95 of 100 squares beside them less than 0.9; of faces half hidden
or in boxes a seventh off, those that score less have an NME above 20 %.
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
    """A face of a video in one frame: its number, what was seen and the smoothed points.

    ``lag_s`` (K,) and ``speeds`` (K,), in sizes of the face a second, are those of the filter.
    """

    number: int
    seen: SeenFace
    smoothed: Floats
    lag_s: Floats
    speeds: Floats


@dataclass
class _Face:
    """A face that is being followed; ``box`` is where it is looked for in the next frame.

    It stays while the landmarks' tight box is nearly the same: a box that follows them in every frame shakes the
    crop, and that shakes the landmarks. ``seen_s`` is the time of the last frame in which the face was seen.
    """

    number: int
    box: Floats
    filter: OneEuro | None
    seen_s: float = 0.0


Held = list[tuple[_Face, SeenFace]]


def least_score_for(manifest: Manifest) -> float:
    """The least mean score of a face by a bundle's ``manifest``: as it was measured, or else the usual one.

    That is for scores that are probabilities; of peaks of heatmaps nothing is known, and none of them is too low.
    """
    if manifest.score_threshold is not None:
        return manifest.score_threshold
    return USUAL_LEAST_SCORE if manifest.decoder == "local-softmax" else -math.inf


def new_faces(aligner: Aligner, image: Image, boxes: Floats, least_score: float) -> list[SeenFace]:
    """The faces in ``boxes`` (F, 4) of ``image``, each once: those whose points' mean score is ``least_score``.

    They are looked at twice: a detector's box lies less well than the one around the first points. The first look
    judges none, for what a box that lies badly scores. A box outside the image holds no face.
    """
    faces: list[SeenFace] = []
    for seen in _seen_twice(aligner, image, boxes):
        if seen is None or seen.scores.mean() < least_score:
            continue
        if not _among(seen.tight, [one.tight for one in faces]):
            faces.append(seen)
    return faces


class Tracker:
    """Follows the faces of one video.

    A face whose points' mean score falls below ``least_score``, or that leaves the image, is lost, and remembered with
    its number and its filter for REMEMBERED_S. ``find`` is asked for boxes while a face is lost or there is none, or,
    where there are ``most`` faces, while fewer are followed; and every ``find_every`` frames (0: never else). A box
    found where a face was lost is that face; every other is a new one. Without ``most`` it is taken for a detector: a
    face that has drifted off what it finds is put there, and with ``find_every`` it is asked too where a face moves
    fast. ``smoothing`` None leaves the points as they are. ``clock`` counts the stages ``detect`` and ``smooth``.
    """

    def __init__(
        self,
        aligner: Aligner,
        find: FindBoxes,
        clock: StageClock,
        least_score: float,
        find_every: int = 0,
        smoothing: Smoothing | None = None,
        most: int | None = None,
    ) -> None:
        self._aligner = aligner
        self._find = find
        self._clock = clock
        self._least_score = least_score
        self._find_every = find_every
        self._smoothing = smoothing
        self._most = most
        self._faces: list[_Face] = []
        self._lost: list[_Face] = []
        self._frames = 0
        self._numbers = 0

    def follow(self, image: Image, time_s: float) -> list[TrackedFace]:
        """The faces in the next frame, ``image`` (H, W, 3) uint8 RGB at ``time_s``, the longest known first."""
        held, swift = self._held(image)
        self._lost = [face for face in self._lost if time_s - face.seen_s <= REMEMBERED_S]
        due = self._find_every > 0 and self._frames % self._find_every == 0
        if self._most is not None:
            missing = len(held) < self._most
        else:
            missing = bool(self._lost) or not held or (swift and self._find_every > 0)
        if missing or due:
            self._find_more(image, held)
        self._frames += 1
        held.sort(key=lambda one: one[0].number)
        self._faces = [face for face, _ in held]
        for face, seen in held:
            face.seen_s = time_s
            if _overlap(seen.tight, face.box) < STEADY:
                face.box = seen.tight
        with self._clock.stage("smooth"):
            return [_smoothed(face, seen, time_s) for face, seen in held]

    def _held(self, image: Image) -> tuple[Held, bool]:
        """The known faces that are still about where they were looked for, and whether one moves too far to be sure.

        The others are lost. Where a face has moved on it is looked at again: what lies at the edge of a crop is found
        less well, and too near to where it was.
        """
        looks = _seen(self._aligner, image, _rows([face.box for face in self._faces]))
        moved = [number for number, seen in enumerate(looks) if seen is not None and _has_left(seen)]
        tight = [seen.tight for seen in (looks[number] for number in moved) if seen is not None]
        for number, seen in zip(moved, _seen(self._aligner, image, _rows(tight)), strict=True):
            looks[number] = seen
        held: Held = []
        for face, seen in zip(self._faces, looks, strict=True):
            if self._is_face(seen, image) and not _among(seen.tight, [one.tight for _, one in held]):
                held.append((face, seen))
            else:
                self._lost.append(face)
        return held, any(_has_left(seen) for _, seen in held)

    def _find_more(self, image: Image, held: Held) -> None:
        """Add to ``held`` the faces that are not among them, and put right those that a detector sees elsewhere."""
        detects = self._most is None
        with self._clock.stage("detect"):
            found = list(self._find(image))
        known = [seen.tight for _, seen in held]
        found = [box for box in found if not _among(box, known, DRIFTED if detects else SAME_FACE)]
        # A face that was hidden for a moment may be where it was, and in a box that was given long ago it need not be.
        # Where any score will do it would be found there in any case.
        hidden = self._lost if self._least_score > 0 else []
        boxes = _rows([*found, *(face.box for face in hidden)])
        for box, seen in zip(boxes, _seen_twice(self._aligner, image, boxes), strict=True):
            if not self._is_face(seen, image):
                continue
            known = [one.tight for _, one in held]
            place = _nearest(seen.tight, known)
            if place is None and detects:
                place = _nearest(box, known)
            if place is None:
                if self._most is None or len(held) < self._most:
                    held.append((self._face_at(seen), seen))
            elif detects and _overlap(seen.tight, known[place]) < DRIFTED:
                held[place] = (held[place][0], seen)

    def _is_face(self, seen: SeenFace | None, image: Image) -> TypeGuard[SeenFace]:
        if seen is None or seen.scores.mean() < self._least_score:
            return False
        sides = seen.tight[2:] - seen.tight[:2]
        return bool(sides.max() <= LARGEST_FACE * max(image.shape[:2])) and _meets(seen.tight, image)

    def _face_at(self, seen: SeenFace) -> _Face:
        """The lost face that has come again, or else a new one."""
        place = _nearest(seen.tight, [face.box for face in self._lost])
        if place is not None:
            return self._lost.pop(place)
        self._numbers += 1
        smoother = None if self._smoothing is None else OneEuro(self._smoothing)
        return _Face(self._numbers - 1, seen.tight, smoother)


def _seen(aligner: Aligner, image: Image, boxes: Floats) -> list[SeenFace | None]:
    """What is seen in each of ``boxes`` (F, 4), be it a face or not; None for a box outside the image."""
    inside = [_meets(box, image) for box in boxes]
    found = aligner.align(image, boxes[inside])
    looks = map(SeenFace, boxes[inside], found.points, found.scores)
    return [next(looks) if meets else None for meets in inside]


def _seen_twice(aligner: Aligner, image: Image, boxes: Floats) -> list[SeenFace | None]:
    """The same, looked at again in the tight boxes around what is seen first."""
    first = _seen(aligner, image, boxes)
    second = iter(_seen(aligner, image, _rows([seen.tight for seen in first if seen is not None])))
    return [None if seen is None else next(second) for seen in first]


def _smoothed(face: _Face, seen: SeenFace, time_s: float) -> TrackedFace:
    if face.filter is None:
        none = np.zeros(len(seen.points))
        return TrackedFace(face.number, seen, seen.points, none, none)
    size = float((face.box[2:] - face.box[:2]).max())
    points = face.filter.smooth(seen.points, time_s, size)
    return TrackedFace(face.number, seen, points, face.filter.lag_s, face.filter.speeds)


def _rows(boxes: Sequence[Floats]) -> Floats:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _overlap(box: Floats, other: Floats) -> float:
    return float(overlaps(box[None], other)[0])


def _has_left(seen: SeenFace) -> bool:
    return _overlap(seen.tight, seen.box) < LEFT


def _nearest(box: Floats, others: Sequence[Floats], least: float = SAME_FACE) -> int | None:
    """Which of ``others`` overlaps ``box`` most; None where none does by ``least``."""
    shares = overlaps(_rows(others), box)
    return int(shares.argmax()) if len(shares) and shares.max() >= least else None


def _among(box: Floats, others: Sequence[Floats], least: float = SAME_FACE) -> bool:
    return _nearest(box, others, least) is not None


def _meets(box: Floats, image: Image) -> bool:
    try:
        check_box(box, image.shape[1], image.shape[0])
    except UserError:
        return False
    return True
