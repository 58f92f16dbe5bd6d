"""HRNetV2 for face alignment: the teacher.

Deep high-resolution representation learning (Wang et al., 2020), the W18 version as its authors use it on
300W: a bottleneck stage, then 1, 4 and 3 modules with 2, 3 and 4 branches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from slimalign.compress.networks.blocks import (
    batch_norm,
    conv3x3,
    stem,
    transformation,
    upsample,
)
from slimalign.compress.networks.head import HeatmapHead

STEM_WIDTH = 64
BOTTLENECKS = 4
BLOCKS_A_BRANCH = 4
MODULES = (1, 4, 3)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a fourfold wider output, and a shortcut."""

    expansion = 4

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        target = width * self.expansion
        self.body = nn.Sequential(
            nn.Conv2d(source, width, 1, bias=False),
            batch_norm(width),
            nn.ReLU(),
            conv3x3(width, width),
            batch_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, target, 1, bias=False),
            batch_norm(target),
        )
        self.shortcut: nn.Module = nn.Identity()
        if source != target:
            self.shortcut = nn.Sequential(nn.Conv2d(source, target, 1, bias=False), batch_norm(target))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H, W)."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(width, width), batch_norm(width), nn.ReLU(), conv3x3(width, width), batch_norm(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return nn.functional.relu(self.body(x) + x)


class HRModule(nn.Module):
    """Parallel branches of basic blocks, then every branch reads every other."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(BLOCKS_A_BRANCH))) for width in widths
        )
        levels = range(len(widths))
        self.fusions = nn.ModuleList(
            nn.ModuleList(transformation(source, target, widths[source], widths[target]) for source in levels)
            for target in levels
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """One tensor a branch -> the same shapes."""
        encoded = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        return [self._fused(target, encoded) for target in range(len(encoded))]

    def _fused(self, target: int, encoded: list[Tensor]) -> Tensor:
        row = self.fusions[target]
        assert isinstance(row, nn.ModuleList)
        terms = [
            upsample(transform(x), max(0, source - target))
            for source, (transform, x) in enumerate(zip(row, encoded, strict=True))
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return nn.functional.relu(total)


class HRNet(nn.Module):
    """HRNetV2 with the face-alignment head; ``width`` 18 gives HRNetV2-W18."""

    def __init__(self, landmarks: int, width: int = 18) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(MODULES) + 1)]
        self.stem = stem(STEM_WIDTH)
        stage1 = STEM_WIDTH * Bottleneck.expansion
        self.stage1 = nn.Sequential(
            Bottleneck(STEM_WIDTH, STEM_WIDTH),
            *(Bottleneck(stage1, STEM_WIDTH) for _ in range(BOTTLENECKS - 1)),
        )
        self.openings = nn.ModuleList()
        self.first_branch = nn.Sequential(conv3x3(stage1, widths[0]), batch_norm(widths[0]), nn.ReLU())
        self.stages = nn.ModuleList()
        source = stage1
        for level, modules in enumerate(MODULES, start=1):
            self.openings.append(
                nn.Sequential(conv3x3(source, widths[level], 2), batch_norm(widths[level]), nn.ReLU())
            )
            self.stages.append(nn.ModuleList(HRModule(widths[: level + 1]) for _ in range(modules)))
            source = widths[level]
        self.head = HeatmapHead(sum(widths), sum(widths), landmarks)
        for module in self.modules():
            if isinstance(module, (Bottleneck, BasicBlock)):
                # Every block starts as its shortcut, so that a deep network learns from the first step.
                last = module.body[-1]
                assert isinstance(last, nn.BatchNorm2d)
                nn.init.zeros_(last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, S/4, S/4)."""
        x = self.stage1(self.stem(images))
        branches = [self.first_branch(x)]
        for opening, modules in zip(self.openings, self.stages, strict=True):
            # Each stage's new branch grows from the lowest one so far; the first grows from stage 1 itself.
            branches.append(opening(x))
            assert isinstance(modules, nn.ModuleList)
            for module in modules:
                branches = module(branches)
            x = branches[-1]
        heatmaps: Tensor = self.head([upsample(branch, level) for level, branch in enumerate(branches)])
        return heatmaps
