"""CHS: a heatmap network and stages of coordinate regression after it (Sensors 2023, 23, 4731)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from slimalign.compress.losses import soft_argmax
from slimalign.compress.networks.architecture import STRIDE, Architecture
from slimalign.compress.networks.blocks import upsample
from slimalign.compress.networks.cascade_shape import CascadeShape
from slimalign.compress.networks.decoding import InGraphDecoder
from slimalign.compress.networks.hourglass import StackedHourglass
from slimalign.compress.networks.regions import RegionSampler
from slimalign.compress.networks.selective import ResidualBlock, SelectiveFeature
from slimalign.compress.networks.supernet import BranchedNetwork, HRSuperNet

BackwardName = Literal["task-wise", "full", "ccr"]
"""Which sums of a stage's offsets and the landmarks before it hand their gradient back, see Cascade.all_stages."""


class StudentBranches(nn.Module):
    """A student of the supernet as the heatmap network: its first block and the levels that its head reads."""

    def __init__(self, student: BranchedNetwork) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Images (N, 3, S, S) -> branches at their own sizes, S/4 and below, and the heatmaps (N, K, S/4, S/4)."""
        branches, heatmaps = self.student.with_branches(images)
        return branches, [heatmaps]


@dataclass(frozen=True)
class CascadeOutput:
    """``heatmaps`` (N, K, h, w) of each stack, a boundary's last among them; landmarks (N, K, 2), in pixels of the
    heatmaps: ``points``[0] read from the heatmaps, ``points``[t] after stage t; ``scores`` (N, K) of the first.
    """

    heatmaps: list[Tensor]
    points: list[Tensor]
    scores: Tensor


class Cascade(nn.Module):
    """The network of a CascadeShape. The landmarks of its last stage are its answer."""

    def __init__(self, shape: CascadeShape) -> None:
        super().__init__()
        self.shape = shape
        self.heatmap: nn.Module
        if isinstance(shape.heatmap, Architecture):
            self.heatmap = StudentBranches(HRSuperNet(shape.heatmap))
        else:
            self.heatmap = StackedHourglass(shape.heatmap, shape.landmarks, shape.input_size)
        self.decoder = self.decoder_of()
        self.stages = nn.ModuleList(RegressionStage(shape) for _ in range(shape.regression.stages))
        self.in_crop = InCrop()

    def decoder_of(self, channels_last: bool = False) -> InGraphDecoder:
        """What reads the first landmarks from the heatmaps, in their pixels; ``channels_last`` as its own."""
        return InGraphDecoder(self.shape.decoder, self.shape.input_size // STRIDE, 1, channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (N, 3, S, S) -> points (N, K, 2), x then y in pixels of the crop, scores (N, K)."""
        found = self.all_stages(images)
        return self.in_crop(found.points[-1]), found.scores

    def all_stages(self, images: Tensor, backward: BackwardName = "ccr") -> CascadeOutput:
        """What every stage gives of normalised images.

        Of the connections by which a later stage's loss reaches an earlier one, ``full`` keeps all, ``ccr`` those
        between the stages of regression but not the one into the heatmap network, ``task-wise`` none. Where a region
        is sampled has no gradient in any of them, as in a pooling of regions.
        """
        branches, heatmaps = self.heatmap(images)
        guide = heatmaps[-1] if backward == "full" else heatmaps[-1].detach()
        # In float32 where training is in bfloat16, which has too few bits for a place.
        first, scores = self.decoder(guide[:, : self.shape.landmarks].float())
        if backward == "full":
            # The decoder's landmarks, with the gradient of the mean over the whole heatmap: a wrong peak has one too.
            mean = self._mean_places(guide[:, : self.shape.landmarks].float())
            first = first.detach() + mean - mean.detach()
        points = [first]
        for stage in self.stages:
            before = points[-1].detach() if backward == "task-wise" else points[-1]
            points.append(stage(branches, guide, before))
        return CascadeOutput(heatmaps, points, scores)

    def _mean_places(self, heatmaps: Tensor) -> Tensor:
        """The soft-argmax (N, K, 2) of heatmaps (N, K, H, W): by their softmax where they are logits."""
        height, width = heatmaps.shape[2:]
        flat = heatmaps.flatten(2)
        if self.shape.decoder == "local-softmax":
            return soft_argmax(flat.softmax(dim=2), height, width)
        weights = torch.relu(flat)
        return soft_argmax(weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-6), height, width)

    def keeping(self, stages: int) -> Cascade:
        """A copy with the first ``stages`` stages of regression alone, whose outputs are those of this one's."""
        with torch.device("meta"):
            cut = Cascade(self.shape.keeping(stages))
        cut.heatmap = copy.deepcopy(self.heatmap)
        cut.decoder = copy.deepcopy(self.decoder)
        cut.in_crop = copy.deepcopy(self.in_crop)
        cut.stages = copy.deepcopy(self.stages[:stages])
        return cut.train(self.training)


class RegressionStage(nn.Module):
    """One stage of coordinate regression: features chosen for it, a region of them about each landmark, a block of
    each landmark's own (or one that all share), and a fully connected layer over all of them.
    """

    def __init__(self, shape: CascadeShape) -> None:
        super().__init__()
        parts = shape.regression
        self.selective: nn.Module
        if parts.selective:
            self.selective = SelectiveFeature(
                shape.branch_widths,
                parts.selective_width,
                parts.features,
                parts.excitation,
                shape.heatmaps,
                shape.branch_steps,
            )
        else:
            self.selective = NarrowedBranches(shape.branch_widths, parts.features, shape.branch_steps)
        self.sampler = RegionSampler(shape.landmarks, parts.features, parts.side, shape.input_size // STRIDE)
        groups = 1 if parts.shared else shape.landmarks
        self._regions = (-1, groups * (parts.features + 2), parts.side, parts.side)
        self.block = ResidualBlock(parts.features + 2, parts.width, groups)
        # Each region as two planes of its size, or as a few numbers.
        planes, kernel, each = 2, 1, 2 * parts.side**2
        if parts.numbers is not None:
            planes, kernel, each = parts.numbers, parts.side, parts.numbers
        self.planes = nn.Conv2d(groups * parts.width, groups * planes, kernel, groups=groups)
        self.offsets = Offsets(shape.landmarks * each, 2 * shape.landmarks)
        # The first step leaves landmarks where the heatmaps have them.
        nn.init.normal_(self.offsets.weight, std=0.001)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, branches: list[Tensor], heatmaps: Tensor, before: Tensor) -> Tensor:
        """Branches (N, C_i, h, w), heatmaps (N, K, h, w), landmarks (N, K, 2) ``before`` -> landmarks after the stage,
        both in pixels of the heatmaps.
        """
        regions = self.sampler(self.selective(branches, heatmaps), before.detach())
        planes = self.planes(self.block(regions.reshape(self._regions)))
        after: Tensor = self.offsets(planes.reshape(-1, self.offsets.in_features), before)
        return after


class Offsets(nn.Linear):
    """The fully connected layer, and its sum with the landmarks before it."""

    def forward(self, planes: Tensor, before: Tensor) -> Tensor:  # type: ignore[override]
        """What all regions have become (N, in_features), landmarks (N, K, 2) -> landmarks (N, K, 2)."""
        return before + super().forward(planes).reshape(-1, self.out_features // 2, 2)


class InCrop(nn.Module):
    """From pixels of the heatmaps to pixels of the crop."""

    def forward(self, points: Tensor) -> Tensor:
        """(N, K, 2) -> (N, K, 2)."""
        return (points + 0.5) * STRIDE - 0.5


class NarrowedBranches(nn.Module):
    """The sum of a 1x1 convolution of each branch, the smaller ones enlarged to the first's size: no attention."""

    def __init__(self, widths: list[int], target: int, steps: list[int]) -> None:
        super().__init__()
        self._steps = steps
        self.narrowed = nn.ModuleList(nn.Conv2d(width, target, 1) for width in widths)

    def forward(self, branches: list[Tensor], _: Tensor) -> Tensor:
        """Branches (N, C_i, h_i, w_i) -> (N, target, h_0, w_0)."""
        terms = [
            upsample(conv(branch), steps)
            for conv, branch, steps in zip(self.narrowed, branches, self._steps, strict=True)
        ]
        return nn.functional.relu(reduce(torch.add, terms))
