"""HRSuperNet and its students (SD-HRNet, Sensors 2023, 23, 1532): one module built from an Architecture.

The supernet is the network of the full architecture; a student is the same module with fewer operations.
The importance factors stay in the network as the multipliers of equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimalign.compress.networks.architecture import Architecture, Operation
from slimalign.compress.networks.blocks import batch_norm, stem, transformation, upsample
from slimalign.compress.networks.head import HeatmapHead


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


class BranchedNetwork(nn.Module):
    """A network of which a cascade reads more than the heatmaps."""

    def with_branches(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Branches for a cascade, the largest first, and the heatmaps (N, K, S/4, S/4)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, S/4, S/4)."""
        return self.with_branches(images)[1]


class HRSuperNet(BranchedNetwork):
    """The network of an architecture: stem, stages of LSFF blocks, head.

    ``factors`` (operations,) are the importance factors in the order of ``architecture.operations``.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.stem = stem(architecture.stem_width)
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
                op.source,
                op.target,
                architecture.width_of(op.stage - 1, op.source),
                architecture.width_of(op.stage, op.target),
            )
        concatenated = sum(architecture.widths[level] for level in architecture.output_levels)
        self.head = HeatmapHead(concatenated, architecture.hidden_width, architecture.landmarks)
        self._factor_index = {op: index for index, op in enumerate(architecture.operations)}

    def _encoder(self, stage: int, level: int) -> nn.Sequential:
        width = self.architecture.width_of(stage, level)
        return nn.Sequential(*(MBConv(width) for _ in range(self.architecture.encoders)))

    def with_branches(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The first block and the levels that the head reads, each at its own size; and the heatmaps."""
        first = self.encoders[block_key(1, 0)](self.stem(images))
        blocks = {0: first}
        for number, stage in enumerate(self.architecture.stages, start=2):
            blocks = {target: self._block(number, target, blocks) for target in sorted(stage)}
        return [first, *(blocks[level] for level in sorted(blocks))], self._heatmaps(blocks)

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


def weights_of(network: nn.Module) -> list[nn.Parameter]:
    """All parameters of ``network`` but the importance factors of the supernets and students in it."""
    factors = {id(part.factors) for part in network.modules() if isinstance(part, HRSuperNet)}
    return [parameter for parameter in network.parameters() if id(parameter) not in factors]
