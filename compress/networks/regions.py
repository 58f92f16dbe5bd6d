"""Regions of interest about landmarks, sampled by sums and products alone.

Every target has matrix products; gathers, grid samples and region poolings each miss on one of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RegionSampler(nn.Module):
    """``side`` x ``side`` values about each landmark, of maps of ``size`` x ``size``, and where each of them lies.

    Values lie a pixel apart and are bilinear, 0 outside. Bilinear weights are a product of one along x and one along y,
    so that each axis is sampled by a matrix product of its own. Channels come last all the way, as they lie in memory
    where it is quickest.
    """

    def __init__(self, landmarks: int, channels: int, side: int, size: int) -> None:
        super().__init__()
        self._landmarks, self._channels, self._side, self._size = landmarks, channels, side, size
        self.register_buffer(
            "offsets", torch.arange(side, dtype=torch.float32) - (side - 1) / 2, persistent=False
        )
        self.register_buffer("axis", torch.arange(size, dtype=torch.float32), persistent=False)
        self.register_buffer("zeros", torch.zeros(1, 1, side, side), persistent=False)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """``features`` (N, C, size, size), ``points`` (N, K, 2), x then y in their pixels, from the first's centre ->
        (N K, C + 2, side, side), the last two channels x and y in -1..1 from the first pixel to the last.
        """
        x, y = (points[:, :, i : i + 1] + self.get_buffer("offsets") for i in (0, 1))
        return torch.cat([self._sampled(features, x, y), self._places(x, y)], dim=1)

    def _sampled(self, features: Tensor, x: Tensor, y: Tensor) -> Tensor:
        # Sizes are numbers, not those of the tensors: a file would compute them anew for each face.
        side, size = self._side, self._size
        rows = self._weights(y).reshape(-1, self._landmarks * side, size)
        columns = self._weights(x).reshape(-1, 1, side, size)
        # (N, K side, H) x (N, H, W C): the wanted rows at all columns.
        lines = rows @ features.permute(0, 2, 3, 1).reshape(-1, size, size * self._channels)
        # (N K, 1, side, W) x (N K, side, W, C): the wanted columns of each of these rows.
        sampled = columns @ lines.reshape(-1, side, size, self._channels)
        return sampled.permute(0, 3, 1, 2)

    def _weights(self, wanted: Tensor) -> Tensor:
        """Bilinear weights (N, K, side, size), on an axis, of places (N, K, side)."""
        return torch.relu(1 - torch.abs(wanted[..., None] - self.get_buffer("axis")))

    def _places(self, x: Tensor, y: Tensor) -> Tensor:
        scale, zeros = 2 / (self._size - 1), self.get_buffer("zeros")
        across = (x * scale - 1).reshape(-1, 1, 1, self._side) + zeros
        down = (y * scale - 1).reshape(-1, 1, self._side, 1) + zeros
        return torch.cat([across, down], dim=1)
