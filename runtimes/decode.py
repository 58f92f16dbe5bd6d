"""From heatmaps to points: the NumPy decoder used in training's evaluation and on the device alike.

It runs on a Jetson as it is: the syntax is that of Python 3.6, and NumPy 1.13 has all that is used of it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np

from slimalign.runtimes.errors import NonFiniteError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Flags = NDArray[np.bool_]
    Indices = NDArray[np.intp]

DECODERS = ("argmax-quarter", "local-mean", "local-softmax")

MEAN_WINDOW = 5
SOFTMAX_WINDOW = 9
"""Sides of the windows around the peak over which the local decoders average, in heatmap pixels.

A softmax is all but zero where there is nothing, so that its window may be wide: on the validation faces of the
CPU recipe 9 gives an NME that is 0.02 to 0.04 points below that of 5."""

MODERATE = 60.0
"""Peaks of logits whose exponentials, and sums of them, neither overflow nor vanish in float32: nothing need be
subtracted from them first, which takes as long as the exponentials.
"""


def decode(heatmaps: "Floats", stride: float, decoder: str) -> "Tuple[Floats, Floats]":
    """Points and scores of ``heatmaps`` (N, K, H, W).

    The points are (N, K, 2), x then y, in pixels of the crop, which is ``stride`` times as large as the
    heatmap: crop = (heatmap + 0.5) * stride - 0.5. The scores are (N, K). It is quickest where either the
    heatmaps or their view with the channels last are contiguous.

    - ``argmax-quarter`` (SD-HRNet): the peak, moved a quarter pixel towards its larger neighbour;
      the score is the peak's value.
    - ``local-mean``: mean position over a 5x5 window about the peak, weighted by the positive values there;
      the score is the peak's value. For heatmaps trained with the mean squared error.
    - ``local-softmax``: the mean over a 9x9 window of the spatial softmax; the score is the probability inside it.
      For heatmaps that are logits.

    Raises UserError for an unknown decoder and NonFiniteError for heatmaps that are not finite.
    """
    if decoder not in DECODERS:
        raise UserError(f"decoder '{decoder}' is unknown; choose one of {', '.join(DECODERS)}")
    if heatmaps.dtype == np.float16:
        # Exponentials overflow in it from 11 on, and sums lose what is small.
        heatmaps = heatmaps.astype(np.float32)
    # NaN is the largest and the smallest value wherever it stands.
    with np.errstate(invalid="ignore"):
        peaks, scores = _peaks(heatmaps)
        finite = np.isfinite(scores).all() and np.isfinite(heatmaps.min())
    if not finite:
        raise NonFiniteError(
            "the network's heatmaps hold NaN or infinite values; no points can be read from them"
        )
    if decoder == "argmax-quarter":
        points = _quarter_moved(heatmaps, peaks)
    elif decoder == "local-mean":
        window, inside = _window(heatmaps, peaks, MEAN_WINDOW)
        points, _ = _local_mean(np.maximum(window, 0.0) * inside, peaks)
    else:
        # The peak is that of the logits: of two that differ by less than 1e-7 the softmax makes equals.
        window, inside = _window(heatmaps, peaks, SOFTMAX_WINDOW)
        less = scores if np.abs(scores).max() > MODERATE else None
        logits = window if less is None else window - less[..., None, None]
        points, total = _local_mean(np.exp(logits) * inside, peaks)
        scores = total / _exponential_sums(heatmaps, less)
    return points * stride + (0.5 * stride - 0.5), scores


def _peaks(heatmaps: "Floats") -> "Tuple[Indices, Floats]":
    """Columns and rows (2, N, K) of the largest values, of equal ones the first from the top left, and the values."""
    n, k, height, width = heatmaps.shape
    if heatmaps.flags.c_contiguous:
        flat = heatmaps.reshape(n, k, -1)
        places = flat.argmax(axis=2)
        values = flat[np.arange(n)[:, None], np.arange(k), places]
    else:
        # Along an axis that is not the last NumPy is quick to find the largest value, but slow to find its place.
        rows = heatmaps.transpose(0, 2, 3, 1)
        columns = rows.reshape(n, height, width * k).max(axis=1).reshape(n, width, k)
        values = columns.max(axis=1)
        face, x, landmark = np.unravel_index(np.flatnonzero(columns == values[:, None]), columns.shape)
        y = rows[face, :, x, landmark].argmax(axis=1)
        places = np.full((n, k), height * width)
        np.minimum.at(places, (face, landmark), y * width + x)
    return np.array([places % width, places // width]), values


def _window(heatmaps: "Floats", peaks: "Indices", side: int) -> "Tuple[Floats, Flags]":
    """Squares of ``side`` about the peaks (2, N, K), (N, K, side, side), and which of their values are of the heatmap.

    Where they leave the heatmap they hold those of its border.
    """
    n, k, height, width = heatmaps.shape
    wanted = peaks[..., None] + (np.arange(side) - side // 2)
    last = np.array([width - 1, height - 1])[:, None, None, None]
    near = np.minimum(np.maximum(wanted, 0), last)
    found = heatmaps[
        np.arange(n)[:, None, None, None],
        np.arange(k)[:, None, None],
        near[1][..., :, None],
        near[0][..., None, :],
    ]
    inside = wanted == near
    return found, inside[1][..., :, None] & inside[0][..., None, :]


def _quarter_moved(heatmaps: "Floats", peaks: "Indices") -> "Floats":
    window, inside = _window(heatmaps, peaks, 3)
    dx = np.sign(window[..., 1, 2] - window[..., 1, 0])
    dy = np.sign(window[..., 2, 1] - window[..., 0, 1])
    # A peak on the border has one neighbour only and stays where it is.
    dx, dy = dx * (inside[..., 1, 0] & inside[..., 1, 2]), dy * (inside[..., 0, 1] & inside[..., 2, 1])
    return (peaks + 0.25 * np.array([dx, dy])).transpose(1, 2, 0)


def _local_mean(weights: "Floats", peaks: "Indices") -> "Tuple[Floats, Floats]":
    """Mean position (N, K, 2) by ``weights`` (N, K, side, side) about the peaks, and the weight in all."""
    n, k, side, _ = weights.shape
    sums = weights.reshape(n, k, side * side).dot(_moments(side))
    total = sums[..., 2]
    safe = total + (total == 0)
    return peaks.transpose(1, 2, 0) + sums[..., :2] / safe[..., None], total


@lru_cache(maxsize=None)
def _moments(side: int) -> "Floats":
    """(side * side, 3): of each place in a square, in rows from the top, its x and y from the middle, and 1."""
    steps = (np.arange(side) - side // 2).astype(np.float32)
    return np.stack([np.tile(steps, side), np.repeat(steps, side), np.ones(side * side, np.float32)], axis=1)


def _exponential_sums(heatmaps: "Floats", less: "Optional[Floats]") -> "Floats":
    """Sums (N, K) over each heatmap of the exponentials of its values, or of its values ``less`` (N, K)."""
    n, k, height, width = heatmaps.shape
    channels_first = heatmaps.flags.c_contiguous
    sums = np.empty((n, k), dtype=heatmaps.dtype)
    # Face by face in one place: it stays in the processor's cache.
    powers = np.empty((k, height * width) if channels_first else (height, width * k), dtype=heatmaps.dtype)
    for face in range(n):
        logits = heatmaps[face] if channels_first else heatmaps[face].transpose(1, 2, 0)
        logits = logits.reshape(powers.shape)
        if less is not None:
            smaller = less[face][:, None] if channels_first else np.tile(less[face], width)
            logits = np.subtract(logits, smaller, out=powers)
        np.exp(logits, out=powers)
        if channels_first:
            powers.sum(axis=1, out=sums[face])
        else:
            powers.sum(axis=0).reshape(width, k).sum(axis=0, out=sums[face])
    return sums
