"""From heatmaps to points: the NumPy decoder used in training's evaluation and on the device alike.

It runs on a Jetson as it is: the syntax is that of Python 3.6, and NumPy 1.13 has all that is used of it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Tuple

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
    # NaN is the largest and the smallest value wherever it stands.
    with np.errstate(invalid="ignore"):
        x, y, scores = _peaks(heatmaps)
        finite = np.isfinite(scores).all() and np.isfinite(heatmaps.min())
    if not finite:
        raise NonFiniteError(
            "the network's heatmaps hold NaN or infinite values; no points can be read from them"
        )
    if decoder == "argmax-quarter":
        points = _quarter_moved(heatmaps, x, y)
    elif decoder == "local-mean":
        window, inside = _window(heatmaps, x, y, MEAN_WINDOW)
        points, _ = _local_mean(np.maximum(window, 0.0) * inside, x, y)
    else:
        # The peak is that of the logits: of two that differ by less than 1e-7 the softmax makes equals.
        window, inside = _window(heatmaps, x, y, SOFTMAX_WINDOW)
        points, total = _local_mean(np.exp(window - scores[..., None, None]) * inside, x, y)
        scores = total / _exponential_sums(heatmaps, scores)
    return (points + 0.5) * stride - 0.5, scores


def _peaks(heatmaps: "Floats") -> "Tuple[Indices, Indices, Floats]":
    """x and y (N, K) of the largest value of each heatmap, the first in rows from the top, and the value."""
    n, k, height, width = heatmaps.shape
    if heatmaps.flags.c_contiguous:
        flat = heatmaps.reshape(n, k, -1)
        places = flat.argmax(axis=2)
        return places % width, places // width, flat[np.arange(n)[:, None], np.arange(k), places]
    # Along an axis that is not the last NumPy is quick to find the largest value, but slow to find its place.
    rows = heatmaps.transpose(0, 2, 3, 1)
    columns = rows.reshape(n, height, width * k).max(axis=1).reshape(n, width, k)
    values = columns.max(axis=1)
    face, x, landmark = np.nonzero(columns == values[:, None])
    y = rows[face, :, x, landmark].argmax(axis=1)
    places = np.full((n, k), height * width)
    np.minimum.at(places, (face, landmark), y * width + x)
    return places % width, places // width, values


def _window(heatmaps: "Floats", x: "Indices", y: "Indices", side: int) -> "Tuple[Floats, Flags]":
    """Squares of ``side`` about the places (N, K), (N, K, side, side), and which of their values are of the heatmap.

    Where they leave the heatmap they hold those of its border.
    """
    n, k, height, width = heatmaps.shape
    steps = np.arange(side) - side // 2
    rows, columns = y[..., None] + steps, x[..., None] + steps
    near_rows = np.minimum(np.maximum(rows, 0), height - 1)
    near_columns = np.minimum(np.maximum(columns, 0), width - 1)
    found = heatmaps[
        np.arange(n)[:, None, None, None],
        np.arange(k)[:, None, None],
        near_rows[..., :, None],
        near_columns[..., None, :],
    ]
    return found, (rows == near_rows)[..., :, None] & (columns == near_columns)[..., None, :]


def _quarter_moved(heatmaps: "Floats", x: "Indices", y: "Indices") -> "Floats":
    window, inside = _window(heatmaps, x, y, 3)
    dx = np.sign(window[..., 1, 2] - window[..., 1, 0])
    dy = np.sign(window[..., 2, 1] - window[..., 0, 1])
    # A peak on the border has one neighbour only and stays where it is.
    dx, dy = dx * (inside[..., 1, 0] & inside[..., 1, 2]), dy * (inside[..., 0, 1] & inside[..., 2, 1])
    return np.stack([x + 0.25 * dx, y + 0.25 * dy], axis=2)


def _local_mean(weights: "Floats", x: "Indices", y: "Indices") -> "Tuple[Floats, Floats]":
    """Mean position by ``weights`` (N, K, side, side) about the peaks, and the weight in all."""
    n, k, side, _ = weights.shape
    sums = weights.reshape(n, k, side * side).dot(_moments(side))
    total = sums[..., 2]
    safe = np.where(total > 0, total, 1.0)
    return np.stack([x + sums[..., 0] / safe, y + sums[..., 1] / safe], axis=2), total


@lru_cache(maxsize=None)
def _moments(side: int) -> "Floats":
    """(side * side, 3): of each place in a square, in rows from the top, its x and y from the middle, and 1."""
    steps = (np.arange(side) - side // 2).astype(np.float32)
    return np.stack([np.tile(steps, side), np.repeat(steps, side), np.ones(side * side, np.float32)], axis=1)


def _exponential_sums(heatmaps: "Floats", largest: "Floats") -> "Floats":
    """Sums (N, K) over each heatmap of e to the power of its values less the ``largest`` of them (N, K)."""
    n, k, height, width = heatmaps.shape
    sums = np.empty_like(largest)
    channels_first = heatmaps.flags.c_contiguous
    # Face by face in one place: it stays in the processor's cache.
    powers = np.empty((k, height * width) if channels_first else (height, width * k), dtype=heatmaps.dtype)
    for face in range(n):
        if channels_first:
            np.subtract(heatmaps[face].reshape(powers.shape), largest[face][:, None], out=powers)
            np.exp(powers, out=powers)
            powers.sum(axis=1, out=sums[face])
        else:
            rows = heatmaps[face].transpose(1, 2, 0).reshape(powers.shape)
            np.subtract(rows, np.tile(largest[face], width), out=powers)
            np.exp(powers, out=powers)
            powers.sum(axis=0).reshape(width, k).sum(axis=0, out=sums[face])
    return sums
