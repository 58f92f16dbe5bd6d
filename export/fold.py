"""A network as it is exported: the same function with fewer operations.

What training needs and inference does not is multiplied into the weights beside it: the importance factors
into the batch norms, the batch norms into the convolutions. The exporters fold batch norms too, but not
the factors, and a smaller graph is converted in a fraction of the time. The head's first convolution is
moved to before the enlargement of the levels that it reads.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from slimalign.compress.networks.architecture import Operation
from slimalign.compress.networks.blocks import upsample
from slimalign.compress.networks.cascade import StudentBranches
from slimalign.compress.networks.head import HeatmapHead
from slimalign.compress.networks.supernet import BranchedNetwork, HRSuperNet, block_key, operation_key


def folded(network: nn.Module) -> nn.Module:
    """A copy of ``network`` on the CPU, in float32 and for inference, with all folded that can be.

    It computes the same heatmaps but for rounding; ``network`` stays as it is.
    """
    # Folded in float64, so that each weight is rounded once.
    inference = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    if isinstance(inference, HRSuperNet):
        inference = FoldedSuperNet(inference).eval().requires_grad_(False)
    for part in inference.modules():
        if isinstance(part, StudentBranches) and isinstance(part.student, HRSuperNet):
            part.student = FoldedSuperNet(part.student).eval().requires_grad_(False)
    _fold_batch_norms(inference)
    _replace_batch_norms(inference)
    return inference.float()


class ScaleShift(nn.Module):
    """A batch norm that no convolution can take over: a product and a sum of constants."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.scale = nn.Parameter(scale.detach()[None, :, None, None])
        self.shift = nn.Parameter((norm.bias - norm.running_mean * scale).detach()[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return x * self.scale + self.shift


def _replace_batch_norms(network: nn.Module) -> None:
    """Those that are left stand before an activation, as in an hourglass's blocks."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, ScaleShift(child))


class FoldedSuperNet(BranchedNetwork):
    """An HRSuperNet with its importance factors folded into its transformations, block by block.

    Each LSFF block is a module of its own, so that all it computes carries its name in the exported graph. The head
    works level by level.
    """

    def __init__(self, network: HRSuperNet) -> None:
        super().__init__()
        architecture = network.architecture
        self.stem = copy.deepcopy(network.stem)
        self.first = block_key(1, 0)
        self.add_module(self.first, copy.deepcopy(network.encoders[self.first]))
        # Lists of keys, by stage: the blocks themselves are children of the network, under their own names.
        self.stages: list[dict[int, str]] = []
        for number, stage in enumerate(architecture.stages, start=2):
            self.stages.append({target: block_key(number, target) for target in sorted(stage)})
            for target, key in self.stages[-1].items():
                self.add_module(key, FoldedBlock(network, number, target))
        widths = {level: architecture.widths[level] for level in architecture.output_levels}
        self.head = LevelHead(network.head, widths)

    def with_branches(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Branches and heatmaps as of an HRSuperNet."""
        first: Tensor = self.get_submodule(self.first)(self.stem(images))
        blocks = {0: first}
        for stage in self.stages:
            blocks = {target: self.get_submodule(key)(blocks) for target, key in stage.items()}
        heatmaps: Tensor = self.head(blocks)
        return [first, *(blocks[level] for level in sorted(blocks))], heatmaps


class FoldedBlock(nn.Module):
    """An LSFF block, equation 1, whose factors are folded into its transformations.

    Each transformation ends in a batch norm, whose scale and shift take the factor; an identity has nothing
    to fold into, so its factor stays a multiplication by a constant.
    """

    def __init__(self, network: HRSuperNet, stage: int, target: int) -> None:
        super().__init__()
        self._target = target
        factors = dict(zip(network.architecture.operations, network.factors.tolist(), strict=True))
        self._scales: dict[int, float] = {}
        self._keys: dict[int, str] = {}
        for source in sorted(network.architecture.stages[stage - 2][target]):
            op = Operation(stage, target, source)
            transform = copy.deepcopy(network.transforms[operation_key(op)])
            if isinstance(transform, nn.Identity):
                self._scales[source] = factors[op]
            else:
                scale_last_norm(transform, factors[op])
            self._keys[source] = operation_key(op)
            self.add_module(operation_key(op), transform)
        key = block_key(stage, target)
        self.encoder = copy.deepcopy(network.encoders[key]) if key in network.encoders else nn.Identity()

    def forward(self, blocks: dict[int, Tensor]) -> Tensor:
        """The blocks of the stage before, by level, (N, C_l, H / 2^l, W / 2^l) -> this level's block."""
        total: Tensor | None = None
        for source, key in self._keys.items():
            term = self.get_submodule(key)(blocks[source])
            # A plain number, not a tensor: LiteRT's converter keeps NHWC only through operands of four dimensions.
            term = self._scales[source] * term if source in self._scales else term
            term = upsample(term, max(0, source - self._target))
            total = term if total is None else total + term
        assert total is not None
        encoded: Tensor = self.encoder(nn.functional.relu(total))
        return encoded


class LevelHead(nn.Module):
    """A HeatmapHead that convolves each level before it is enlarged.

    A 1x1 convolution of concatenated levels is the sum of one over each level, and it commutes with bilinear
    enlargement, whose weights sum to one. Small levels are so convolved at their own size, and nothing is
    concatenated: a quarter of the multiply-adds of the published 300W student.
    """

    def __init__(self, head: HeatmapHead, widths: dict[int, int]) -> None:
        super().__init__()
        hidden = fuse_conv_bn_eval(head.hidden, head.norm)
        assert hidden.bias is not None
        self.hidden = nn.ModuleDict()
        parts = hidden.weight.split(list(widths.values()), dim=1)
        for place, (level, part) in enumerate(zip(widths, parts, strict=True)):
            # The bias is added once, with the first level.
            conv = nn.Conv2d(part.shape[1], part.shape[0], 1, bias=place == 0, device="meta")
            conv.weight = nn.Parameter(part.detach().clone())
            if place == 0:
                conv.bias = nn.Parameter(hidden.bias.detach().clone())
            self.hidden[str(level)] = conv
        self.heatmaps = copy.deepcopy(head.heatmaps)

    def forward(self, blocks: dict[int, Tensor]) -> Tensor:
        """Blocks by level, (N, C_l, H / 2^l, W / 2^l) -> heatmaps (N, K, H, W)."""
        total: Tensor | None = None
        for level in sorted(blocks):
            term = upsample(self.hidden[str(level)](blocks[level]), level)
            total = term if total is None else total + term
        assert total is not None
        heatmaps: Tensor = self.heatmaps(nn.functional.relu(total))
        return heatmaps


@torch.no_grad()
def scale_last_norm(transform: nn.Module, factor: float) -> None:
    """Multiply what ``transform`` gives by ``factor``."""
    assert isinstance(transform, nn.Sequential)
    norm = transform[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.mul_(factor)
    norm.bias.mul_(factor)


def _fold_batch_norms(network: nn.Module) -> None:
    """Fuse every batch norm that directly follows a convolution; one elsewhere is left to the exporter."""
    for parent, conv, norm in norms_after_convolutions(network):
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        parent.add_module(norm, nn.Identity())


def norms_after_convolutions(network: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Every batch norm that directly follows a convolution: their parent, the convolution's name and the norm's."""
    found: list[tuple[nn.Module, str, str]] = []
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            found += [(module, str(place - 1), str(place)) for place in range(1, len(module))]
        elif isinstance(module, HeatmapHead):
            found.append((module, "hidden", "norm"))
    return [
        (parent, conv, norm)
        for parent, conv, norm in found
        if isinstance(getattr(parent, conv), nn.Conv2d) and isinstance(getattr(parent, norm), nn.BatchNorm2d)
    ]
