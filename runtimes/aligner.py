"""Images and face boxes in, landmarks in image pixels out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.inputs import heatmaps_nchw, network_inputs
from slimalign.runtimes.session import Float32, Session
from slimalign.runtimes.stage_clock import StageClock

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

LARGEST_BATCH = 32
"""Crops a run at most, so that a crowd does not exhaust the memory."""


@dataclass(frozen=True)
class Landmarks:
    """Points (F, K, 2), x then y, the centre of the first pixel at (0, 0), and their scores (F, K)."""

    points: NDArray[np.float64]
    scores: NDArray[np.float64]


class Aligner:
    """Finds the landmarks of faces with the bundle that is open in ``session``; the caller closes it.

    ``clock`` counts the stages ``crop``, ``network`` and ``decode``.
    """

    def __init__(self, session: Session, clock: StageClock | None = None):
        self.session = session
        self._clock = clock or StageClock()
        self.manifest = session.manifest
        self.rule: CropRule = session.manifest.crop_rule
        self.landmarks: int = session.manifest.landmark_scheme.count

    def align(self, image: Image, boxes: Floats) -> Landmarks:
        """Landmarks of the faces in ``boxes`` (F, 4), x0, y0, x1, y1, of ``image`` (H, W, 3) uint8 RGB.

        The points are in pixels of the image; F = 0 gives empty arrays. Raises UserError for an image of
        another kind and for a box that is not finite, has no area or lies wholly outside the image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"image of shape {image.shape} and type {image.dtype}: (H, W, 3) uint8 RGB is needed"
            )
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        for box in boxes:
            check_box(box, image.shape[1], image.shape[0])
        matrices = [self.rule.matrix(box) for box in boxes]
        with self._clock.stage("crop"):
            crops = self._stack([self.rule.crop(image, box) for box in boxes])
        found = self.align_crops(crops)
        points = np.empty_like(found.points)
        for face, matrix in enumerate(matrices):
            points[face] = transform_points(found.points[face], invert(matrix))
        return Landmarks(points, found.scores)

    def align_crops(self, crops: Image) -> Landmarks:
        """Landmarks of ``crops`` (N, S, S, 3) uint8 RGB that were cut by ``rule``, in pixels of the crop."""
        step = self.manifest.batch or LARGEST_BATCH
        parts = [self._align_batch(crops[start : start + step]) for start in range(0, len(crops), step)]
        empty = Landmarks(np.zeros((0, self.landmarks, 2)), np.zeros((0, self.landmarks)))
        return Landmarks(
            np.concatenate([empty.points, *(part.points for part in parts)]),
            np.concatenate([empty.scores, *(part.scores for part in parts)]),
        )

    def _align_batch(self, crops: Image) -> Landmarks:
        """Landmarks of at most one batch; a fixed batch that is not full is filled up with black crops."""
        faces = len(crops)
        missing = (self.manifest.batch or faces) - faces
        if missing:
            crops = np.concatenate([crops, np.zeros((missing, *crops.shape[1:]), dtype=np.uint8)])
        with self._clock.stage("network"):
            raw = self.session.run(network_inputs(crops, self.manifest))
        with self._clock.stage("decode"):
            return self._read(raw, faces)

    def _read(self, raw: Float32, faces: int) -> Landmarks:
        """The landmarks of the first ``faces`` crops in what the network gave."""
        if self.manifest.output == "points":
            return self._decoded(raw[:faces])
        heatmaps = heatmaps_nchw(raw, self.manifest)[:faces]
        if heatmaps.shape[1] != self.landmarks:
            raise UserError(
                f"bundle '{self.manifest.name}': the file gives {heatmaps.shape[1]} heatmaps,"
                f" scheme '{self.manifest.scheme}' has {self.landmarks} points; export it again"
            )
        points, scores = decode(heatmaps, self.manifest.stride, self.manifest.decoder)
        return Landmarks(points.astype(np.float64), scores.astype(np.float64))

    def _decoded(self, found: Float32) -> Landmarks:
        """What a file that decodes its heatmaps itself has found, (N, K, 3)."""
        if found.shape[1:] != (self.landmarks, 3):
            raise UserError(
                f"bundle '{self.manifest.name}': the file gives points of shape {found.shape}, scheme"
                f" '{self.manifest.scheme}' has {self.landmarks} points; export it again"
            )
        if not np.isfinite(found).all():
            raise NonFiniteError(f"bundle '{self.manifest.name}': the file's points are NaN or infinite")
        return Landmarks(found[..., :2].astype(np.float64), found[..., 2].astype(np.float64))

    def _stack(self, crops: list[Image]) -> Image:
        size = self.rule.size
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), dtype=np.uint8)


def check_box(box: Floats, width: int, height: int) -> None:
    """Raise UserError unless ``box`` (x0, y0, x1, y1) has an area and meets the image."""
    x0, y0, x1, y1 = (float(value) for value in box)
    text = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
    if not (np.isfinite(box).all() and x1 > x0 and y1 > y0):
        raise UserError(f"{text}: it has no area; give x0,y0,x1,y1 with x1 > x0 and y1 > y0")
    # The image covers its pixels' whole area: half a pixel more than their centres on each side.
    if x1 <= -0.5 or y1 <= -0.5 or x0 >= width - 0.5 or y0 >= height - 0.5:
        raise UserError(
            f"{text}: outside the image of {width}x{height} pixels; give x0,y0,x1,y1 in its pixels"
        )
