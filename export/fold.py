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
from slimalign.compress.networks.head import HeatmapHead
from slimalign.compress.networks.supernet import HRSuperNet, operation_key


def folded(network: nn.Module) -> nn.Module:
    """A copy of ``network`` on the CPU, in float32 and for inference, with all folded that can be.

    It computes the same heatmaps but for rounding; ``network`` stays as it is.
    """
    # Folded in float64, so that each weight is rounded once.
    inference = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    if isinstance(inference, HRSuperNet):
        inference = FoldedSuperNet(inference).eval().requires_grad_(False)
    _fold_batch_norms(inference)
    return inference.float()


class FoldedSuperNet(HRSuperNet):
    """A copy of an HRSuperNet whose importance factors are folded into its transformations.

    Each transformation ends in a batch norm, whose scale and shift take the factor; an identity has nothing
    to fold into, so its factor stays a multiplication by a constant. The head works level by level.
    """

    def __init__(self, network: HRSuperNet) -> None:
        nn.Module.__init__(self)
        self.architecture = network.architecture
        for name, child in network.named_children():
            self.add_module(name, copy.deepcopy(child))
        widths = {level: self.architecture.widths[level] for level in self.architecture.output_levels}
        self.add_module("head", LevelHead(network.head, widths))
        self._scales: dict[Operation, float] = {}
        for op, factor in zip(network.architecture.operations, network.factors.tolist(), strict=True):
            transform = self.transforms[operation_key(op)]
            if isinstance(transform, nn.Identity):
                self._scales[op] = factor
            else:
                _scale_last_norm(transform, factor)

    def _weighted(self, op: Operation, term: Tensor) -> Tensor:
        # A plain number, not a tensor: LiteRT's converter keeps NHWC only through operands of four dimensions.
        return self._scales[op] * term if op in self._scales else term

    def _heatmaps(self, blocks: dict[int, Tensor]) -> Tensor:
        heatmaps: Tensor = self.get_submodule("head")(blocks)
        return heatmaps


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
def _scale_last_norm(transform: nn.Module, factor: float) -> None:
    assert isinstance(transform, nn.Sequential)
    norm = transform[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.mul_(factor)
    norm.bias.mul_(factor)


def _fold_batch_norms(network: nn.Module) -> None:
    """Fuse every batch norm that directly follows a convolution; one elsewhere is left to the exporter."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for place in range(1, len(module)):
                conv, norm = module[place - 1], module[place]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[place - 1], module[place] = fuse_conv_bn_eval(conv, norm), nn.Identity()
        elif isinstance(module, HeatmapHead) and isinstance(module.norm, nn.BatchNorm2d):
            module.hidden = fuse_conv_bn_eval(module.hidden, module.norm)
            module.add_module("norm", nn.Identity())
