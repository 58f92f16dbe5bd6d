"""Face boxes beside and over each other. A box is x0, y0, x1, y1, in pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def whole_box(image: NDArray[np.uint8]) -> Floats:
    """The box (4,) of the whole ``image`` (H, W, 3), to the outer edges of its pixels."""
    height, width = image.shape[:2]
    return np.array([-0.5, -0.5, width - 0.5, height - 0.5])


def overlaps(boxes: Floats, box: Floats) -> Floats:
    """Intersection over union, 0 ... 1, of each of ``boxes`` (N, 4) with ``box`` (4,): (N,)."""
    shared = _areas(np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:]))
    union = _areas(boxes[:, :2], boxes[:, 2:]) + _areas(box[None, :2], box[None, 2:]) - shared
    result: Floats = shared / np.maximum(union, np.finfo(np.float64).tiny)
    return result


def _areas(low: Floats, high: Floats) -> Floats:
    result: Floats = np.prod(np.maximum(high - low, 0.0), axis=1)
    return result


def merged(boxes: Floats, scores: Floats, overlap: float) -> tuple[Floats, Floats]:
    """Weighted non-maximum suppression: one box (F, 4) and score (F,) for each heap of ``boxes`` (N, 4).

    The surest box gathers those that overlap it by more than ``overlap``; their mean, weighted by score, takes
    their place and the surest one's score stays. The surest comes first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    kept_boxes: list[Floats] = [np.zeros((0, 4))]
    kept_scores: list[Floats] = [np.zeros(0)]
    while len(boxes):
        # The surest is of its own heap even where its box has no area.
        heap = overlaps(boxes, boxes[0]) > overlap
        heap[0] = True
        kept_boxes.append(np.average(boxes[heap], axis=0, weights=scores[heap])[None])
        kept_scores.append(scores[:1])
        boxes, scores = boxes[~heap], scores[~heap]
    return np.concatenate(kept_boxes), np.concatenate(kept_scores)


def moved(boxes: Floats, shift: tuple[float, float], scale: tuple[float, float]) -> Floats:
    """``boxes`` (N, 4), each shifted by a share of its width and height, and scaled about its centre; x, then y."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2 + sides * np.array(shift)
    reach = sides * np.array(scale) / 2
    return np.concatenate([centres - reach, centres + reach], axis=1)
