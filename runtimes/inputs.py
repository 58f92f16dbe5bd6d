"""From crops to what a network takes, and from what it gives back to heatmaps with the channels first.

It runs on a Jetson as it is: the syntax is that of Python 3.6, and NumPy 1.13 has all that is used of it.
"""

from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np

from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Manifest

    Image = NDArray[np.uint8]
    Float32 = NDArray[np.float32]


def network_inputs(crops: "Image", manifest: "Manifest", out: "Optional[Float32]" = None) -> "Float32":
    """Normalise ``crops`` (N, S, S, 3) uint8 RGB: (pixel / 255 - mean) / std in the layout of ``manifest``.

    Channels are in the manifest's ``colour``, as are its mean and std. The answer is contiguous float32, (N, 3, S, S)
    for NCHW and (N, S, S, 3) for NHWC; it is ``out`` where that is given, an array of that kind. Raises UserError where
    the crops are not uint8 or not of the network's input size.
    """
    size = manifest.input_size
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
        raise UserError(
            f"crops of shape {crops.shape} and type {crops.dtype}: bundle '{manifest.name}' takes"
            f" (N, {size}, {size}, 3) uint8 RGB"
        )
    if out is None:
        out = np.empty((len(crops), *input_shape(manifest)), dtype=np.float32)
    scale, offset = _scale_and_offset(manifest)
    if manifest.colour == "bgr":
        crops = crops[..., ::-1]
    fill = _channels_first if manifest.layout == "NCHW" else _channels_last
    fill(crops, scale, offset, out)
    return out


def input_shape(manifest: "Manifest") -> "Tuple[int, int, int]":
    """The shape of one face as the network takes it, in the layout of ``manifest``."""
    size = manifest.input_size
    return (3, size, size) if manifest.layout == "NCHW" else (size, size, 3)


def heatmaps_nchw(raw: "Float32", manifest: "Manifest") -> "Float32":
    """The heatmaps as (N, K, H, W), a view of what the network gave in the layout of ``manifest``."""
    return raw if manifest.layout == "NCHW" else raw.transpose(0, 3, 1, 2)


def _scale_and_offset(manifest: "Manifest") -> "Tuple[Float32, Float32]":
    """(pixel / 255 - mean) / std as pixel * scale + offset: one multiply-add a value."""
    mean, std = np.array(manifest.mean), np.array(manifest.std)
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def _channels_first(crops: "Image", scale: "Float32", offset: "Float32", out: "Float32") -> None:
    for channel in range(crops.shape[3]):
        plane = out[:, channel]
        np.multiply(crops[..., channel], scale[channel], out=plane, dtype=np.float32)
        plane += offset[channel]


def _channels_last(crops: "Image", scale: "Float32", offset: "Float32", out: "Float32") -> None:
    # NumPy's inner loop runs over the last axis: seven times as fast on a row of pixels as on three channels.
    count, height, width, channels = crops.shape
    shape = (count * height, width * channels)
    rows = out.reshape(shape)
    np.multiply(np.ascontiguousarray(crops).reshape(shape), np.tile(scale, width), out=rows, dtype=np.float32)
    rows += np.tile(offset, width)
