"""From heatmaps to points: the NumPy decoder used in training's evaluation and on the device alike.

It runs on a Jetson as it is: the syntax is that of Python 3.6, and NumPy 1.13 has all that is used of it.
"""

from typing import TYPE_CHECKING, Tuple

import numpy as np

from slimalign.runtimes.errors import NonFiniteError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
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
    heatmap: crop = (heatmap + 0.5) * stride - 0.5. The scores are (N, K).

    - ``argmax-quarter`` (SD-HRNet): the peak, moved a quarter pixel towards its larger neighbour;
      the score is the peak's value.
    - ``local-mean``: mean position over a 5x5 window about the peak, weighted by the positive values there;
      the score is the peak's value. For heatmaps trained with the mean squared error.
    - ``local-softmax``: the mean over a 9x9 window of the spatial softmax; the score is the probability inside it.
      For heatmaps that are logits.

    Raises UserError for an unknown decoder and NonFiniteError for heatmaps that are not finite.
    """
    if not np.isfinite(heatmaps).all():
        raise NonFiniteError(
            "the network's heatmaps hold NaN or infinite values; no points can be read from them"
        )
    if decoder == "argmax-quarter":
        points, scores = _argmax_quarter(heatmaps)
    elif decoder == "local-mean":
        points, _ = _local_mean(np.maximum(heatmaps, 0.0), *_peaks(heatmaps), MEAN_WINDOW)
        scores = heatmaps.max(axis=(2, 3))
    elif decoder == "local-softmax":
        # The peak is that of the logits: of two that differ by less than 1e-7 the softmax makes equals.
        points, scores = _local_mean(_spatial_softmax(heatmaps), *_peaks(heatmaps), SOFTMAX_WINDOW)
    else:
        raise UserError(f"decoder '{decoder}' is unknown; choose one of {', '.join(DECODERS)}")
    return (points + 0.5) * stride - 0.5, scores


def _peaks(heatmaps: "Floats") -> "Tuple[Indices, Indices]":
    n, k, _, width = heatmaps.shape
    flat = heatmaps.reshape(n, k, -1).argmax(axis=2)
    return flat % width, flat // width


def _argmax_quarter(heatmaps: "Floats") -> "Tuple[Floats, Floats]":
    n, k, height, width = heatmaps.shape
    x, y = _peaks(heatmaps)
    padded = np.pad(heatmaps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="constant")
    rows, columns = np.arange(n)[:, None], np.arange(k)[None]
    dx = np.sign(padded[rows, columns, y + 1, x + 2] - padded[rows, columns, y + 1, x])
    dy = np.sign(padded[rows, columns, y + 2, x + 1] - padded[rows, columns, y, x + 1])
    # A peak on the border has one neighbour only and stays where it is.
    dx, dy = dx * ((x > 0) & (x < width - 1)), dy * ((y > 0) & (y < height - 1))
    points = np.stack([x + 0.25 * dx, y + 0.25 * dy], axis=2)
    return points, heatmaps[rows, columns, y, x]


def _local_mean(weights: "Floats", x: "Indices", y: "Indices", side: int) -> "Tuple[Floats, Floats]":
    """Mean position by ``weights`` over windows of ``side`` about the peaks (N, K), and the weight inside them."""
    n, k = weights.shape[:2]
    reach = side // 2
    padded = np.pad(weights, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="constant")
    steps = np.arange(side)
    window = padded[
        np.arange(n)[:, None, None, None],
        np.arange(k)[None, :, None, None],
        y[:, :, None, None] + steps[:, None],
        x[:, :, None, None] + steps[None, :],
    ]
    total = window.sum(axis=(2, 3))
    offsets = steps - reach
    safe = np.where(total > 0, total, 1.0)
    dx = (window.sum(axis=2) * offsets).sum(axis=2) / safe
    dy = (window.sum(axis=3) * offsets).sum(axis=2) / safe
    return np.stack([x + dx, y + dy], axis=2), total


def _spatial_softmax(heatmaps: "Floats") -> "Floats":
    shifted = np.exp(heatmaps - heatmaps.max(axis=(2, 3), keepdims=True))
    result: "Floats" = shifted / shifted.sum(axis=(2, 3), keepdims=True)
    return result
