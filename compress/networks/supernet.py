"""HRSuperNet and its students (SD-HRNet, Sensors 2023, 23, 1532): one module built from an Architecture.

The supernet is the network of the full architecture; a student is the same module with fewer operations.
The importance factors stay in the network as the multipliers of equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimalign.compress.networks.architecture import Architecture, Operation
from slimalign.compress.networks.head import HeatmapHead

BN_MOMENTUM = 0.01


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with HRNet's momentum."""
    return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)


def conv3x3(source: int, target: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size, or halves it with stride 2."""
    return nn.Conv2d(source, target, 3, stride, 1, bias=False)


class MBConv(nn.Module):
    """x + BN(1x1(ReLU6(BN(depthwise 3x3 x)))): an inverted bottleneck of expansion 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
            batch_norm(width),
            nn.ReLU6(),
            nn.Conv2d(width, width, 1, bias=False),
            batch_norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = x + self.body(x)
        return out


def transformation(op: Operation, source_width: int, target_width: int) -> nn.Module:
    """T of equation 1 at the source's resolution, all but the upsampling.

    Down: 3x3 stride-2 convolutions, widening in the last, BN + ReLU between, BN alone at the end.
    Up: 1x1 + BN. Same level: identity, or a 3x3 + BN where the width changes (from stage 1).
    """
    steps = op.target - op.source
    if steps < 0:
        return nn.Sequential(nn.Conv2d(source_width, target_width, 1, bias=False), batch_norm(target_width))
    if steps == 0 and source_width == target_width:
        return nn.Identity()
    if steps == 0:
        return nn.Sequential(conv3x3(source_width, target_width), batch_norm(target_width))
    layers: list[nn.Module] = []
    for _ in range(steps - 1):
        layers += [conv3x3(source_width, source_width, 2), batch_norm(source_width), nn.ReLU()]
    return nn.Sequential(*layers, conv3x3(source_width, target_width, 2), batch_norm(target_width))


def upsample(x: Tensor, steps: int) -> Tensor:
    """Enlarge by 2^steps, bilinear with half-pixel centres."""
    if steps == 0:
        return x
    return nn.functional.interpolate(x, scale_factor=float(2**steps), mode="bilinear", align_corners=False)


class HRSuperNet(nn.Module):
    """The network of an architecture: stem, stages of LSFF blocks, head.

    ``factors`` (operations,) are the importance factors in the order of ``architecture.operations``.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.stem_width
        self.stem = nn.Sequential(
            conv3x3(3, width, 2),
            batch_norm(width),
            nn.ReLU(),
            conv3x3(width, width, 2),
            batch_norm(width),
            nn.ReLU(),
        )
        self.factors = nn.Parameter(torch.ones(len(architecture.operations)))
        self.encoders = nn.ModuleDict(
            {
                block_key(stage, level): self._encoder(stage, level)
                for stage, level in architecture.encoded_blocks
            }
        )
        self.transforms = nn.ModuleDict()
        for op in architecture.operations:
            self.transforms[operation_key(op)] = transformation(
                op, architecture.width_of(op.stage - 1, op.source), architecture.width_of(op.stage, op.target)
            )
        concatenated = sum(architecture.widths[level] for level in architecture.output_levels)
        self.head = HeatmapHead(concatenated, architecture.hidden_width, architecture.landmarks)
        self._factor_index = {op: index for index, op in enumerate(architecture.operations)}
        initialise(self)

    def _encoder(self, stage: int, level: int) -> nn.Sequential:
        width = self.architecture.width_of(stage, level)
        return nn.Sequential(*(MBConv(width) for _ in range(self.architecture.encoders)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, S/4, S/4)."""
        blocks = {0: self.encoders[block_key(1, 0)](self.stem(images))}
        for number, stage in enumerate(self.architecture.stages, start=2):
            blocks = {target: self._block(number, target, blocks) for target in sorted(stage)}
        return self._heatmaps(blocks)

    def _block(self, stage: int, target: int, blocks: dict[int, Tensor]) -> Tensor:
        """An LSFF block, equation 1: the weighted sum of its sources, ReLU, MBConvs (none in the last stage)."""
        total: Tensor | None = None
        for source in sorted(self.architecture.stages[stage - 2][target]):
            op = Operation(stage, target, source)
            term = self.transforms[operation_key(op)](blocks[source])
            # Weighted before it is enlarged: the same sum, on fewer pixels.
            term = upsample(self._weighted(op, term), max(0, source - target))
            total = term if total is None else total + term
        assert total is not None
        fused = nn.functional.relu(total)
        key = block_key(stage, target)
        encoded: Tensor = self.encoders[key](fused) if key in self.encoders else fused
        return encoded

    def _heatmaps(self, blocks: dict[int, Tensor]) -> Tensor:
        """The head on the last stage's blocks, each enlarged to level 0."""
        heatmaps: Tensor = self.head([upsample(blocks[level], level) for level in sorted(blocks)])
        return heatmaps

    def _weighted(self, op: Operation, term: Tensor) -> Tensor:
        """The operation's output times its importance factor."""
        return self.factors[self._factor_index[op]] * term


def operation_key(op: Operation) -> str:
    """The operation's name among the module's parameters, as in ``s3_t0_f1``: stage 3, to level 0, from 1."""
    return f"s{op.stage}_t{op.target}_f{op.source}"


def block_key(stage: int, level: int) -> str:
    """The block's name among the module's parameters."""
    return f"s{stage}_l{level}"


def initialise(network: nn.Module) -> None:
    """He's initialisation for convolutions; the heatmaps start near zero, as flat distributions."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name == "head.heatmaps":
                nn.init.normal_(module.weight, std=0.001)
