"""Architectures, networks and their cost against the paper's tables and plain formulas."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slimalign.compress.cost import count
from slimalign.compress.networks.architecture import (
    Architecture,
    Operation,
    full_architecture,
    read_architecture,
)
from slimalign.compress.networks.catalogue import CASCADES, build_network, network_names
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet, operation_key, weights_of
from slimalign.runtimes.errors import UserError


@pytest.mark.parametrize(
    ("name", "params", "gmacs", "gmacs_without_head"),
    [
        # From the paper's table 1 and counts of the authors' published configurations.
        ("hrnet-w18", 9.65, 4.66, 4.29),
        ("hrsupernet", 3.40, 1.307, 0.933),
        ("sd-hrnet-300w", 0.961, 0.971, 0.597),
        ("sd-hrnet-cofw", 1.075, 0.684, 0.604),
        ("sd-hrnet-wflw", 1.351, 0.711, 0.595),
    ],
)
def test_costs_of_published_networks(name, params, gmacs, gmacs_without_head):
    built = build_network(name)
    cost = count(built.network, built.input_size)
    assert cost.params / 1e6 == pytest.approx(params, abs=0.006)
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.0055)
    assert cost.macs_without_head / 1e9 == pytest.approx(gmacs_without_head, abs=0.0055)


@pytest.mark.parametrize(("name", "params"), [("sd-hrnet-cofw", 1.055), ("sd-hrnet-wflw", 1.323)])
def test_params_without_head(name, params):
    assert count(build_network(name).network, 256).params_without_head / 1e6 == pytest.approx(
        params, abs=5e-4
    )


@pytest.mark.parametrize("name", [name for name in network_names() if name not in CASCADES])
def test_heatmaps_have_a_quarter_of_the_input(name):
    built = build_network(name, input_size=64)
    with torch.device("meta"):
        heatmaps = built.network.to("meta")(torch.zeros(2, 3, 64, 64))
    assert heatmaps.shape == (2, built.landmarks, 16, 16)


def test_the_supernet_has_132_factors():
    assert len(HRSuperNet(full_architecture(68)).factors) == 4 + 8 * 16


def test_weights_are_all_parameters_but_the_factors(small_architecture):
    """Of a supernet alone, of one among others, and of a teacher, which has no factors."""
    supernet = HRSuperNet(small_architecture)
    assert {name for name, p in supernet.named_parameters() if not _among(p, weights_of(supernet))} == {
        "factors"
    }
    peers = nn.ModuleList([supernet, HRSuperNet(small_architecture)])
    assert len(weights_of(peers)) == len(list(peers.parameters())) - 2
    teacher = HRNet(19, width=2)
    assert len(weights_of(teacher)) == len(list(teacher.parameters()))


def _among(parameter, parameters):
    return any(parameter is other for other in parameters)


def slow_conv(x, weight, stride):
    """A convolution with padding 1 or 0 in plain loops over the kernel."""
    out_channels, _, k, _ = weight.shape
    pad = k // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[1] + 2 * pad - k) // stride + 1
    out = np.zeros((out_channels, size, size))
    for dy in range(k):
        for dx in range(k):
            window = padded[:, dy : dy + stride * size : stride, dx : dx + stride * size : stride]
            out += np.einsum("oc,chw->ohw", weight[:, :, dy, dx], window)
    return out


def slow_norm(x, norm):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return x * scale.detach().numpy()[:, None, None] + shift.detach().numpy()[:, None, None]


def slow_enlarged(x, factor):
    """Bilinear with half-pixel centres: the new pixel i lies at (i + 0.5) / factor - 0.5, held at the edges."""
    for axis in (1, 2):
        last = x.shape[axis] - 1
        places = np.clip((np.arange(factor * (last + 1)) + 0.5) / factor - 0.5, 0, last)
        low = np.minimum(places.astype(int), max(last - 1, 0))
        shape = [-1 if i == axis else 1 for i in range(3)]
        share = (places - low).reshape(shape)
        x = (1 - share) * x.take(low, axis) + share * x.take(np.minimum(low + 1, last), axis)
    return x


def slow_transform(layers, x):
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x = slow_conv(x, layer.weight.detach().numpy(), layer.stride[0])
        elif isinstance(layer, nn.BatchNorm2d):
            x = slow_norm(x, layer)
        else:
            x = np.maximum(x, 0)
    return x


def slow_encoded(blocks, x):
    """MBConvs: x + BN(1x1(ReLU6(BN(depthwise 3x3 x))))."""
    for block in blocks:
        depthwise, norm1, _, pointwise, norm2 = block.body
        weight = depthwise.weight.detach().numpy()
        dense = np.zeros((len(weight), len(weight), 3, 3))
        dense[range(len(weight)), range(len(weight))] = weight[:, 0]
        y = np.clip(slow_norm(slow_conv(x, dense, 1), norm1), 0, 6)
        x = x + slow_norm(slow_conv(y, pointwise.weight.detach().numpy(), 1), norm2)
    return x


def slow_supernet(network, image):
    """The whole network in NumPy, by the paper's figure 2 and equation 1; every block reads every block before."""
    factors = dict(zip(network.architecture.operations, network.factors.tolist(), strict=True))
    blocks = {0: slow_encoded(network.encoders["s1_l0"], slow_transform(network.stem, image))}
    for stage in (2, 3, 4):
        sums = {}
        for level in (0, 1, 2):
            terms = []
            for source, x in blocks.items():
                op = Operation(stage, level, source)
                layers = network.transforms[operation_key(op)]
                y = x if isinstance(layers, nn.Identity) else slow_transform(layers, x)
                terms.append(factors[op] * slow_enlarged(y, 2 ** max(0, source - level)))
            sums[level] = np.maximum(sum(terms), 0)
        # The last stage has no encoders.
        blocks = (
            sums
            if stage == 4
            else {i: slow_encoded(network.encoders[f"s{stage}_l{i}"], x) for i, x in sums.items()}
        )
    x = np.concatenate([slow_enlarged(blocks[level], 2**level) for level in (0, 1, 2)])
    head = network.head
    x = slow_conv(x, head.hidden.weight.detach().numpy(), 1)
    x = np.maximum(slow_norm(x + head.hidden.bias.detach().numpy()[:, None, None], head.norm), 0)
    x = slow_conv(x, head.heatmaps.weight.detach().numpy(), 1)
    return x + head.heatmaps.bias.detach().numpy()[:, None, None]


def test_the_supernet_is_figure_2_in_numpy(lively_supernet):
    image = np.random.default_rng(0).normal(size=(3, 64, 64))
    expected = slow_supernet(lively_supernet, image)
    assert expected.shape == (19, 16, 16)
    with torch.no_grad():
        found = lively_supernet(torch.from_numpy(image).float()[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_an_lsff_block_is_equation_1(lively_supernet):
    """Y = E(ReLU(sum_j a_j T_j(X_j))) for the middle level: from above, from itself, from below."""
    rng = np.random.default_rng(0)
    sources = {
        level: rng.normal(size=(width, 16 >> level, 16 >> level)) for level, width in enumerate((6, 10, 14))
    }
    total = 0.0
    for source, x in sources.items():
        op = Operation(3, 1, source)
        layers = lively_supernet.transforms[operation_key(op)]
        y = x if isinstance(layers, nn.Identity) else slow_transform(layers, x)
        if source == 2:
            y = slow_enlarged(y, 2)
        index = lively_supernet.architecture.operations.index(op)
        total = total + lively_supernet.factors[index].item() * y
    x = slow_encoded(lively_supernet.encoders["s3_l1"], np.maximum(total, 0))
    tensors = {level: torch.from_numpy(v).float()[None] for level, v in sources.items()}
    with torch.no_grad():
        found = lively_supernet._block(3, 1, tensors)[0].numpy()
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def test_layer_costs_add_up_to_formulas():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, 2, 1)
            self.grouped = nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False)
            self.up = nn.ConvTranspose2d(8, 4, 2, 2, bias=False)
            self.head = nn.Linear(32, 5)

        def forward(self, x):
            return self.head(self.up(self.grouped(self.body(x))))

    cost = count(Net(), 32)
    macs = {layer.name: layer.macs for layer in cost.layers}
    assert macs == {
        "body": 16 * 16 * 8 * 3 * 9,
        "grouped": 16 * 16 * 8 * 2 * 9,
        "up": 16 * 16 * 8 * 4 * 4,
        "head": 4 * 32 * 32 * 5,
    }
    assert cost.params == (3 * 9 * 8 + 8) + 8 * 2 * 9 + 8 * 4 * 4 + (32 * 5 + 5)
    assert cost.params - cost.params_without_head == 32 * 5 + 5


def test_an_operation_that_cannot_be_counted_is_named():
    class Net(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, dim=3)

    with pytest.raises(UserError, match=r"not known: aten\.cumsum"):
        count(Net(), 32)


FULL = full_architecture(19, input_size=64, widths=(6, 10, 14), stage_count=5)


@given(st.sets(st.sampled_from(FULL.operations), min_size=1))
def test_a_cut_is_sound_and_minimal(operations):
    """What is left reaches from the input to the head, and cutting by the same set again changes nothing."""
    try:
        cut = FULL.keeping(operations)
    except UserError:
        return
    assert set(cut.operations) <= operations
    for op in cut.operations:
        assert op.stage == 2 or any(o.stage == op.stage - 1 and o.target == op.source for o in cut.operations)
        feeds = any(o.stage == op.stage + 1 and o.source == op.target for o in cut.operations)
        assert op.stage == cut.last_stage or feeds
    assert cut.keeping(operations) == cut
    assert Architecture.model_validate_json(cut.model_dump_json()) == cut


def test_a_cut_without_a_way_through_is_refused():
    with pytest.raises(UserError, match="no path from the input to the head"):
        FULL.keeping([op for op in FULL.operations if op.stage != 3])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"stages": []}, "stages is empty"),
        ({"stages": [{"0": [0]}, {"0": [1]}]}, "reads \\[1\\], which stage 2 lacks"),
        ({"stages": [{"0": [0]}, {"7": [0]}]}, "block 7: levels run from 0 to 3"),
        ({"stages": [{"0": [0, 0]}]}, "empty or repeated"),
        ({"input_size": 100}, "must be a multiple of 32"),
        ({"landmarks": 0}, "greater than 0"),
        ({"widths": [18, 0, 72, 144]}, "widths.1: Input should be greater than 0"),
        ({"widths": []}, "widths: Tuple should have at least 1 item"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_faults_in_an_architecture_file_name_file_and_entry(tmp_path, change, fault):
    path = tmp_path / "net.json"
    sound = {"landmarks": 68, "stages": [{"0": [0]}, {"0": [0]}]}
    path.write_text(json.dumps(sound | change))
    with pytest.raises(UserError, match=rf"net\.json.*{fault}"):
        read_architecture(path)


def test_unknown_networks_get_a_hint():
    with pytest.raises(UserError, match="did you mean hrnet-w18"):
        build_network("hrnet-w81")
