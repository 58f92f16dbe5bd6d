"""Images and face boxes in, landmarks in image pixels out. Python 3.6 syntax, see session.py."""

import math
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence

import numpy as np

from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.crop import CropRule, invert, transform_points, warp
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import input_shape, network_inputs
from slimalign.runtimes.session import Session
from slimalign.runtimes.stage_clock import StageClock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Image = NDArray[np.uint8]

LARGEST_BATCH = 32
"""Crops a run at most, so that a crowd does not exhaust the memory."""
LARGEST_BOX = 100
"""Sides of the image; in a crop around a larger box it is a speck, and the way back of its points overflows."""


class Landmarks(NamedTuple):
    """Points (F, K, 2), x then y, the centre of the first pixel at (0, 0), and their scores (F, K)."""

    points: "NDArray[np.float64]"
    scores: "NDArray[np.float64]"

    @property
    def face_scores(self) -> "NDArray[np.float64]":
        """The mean score of each face over its points, (F,), to compare with the manifest's ``score_threshold``."""
        means: "NDArray[np.float64]" = self.scores.mean(axis=1)
        return means


class Face(NamedTuple):
    """An image (H, W, 3) uint8 RGB, and the box x0, y0, x1, y1 of a face in it."""

    image: "Image"
    box: "Floats"


class Aligner:
    """Finds the landmarks of faces with the bundle that is open in ``session``; the caller closes it.

    Crops and inputs are written into the same memory in every call, so one thread may use an aligner at a time;
    answers are the caller's own. ``clock`` is told the seconds spent on the stages ``crop`` (cutting and
    normalising), ``network`` and ``decode`` (to points of the image). ``landmarks`` is their number, by default that of
    the bundle's scheme; ``largest_batch`` of crops, or the one size that the file can run, go through the network at
    once.
    """

    faces_at_once = 16
    """Of many faces, how many a caller had better hold in memory."""

    def __init__(
        self,
        session: Session,
        clock: Optional[StageClock] = None,
        landmarks: Optional[int] = None,
        largest_batch: int = LARGEST_BATCH,
    ):
        self.session = session
        self.clock = StageClock() if clock is None else clock
        self.runtime = session.runtime
        self.manifest = session.manifest
        self.rule = CropRule.of(session.manifest)
        self.landmarks: int = session.manifest.landmark_scheme.count if landmarks is None else landmarks
        self._step = session.manifest.batch or largest_batch
        self._crops = np.empty((0, self.rule.size, self.rule.size, 3), dtype=np.uint8)
        self._inputs = np.empty((0, *input_shape(session.manifest)), dtype=np.float32)

    def align(self, image: "Image", boxes: "Floats") -> Landmarks:
        """Landmarks of the faces in ``boxes`` (F, 4), x0, y0, x1, y1, of ``image`` (H, W, 3) uint8 RGB.

        As ``align_faces``; F = 0 gives empty arrays. Raises UserError for boxes of another shape too.
        """
        _check_image(image)  # where there are no faces too
        return self.align_faces([Face(image, box) for box in _checked_boxes(boxes)])

    def align_faces(self, faces: Sequence[Face]) -> Landmarks:
        """Landmarks of ``faces``, each in pixels of its own image.

        Raises UserError for an image of another kind and a box that ``check_box`` refuses.
        """
        for image, box in faces:
            _check_image(image)
            check_box(box, image.shape[1], image.shape[0])
        matrices = [self.rule.matrix(face.box) for face in faces]
        found = self._none_found(len(faces))
        for start in range(0, len(faces), self._step):
            batch = matrices[start : start + self._step]
            self._make_room(self._size(len(batch)))
            with self.clock.stage("crop"):
                for crop, face, matrix in zip(self._crops, faces[start:], batch):
                    warp(face.image, matrix, self.rule.size, out=crop)
            self._align_batch(self._crops[: len(batch)], found, start)
            with self.clock.stage("decode"):
                for place, matrix in enumerate(batch, start):
                    found.points[place] = transform_points(found.points[place], invert(matrix))
        return found

    def align_crops(self, crops: "Image") -> Landmarks:
        """Landmarks of ``crops`` (N, S, S, 3) uint8 RGB that were cut by ``rule``, in pixels of the crop."""
        found = self._none_found(len(crops))
        for start in range(0, len(crops), self._step):
            self._align_batch(crops[start : start + self._step], found, start)
        return found

    def _align_batch(self, crops: "Image", found: Landmarks, start: int) -> None:
        """Put the landmarks of at most one batch into ``found`` from face ``start`` on, in pixels of the crop.

        A fixed batch that is not full is filled up with black crops.
        """
        faces = len(crops)
        size = self._size(faces)
        self._make_room(size)
        with self.clock.stage("crop"):
            network_inputs(crops, self.manifest, out=self._inputs[:faces])
            if size > faces:
                self._crops[faces:size] = 0
                network_inputs(self._crops[faces:size], self.manifest, out=self._inputs[faces:size])
        with self.clock.stage("network"):
            raw = self.session.run(self._inputs[:size])
        with self.clock.stage("decode"):
            points, scores = points_and_scores(raw[:faces], self.manifest, self.landmarks)
            found.points[start : start + faces] = points
            found.scores[start : start + faces] = scores

    def _size(self, faces: int) -> int:
        """The batch in which so many ``faces`` are run."""
        return self.manifest.batch or faces

    def _make_room(self, faces: int) -> None:
        """Memory for the crops and inputs of at least so many ``faces``; what was in it may be lost."""
        if faces > len(self._crops):
            self._crops = np.empty((faces, *self._crops.shape[1:]), dtype=np.uint8)
            self._inputs = np.empty((faces, *self._inputs.shape[1:]), dtype=np.float32)

    def _none_found(self, faces: int) -> Landmarks:
        return Landmarks(np.empty((faces, self.landmarks, 2)), np.empty((faces, self.landmarks)))


def _check_image(image: "Image") -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"image of shape {image.shape} and type {image.dtype}: (H, W, 3) uint8 RGB is needed")


def _checked_boxes(boxes: "Floats") -> "Floats":
    """``boxes`` as (F, 4); an empty list is F = 0. Raises UserError for another shape."""
    rows = np.asarray(boxes, dtype=np.float64)
    if rows.size == 0:
        return rows.reshape(0, 4)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UserError(f"boxes of shape {rows.shape}: (F, 4) is needed, x0, y0, x1, y1 of each face")
    return rows


def check_box(box: "Floats", width: int, height: int) -> None:
    """Raise UserError unless ``box`` (x0, y0, x1, y1) has an area, meets the image and is not far larger than it."""
    x0, y0, x1, y1 = box.tolist()
    fault = None
    if not (all(map(math.isfinite, (x0, y0, x1, y1))) and x1 > x0 and y1 > y0):
        fault = "it has no area; give x0,y0,x1,y1 with x1 > x0 and y1 > y0"
    # The image covers its pixels' whole area: half a pixel more than their centres on each side.
    elif x1 <= -0.5 or y1 <= -0.5 or x0 >= width - 0.5 or y0 >= height - 0.5:
        fault = f"outside the image of {width}x{height} pixels; give x0,y0,x1,y1 in its pixels"
    elif max(x1 - x0, y1 - y0) > LARGEST_BOX * max(width, height):
        fault = f"more than {LARGEST_BOX} times as large as the image of {width}x{height} pixels; give the face's own"
    if fault is not None:
        raise UserError(f"box {x0:g},{y0:g},{x1:g},{y1:g}: {fault}")
