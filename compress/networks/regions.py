"""Regions of interest about landmarks, sampled by sums and products alone.

Every target has matrix products; gathers, grid samples and region poolings each miss on one of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sampled_regions(features: Tensor, points: Tensor, side: int) -> Tensor:
    """``features`` (N, C, H, W) about each of ``points`` (N, K, 2): ``side`` x ``side`` values, (N K, C, side, side).

    Points are x then y in pixels of the features, centre of the first at 0, 0; values lie a pixel apart and are
    bilinear, 0 outside. Bilinear weights are a product of one along x and one along y, so that each axis is sampled by
    a matrix product of its own. Channels come last all the way, as they lie in memory where it is quickest.
    """
    n, channels, height, width = features.shape
    landmarks = points.shape[1]
    rows = _weights(points[:, :, 1:], side, height).reshape(n, landmarks * side, height)
    columns = _weights(points[:, :, :1], side, width).reshape(n * landmarks, 1, side, width)
    # (N, K side, H) x (N, H, W C): the wanted rows at all columns.
    lines = rows @ features.permute(0, 2, 3, 1).reshape(n, height, width * channels)
    # (N K, 1, side, W) x (N K, side, W, C): the wanted columns of each of these rows.
    sampled = columns @ lines.reshape(n * landmarks, side, width, channels)
    return sampled.permute(0, 3, 1, 2)


def _weights(places: Tensor, side: int, length: int) -> Tensor:
    """Bilinear weights (N, K, side, length), on an axis, of ``side`` values about each of ``places`` (N, K, 1)."""
    wanted = (places + _offsets(side, places))[..., None]
    axis = torch.arange(length, device=places.device, dtype=places.dtype)
    return torch.relu(1 - torch.abs(wanted - axis))


def region_coordinates(points: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Where each of a region's values lies, x then y in -1..1 over the features of ``size``: (N K, 2, side, side)."""
    height, width = size
    offsets = _offsets(side, points)
    x = (points[:, :, :1] + offsets) * (2 / (width - 1)) - 1
    y = (points[:, :, 1:] + offsets) * (2 / (height - 1)) - 1
    zeros = torch.zeros(1, 1, side, side, device=points.device, dtype=points.dtype)
    across = x.reshape(-1, 1, 1, side) + zeros
    down = y.reshape(-1, 1, side, 1) + zeros
    return torch.cat([across, down], dim=1)


def _offsets(side: int, like: Tensor) -> Tensor:
    return torch.arange(side, device=like.device, dtype=like.dtype) - (side - 1) / 2
