"""Accuracy of landmarks: NME, failure rate, AUC, points of the cumulative error distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]

FAILURE_THRESHOLD = 10.0
"""NME in percent above which an image counts as failed, and up to which the AUC integrates."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over a set of images; ``nme``, ``failure_rate`` and ``auc`` are in percent."""

    images: int
    nme: float
    failure_rate: float
    auc: float


def image_nmes(predicted: Floats, truth: Floats, distances: Floats) -> Floats:
    """NME of each image in percent (equation 5 of SD-HRNet before the mean over images).

    ``predicted`` and ``truth`` are (N, K, 2), x then y, in the same pixels as the normalising ``distances`` (N,);
    the answer is (N,). Raises UserError where a point is not finite or a distance is zero.
    """
    if predicted.shape != truth.shape:
        raise UserError(f"predicted points have shape {predicted.shape}, the truth has {truth.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        raise UserError("landmarks hold NaN or infinite coordinates; no NME can be given for them")
    if (distances <= 0).any():
        raise UserError(
            f"image {int(np.argmin(distances))}: its normalising distance is 0; choose another normaliser"
        )
    errors = np.linalg.norm(predicted - truth, axis=2).mean(axis=1)
    result: Floats = 100.0 * errors / distances
    return result


def accuracy(nmes: Floats, threshold: float = FAILURE_THRESHOLD) -> Accuracy:
    """Mean NME, failure rate (share of images above ``threshold``) and AUC up to ``threshold``, in percent."""
    if len(nmes) == 0:
        raise UserError("no images to measure; is the split empty?")
    return Accuracy(
        images=len(nmes),
        nme=float(nmes.mean()),
        failure_rate=float(100.0 * (nmes > threshold).mean()),
        auc=area_under_ced(nmes, threshold),
    )


def area_under_ced(nmes: Floats, threshold: float = FAILURE_THRESHOLD) -> float:
    """Exact area under the cumulative error distribution from 0 to ``threshold``, in percent of the whole.

    The distribution is a staircase: an image with error e adds a step of 1/N from e to the threshold.
    """
    return float(100.0 * np.clip(1.0 - nmes / threshold, 0.0, 1.0).mean())


def ced_points(nmes: Floats, threshold: float = FAILURE_THRESHOLD, steps: int = 101) -> tuple[Floats, Floats]:
    """Points of the cumulative error distribution: errors (steps,) in percent, shares of images (steps,) in percent."""
    errors = np.linspace(0.0, threshold, steps)
    shares = 100.0 * np.searchsorted(np.sort(nmes), errors, side="right") / len(nmes)
    return errors, shares


JITTER_PERCENT = 95.0
"""The percentile of the movements that is called the jitter."""


def jitter(points: Floats) -> float:
    """How restless a still face's points are: the 95th percentile of their movements from one frame to the next.

    ``points`` (T, K, 2) are those of T frames in which the face does not move; the answer is in their unit.
    Raises UserError for less than two frames.
    """
    if len(points) < 2:
        raise UserError(f"jitter over {len(points)} frames; at least 2 are needed")
    movements = np.linalg.norm(np.diff(points, axis=0), axis=2)
    return float(np.percentile(movements, JITTER_PERCENT))
