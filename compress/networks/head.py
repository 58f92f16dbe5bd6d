"""The face-alignment head that the supernet, its students and HRNet share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimalign.compress.networks.blocks import batch_norm


class HeatmapHead(nn.Module):
    """Concatenated levels -> 1x1, BN, ReLU, 1x1 -> one heatmap a landmark.

    The heatmaps start near zero, as flat distributions.
    """

    def __init__(self, channels: int, hidden: int, landmarks: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.norm = batch_norm(hidden)
        self.heatmaps = nn.Conv2d(hidden, landmarks, 1)
        nn.init.normal_(self.heatmaps.weight, std=0.001)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Levels, each (N, C_l, H, W) at the same size -> heatmaps (N, K, H, W)."""
        x = torch.cat(levels, dim=1)
        heatmaps: Tensor = self.heatmaps(nn.functional.relu(self.norm(self.hidden(x))))
        return heatmaps
