"""Small networks and faces that several test files share."""

from __future__ import annotations

import pytest
import torch

from slimalign.compress.networks.architecture import Architecture, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def small_architecture() -> Architecture:
    """A supernet of three levels and four stages for 19 points, quick to run."""
    return full_architecture(19, input_size=64, stem_width=12, widths=(6, 10, 14), stage_count=4, encoders=1)


@pytest.fixture
def lively_supernet(small_architecture: Architecture) -> HRSuperNet:
    """Its network with factors, biases and batch statistics as after a training, in eval mode."""
    return enlivened(HRSuperNet(small_architecture))


def enlivened(network: HRSuperNet) -> HRSuperNet:
    """Random batch statistics, affine parameters and factors, so that nothing cancels by chance.

    The heatmaps' convolution, which starts near zero, is drawn anew, or any tolerance would be wide.
    """
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=rng))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=rng))
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=rng))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=rng))
        network.factors.copy_(0.2 + torch.rand(len(network.factors), generator=rng))
        network.head.heatmaps.weight.normal_(0, 0.3, generator=rng)
    return network.eval()
