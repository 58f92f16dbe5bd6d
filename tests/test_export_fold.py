"""Folding: the exported network computes what the trained one computes, with fewer operations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from slimalign.compress.cost import count
from slimalign.compress.networks.architecture import Operation
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.fold import FoldedSuperNet, folded

SIZE = 64


@pytest.fixture
def teacher() -> HRNet:
    """A narrow teacher whose batch norms and heatmaps are as after a training, far from their start."""
    network = HRNet(19, width=2)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.3, generator=rng)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=rng)
            elif tensor.dim() == 1:
                # Below one, so that thirty residual sums do not make numbers of 1e9.
                tensor.uniform_(0.2, 0.6, generator=rng)
        network.head.heatmaps.weight.normal_(0, 0.3, generator=rng)
    network.eval()
    return network


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)).to(dtype)


def test_the_factors_are_folded_exactly(lively_supernet: HRSuperNet) -> None:
    exact = copy.deepcopy(lively_supernet).double()
    with torch.inference_mode():
        expected = exact(images(torch.float64))
        found = FoldedSuperNet(exact).eval()(images(torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["lively_supernet", "teacher"])
def test_the_folded_network_computes_the_same_heatmaps(kind: str, request: pytest.FixtureRequest) -> None:
    network: nn.Module = request.getfixturevalue(kind)
    with torch.inference_mode():
        expected, found = network(images()), folded(network)(images())
    assert float((found - expected).abs().max()) <= 3e-6 * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["lively_supernet", "teacher"])
def test_no_batch_norm_is_left(kind: str, request: pytest.FixtureRequest) -> None:
    network: nn.Module = request.getfixturevalue(kind)
    assert not [module for module in folded(network).modules() if isinstance(module, nn.BatchNorm2d)]


def test_only_identities_still_multiply(lively_supernet: HRSuperNet) -> None:
    """Stages 3 and 4 read the three levels before: 6 identities of the 3 + 9 + 9 operations keep a factor."""
    traced = torch.export.export(folded(lively_supernet), (images(),))
    products = [node for node in traced.graph.nodes if node.target == torch.ops.aten.mul.Tensor]
    identities = [Operation(stage, level, level) for stage in (3, 4) for level in (0, 1, 2)]
    assert len(lively_supernet.architecture.operations) == 21
    factors = dict(
        zip(lively_supernet.architecture.operations, lively_supernet.factors.tolist(), strict=True)
    )
    assert sorted(node.args[1] for node in products) == pytest.approx(
        sorted(factors[op] for op in identities)
    )


def test_the_head_convolves_each_level_at_its_own_size(lively_supernet: HRSuperNet) -> None:
    """Three levels of 6, 10 and 14 channels at 16, 8 and 4 pixels, 30 hidden channels, 19 landmarks."""
    whole = count(lively_supernet, SIZE)
    assert whole.macs - whole.macs_without_head == 30 * 30 * 16**2 + 30 * 19 * 16**2
    saved = 30 * (10 * (16**2 - 8**2) + 14 * (16**2 - 4**2))
    less = count(folded(lively_supernet), SIZE)
    assert less.macs == whole.macs - saved
    assert less.macs_without_head == whole.macs_without_head


def test_the_network_itself_is_left_as_it_was(lively_supernet: HRSuperNet) -> None:
    network = copy.deepcopy(lively_supernet).train()
    before = copy.deepcopy(network.state_dict())
    result = folded(network)
    assert network.training
    assert not result.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    shared = {tensor.data_ptr() for tensor in network.parameters()}
    assert not shared & {tensor.data_ptr() for tensor in result.parameters()}


def test_folding_draws_no_random_numbers(lively_supernet: HRSuperNet) -> None:
    state = torch.get_rng_state()
    folded(lively_supernet)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_norm_that_follows_no_convolution_becomes_a_product_and_a_sum() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        network[2].running_mean.uniform_(-1, 1)
        network[2].running_var.uniform_(0.5, 2)
        network[2].weight.uniform_(-1, 1)
        network[2].bias.uniform_(-1, 1)
    result = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    images = torch.randn(2, 3, 8, 8)
    assert torch.allclose(result(images), network(images), atol=1e-5)
