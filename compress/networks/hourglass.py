"""Stacked hourglasses for landmark and boundary heatmaps: CHS's heatmap network, and AWing's own where nothing is
selected (Sensors 2023, 23, 4731; Adaptive Wing Loss, Wang et al., 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimalign.compress.networks.blocks import batch_norm, conv3x3, upsample
from slimalign.compress.networks.cascade_shape import HourglassShape
from slimalign.compress.networks.decoding import unit
from slimalign.compress.networks.selective import SelectiveFeature

BOUNDARY_VALUE = 0.05
"""Where the boundary heatmap is above this, coordinates are told once more, as on the boundary."""
STEEP = 1e4
"""Makes a step of it; float16 can still hold the product of that and a heatmap."""


class HierarchicalBlock(nn.Module):
    """The hierarchical, parallel and multi-scale residual block: 3x3 convolutions to 1/2, 1/4 and 1/4 of ``target``
    channels, each after batch norm and ReLU and on what the one before gives, concatenated; and a shortcut.
    """

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        half, quarter = target // 2, target // 4
        self.steps = nn.ModuleList(
            nn.Sequential(batch_norm(a), nn.ReLU(), conv3x3(a, b))
            for a, b in ((source, half), (half, quarter), (quarter, quarter))
        )
        self.shortcut: nn.Module = nn.Identity()
        if source != target:
            self.shortcut = nn.Sequential(
                batch_norm(source), nn.ReLU(), nn.Conv2d(source, target, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, source, H, W) -> (N, target, H, W)."""
        parts = [x]
        for step in self.steps:
            parts.append(step(parts[-1]))
        out: Tensor = torch.cat(parts[1:], dim=1) + self.shortcut(x)
        return out


class Hourglass(nn.Module):
    """Down to 1/2^depth of the size and up again, with a block at each size on the way and a shortcut at each."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.beside = HierarchicalBlock(width, width)
        self.before = HierarchicalBlock(width, width)
        self.inner: nn.Module = Hourglass(depth - 1, width) if depth > 1 else HierarchicalBlock(width, width)
        self.after = HierarchicalBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; H and W are multiples of 2^depth."""
        low = self.after(self.inner(self.before(nn.functional.avg_pool2d(x, 2))))
        out: Tensor = self.beside(x) + upsample(low, 1)
        return out


class CoordinateConv(nn.Module):
    """A convolution that also reads where it is: x, y and the distance from the middle, each in -1..1, and where a
    boundary is given x and y on it, 0 elsewhere.
    """

    def __init__(self, conv: nn.Conv2d, side: int) -> None:
        super().__init__()
        self.conv = conv
        self.mask = BoundaryMask()
        along = torch.linspace(-1, 1, side)
        x, y = along[None, :].expand(side, side), along[:, None].expand(side, side)
        radius = torch.sqrt(x**2 + y**2)
        self.register_buffer("places", torch.stack([x, y, radius / radius.max()])[None], persistent=False)

    def forward(self, x: Tensor, boundary: Tensor | None = None) -> Tensor:
        """(N, C, side, side), and the boundary heatmap (N, 1, side, side) where there is one."""
        places = self.get_buffer("places")
        # Added to a channel of zeros: expanding to a batch is no operation that all targets have.
        zeros = 0.0 * x[:, :1]
        channels = [x, zeros + places]
        if boundary is not None:
            channels.append(self.mask(boundary.detach()) * places[:, :2])
        out: Tensor = self.conv(torch.cat(channels, dim=1))
        return out


class BoundaryMask(nn.Module):
    """1 where a boundary heatmap is above BOUNDARY_VALUE, 0 where it is not."""

    def forward(self, boundary: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W)."""
        return unit((boundary - BOUNDARY_VALUE) * STEEP)


class Stack(nn.Module):
    """One hourglass and its heatmaps; all but the last hand on features for the next."""

    def __init__(
        self, shape: HourglassShape, heatmaps: int, side: int, is_first: bool, is_last: bool
    ) -> None:
        super().__init__()
        width = shape.width
        self.entry = CoordinateConv(
            nn.Conv2d(width + (3 if is_first or not shape.boundary else 5), width, 1), side
        )
        self.hourglass = Hourglass(shape.depth, width)
        self.block = HierarchicalBlock(width, width)
        self.last = nn.Sequential(nn.Conv2d(width, width, 1), batch_norm(width), nn.ReLU())
        self.heatmaps = nn.Conv2d(width, heatmaps, 1)
        self.handed_on = (
            None if is_last else nn.ModuleList([nn.Conv2d(width, width, 1), nn.Conv2d(heatmaps, width, 1)])
        )

    def forward(self, x: Tensor, boundary: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (N, C, H, W) -> features for the next stack, heatmaps (N, K + 1, H, W)."""
        features = self.last(self.block(self.hourglass(self.entry(x, boundary))))
        heatmaps = self.heatmaps(features)
        if self.handed_on is not None:
            of_features, of_heatmaps = self.handed_on
            x = x + of_features(features) + of_heatmaps(heatmaps)
        return x, heatmaps


class StackedHourglass(nn.Module):
    """Images -> feature maps for all tasks, and the heatmaps of every stack.

    The front is a convolution and blocks; with ``selective`` its last blocks' outputs are weighed against one another
    by the selective feature module of task 0, without it there are AWing's own two.
    """

    def __init__(self, shape: HourglassShape, landmarks: int, input_size: int) -> None:
        super().__init__()
        self.landmarks = landmarks
        self._has_boundary = shape.boundary
        branches, width, stem = shape.branch_width, shape.width, shape.stem_width
        self.stem = CoordinateConv(nn.Conv2d(6, stem, 7, 2, 3), input_size)
        self.stem_norm = nn.Sequential(batch_norm(stem), nn.ReLU())
        self.opening = HierarchicalBlock(stem, branches)
        widths = [branches] * shape.branches if shape.selective else [branches, width]
        self.blocks = nn.ModuleList(
            HierarchicalBlock(a, b) for a, b in zip([branches, *widths], widths, strict=False)
        )
        self.selective = None
        if shape.selective:
            self.selective = SelectiveFeature(
                [branches] * shape.branches, shape.selective_width, width, shape.excitation
            )
        maps = landmarks + int(shape.boundary)
        self.stacks = nn.ModuleList(
            Stack(shape, maps, input_size // 4, number == 0, number == shape.hourglasses - 1)
            for number in range(shape.hourglasses)
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Normalised images (N, 3, S, S) -> branches (N, C, S/4, S/4), and heatmaps (N, K + 1, S/4, S/4) a stack.

        Landmarks come first among the heatmaps; the last is the boundary's, where there is one.
        """
        x = nn.functional.avg_pool2d(self.opening(self.stem_norm(self.stem(images))), 2)
        branches = []
        for block in self.blocks:
            x = block(x)
            branches.append(x)
        if self.selective is not None:
            x = self.selective(branches)
        found: list[Tensor] = []
        for stack in self.stacks:
            is_told = self._has_boundary and bool(found)
            x, heatmaps = stack(x, found[-1][:, self.landmarks :] if is_told else None)
            found.append(heatmaps)
        return branches, found
