"""From what a file gives to points of the crop: what the aligner and the agent share.

Python 3.6 syntax, see session.py.
"""

from typing import TYPE_CHECKING, Tuple

import numpy as np

from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.inputs import heatmaps_nchw
from slimalign.runtimes.session import Float32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Manifest

    Floats = NDArray[np.floating]


def points_and_scores(raw: Float32, manifest: "Manifest", landmarks: int) -> "Tuple[Floats, Floats]":
    """Points (N, K, 2), x then y in pixels of the crop, and scores (N, K), of a session's answer.

    Coordinates have no scores: theirs are 1. Raises UserError where the file gives another number than ``landmarks``,
    and NonFiniteError for NaN or infinity.
    """
    if manifest.output == "points":
        return _decoded(raw, manifest, landmarks)
    if manifest.output != "heatmaps":
        return _placed(raw, manifest, landmarks)
    heatmaps = heatmaps_nchw(raw, manifest)
    if manifest.landmarks is not None:
        _check_number(heatmaps.shape[1], max(manifest.landmarks) + 1, "heatmaps", manifest)
        heatmaps = heatmaps[:, list(manifest.landmarks)]
    if heatmaps.shape[1] != landmarks:
        raise UserError(
            f"bundle '{manifest.name}': the file gives {heatmaps.shape[1]} heatmaps,"
            f" scheme '{manifest.scheme}' has {landmarks} points; export it again"
        )
    return decode(heatmaps, manifest.stride, manifest.decoder)


def _decoded(found: Float32, manifest: "Manifest", landmarks: int) -> "Tuple[Floats, Floats]":
    """What a file that decodes its heatmaps itself has found, (N, K, 3)."""
    if found.shape[1:] != (landmarks, 3):
        raise UserError(
            f"bundle '{manifest.name}': the file gives points of shape {found.shape}, scheme"
            f" '{manifest.scheme}' has {landmarks} points; export it again"
        )
    if not np.isfinite(found).all():
        raise NonFiniteError(f"bundle '{manifest.name}': the file's points are NaN or infinite")
    return found[..., :2], found[..., 2]


def _placed(raw: Float32, manifest: "Manifest", landmarks: int) -> "Tuple[Floats, Floats]":
    """What a file that gives coordinates has found: (N, V), the values of each point after those of the one before.

    Where ``landmarks`` chooses, others may follow; without it they could be those of another scheme.
    """
    chosen = range(landmarks) if manifest.landmarks is None else manifest.landmarks
    each = manifest.values_per_point
    count = max(chosen) + 1
    _check_number(raw.shape[1], each * count, "values", manifest)
    if manifest.landmarks is None and raw.shape[1] > each * count:
        raise UserError(
            f"bundle '{manifest.name}': the file gives {raw.shape[1]} values, the {landmarks} points of"
            f" '{manifest.scheme}' are {each * count}; list in landmarks the file's number of each, from 0, or mend"
            " values_per_point"
        )
    values = raw[:, : each * count].reshape(len(raw), count, each)[:, list(chosen), :2]
    if not np.isfinite(values).all():
        raise NonFiniteError(f"bundle '{manifest.name}': the file's points are NaN or infinite")
    if manifest.output == "minus-one-to-one":
        values = (values + 1.0) * (manifest.input_size / 2.0)
    elif manifest.output == "zero-to-one":
        values = values * float(manifest.input_size)
    points = values - (0.5 if manifest.origin == "edge" else 0.0)
    return points, np.ones(points.shape[:2], dtype=np.float32)


def _check_number(given: int, needed: int, what: str, manifest: "Manifest") -> None:
    if given < needed:
        raise UserError(
            f"bundle '{manifest.name}': the file gives {given} {what}, its landmarks need {needed}; mend landmarks or"
            " values_per_point"
        )
