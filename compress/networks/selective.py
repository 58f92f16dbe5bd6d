"""Heatmap-guided selective feature attention, equations 1 to 4 of CHS (Sensors 2023, 23, 4731)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from slimalign.compress.networks.blocks import batch_norm, conv3x3, upsample


class ResidualBlock(nn.Module):
    """ResNet's basic block: two 3x3 convolutions and a shortcut, in ``groups`` that do not mix."""

    def __init__(self, source: int, target: int, groups: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(groups * source, groups * target, 3, 1, 1, groups=groups, bias=False),
            batch_norm(groups * target),
            nn.ReLU(),
            nn.Conv2d(groups * target, groups * target, 3, 1, 1, groups=groups, bias=False),
            batch_norm(groups * target),
        )
        self.shortcut: nn.Module = nn.Identity()
        if source != target:
            self.shortcut = nn.Sequential(
                nn.Conv2d(groups * source, groups * target, 1, groups=groups, bias=False),
                batch_norm(groups * target),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, groups x source, H, W) -> (N, groups x target, H, W)."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class SelectiveFeature(nn.Module):
    """Branches F_i, each of ``widths``[i] channels, weighed against one another into ``target`` channels.

    ``guides`` is how many heatmaps guide it: 0 for the heatmap task (t = 0), else those of equation 1's second line.
    A branch is first enlarged by 2^``steps``[i]. ``inner`` channels it has while it is weighed, ``excitation`` z.
    """

    def __init__(
        self,
        widths: Sequence[int],
        inner: int,
        target: int,
        excitation: int,
        guides: int = 0,
        steps: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._steps = steps or [0] * len(widths)
        self.narrowed = nn.ModuleList(nn.Conv2d(width, inner, 1) for width in widths)
        self.guided = None
        if guides:
            self.guided = nn.ModuleList(ResidualBlock(width + guides, inner) for width in widths)
        self.filtered = nn.ModuleList(conv3x3(inner, inner) for _ in widths)
        self.squeezed = nn.Conv2d(inner, excitation, 1)
        self.excited = nn.ModuleList(nn.Conv2d(excitation, inner, 1) for _ in widths)
        self.chosen = nn.Conv2d(inner, target, 1)

    def forward(self, branches: Sequence[Tensor], heatmaps: Tensor | None = None) -> Tensor:
        """Branches (N, C_i, H_i, W_i), the largest first, heatmaps (N, guides, H, W) -> (N, target, H, W)."""
        same = [upsample(branch, steps) for branch, steps in zip(branches, self._steps, strict=True)]
        filtered = [self._filtered(number, branch, heatmaps) for number, branch in enumerate(same)]
        z = self.squeezed(_sum(filtered).mean(dim=(2, 3), keepdim=True))
        scales = _softmax([excite(z) for excite in self.excited])
        out: Tensor = self.chosen(_sum([s * u for s, u in zip(scales, filtered, strict=True)]))
        return out

    def _filtered(self, number: int, branch: Tensor, heatmaps: Tensor | None) -> Tensor:
        """U of equation 1."""
        x = self.narrowed[number](branch)
        if self.guided is not None:
            assert heatmaps is not None
            x = x * self.guided[number](torch.cat([branch, heatmaps], dim=1))
        out: Tensor = self.filtered[number](x)
        return out


def _softmax(values: Sequence[Tensor]) -> list[Tensor]:
    """Over the list, element by element: no stack, which would have five dimensions, one more than devices take."""
    largest = reduce(torch.maximum, values)
    powers = [torch.exp(value - largest) for value in values]
    total = _sum(powers)
    return [power / total for power in powers]


def _sum(values: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, values)
