"""CHS: costs of table 9, equations 1 to 8 against plain computations, backward connections, exact cuts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slimalign.compress.boundary import boundary_heatmap, boundary_segments
from slimalign.compress.cascade_losses import (
    AdaptiveWingLoss,
    adaptive_wing,
    offset_loss,
    scaled_adaptive,
    small_wing,
)
from slimalign.compress.cascade_recipe import CascadeTrainingRecipe
from slimalign.compress.cascade_training import CascadeTask
from slimalign.compress.cost import count
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.cascade import BackwardName, Cascade, RegressionStage
from slimalign.compress.networks.cascade_shape import CascadeShape, HourglassShape, RegressionShape
from slimalign.compress.networks.catalogue import build_network
from slimalign.compress.networks.regions import RegionSampler
from slimalign.compress.networks.selective import SelectiveFeature
from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import SCHEMES, scheme_named

SMALL = CascadeShape(
    landmarks=19,
    input_size=64,
    decoder="local-mean",
    heatmap=HourglassShape(
        hourglasses=2, depth=2, width=16, stem_width=8, branch_width=8, selective_width=8, excitation=4
    ),
    regression=RegressionShape(stages=3, features=8, selective_width=8, excitation=4, width=8),
)


@pytest.fixture(scope="module")
def small() -> Cascade:
    torch.manual_seed(0)
    made = Cascade(SMALL).eval()
    for stage in made.stages:
        assert isinstance(stage, RegressionStage)
        torch.nn.init.normal_(stage.offsets.weight, std=0.05)
    return made


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


TABLE_9 = {
    "chs-4": (154.04e6, 41.69e9),
    "chs-2": (89.09e6, 34.25e9),
    "chs-1": (56.62e6, 30.52e9),
    "chs-0": (24.15e6, 26.80e9),
    "awing-4hg": (24.15e6, 26.79e9),
}
"""Parameters and multiply-adds for 98 landmarks at 256 pixels."""


@pytest.mark.parametrize("name", TABLE_9)
def test_costs_are_those_of_table_9(name: str) -> None:
    with torch.device("meta"):
        built = build_network(name)
    cost = count(built.network, built.input_size)
    params, macs = TABLE_9[name]
    assert cost.params == pytest.approx(params, rel=0.03)
    assert cost.macs == pytest.approx(macs, rel=0.03)


def test_a_cascade_for_other_faces_is_built_by_name() -> None:
    with torch.device("meta"):
        built = build_network("chs-1", landmarks=68, input_size=128)
    assert isinstance(built.network, Cascade)
    assert built.network.shape.landmarks == 68
    assert built.network.shape.input_size == 128


def test_selective_features_follow_equations_1_to_4() -> None:
    torch.manual_seed(0)
    module = SelectiveFeature([3, 5], inner=4, target=6, excitation=2, guides=2).eval().double()
    branches = [torch.randn(1, 3, 7, 7).double(), torch.randn(1, 5, 7, 7).double()]
    heatmaps = torch.rand(1, 2, 7, 7).double()
    assert module.guided is not None
    filtered = []
    for i, branch in enumerate(branches):
        guided = module.guided[i](torch.cat([branch, heatmaps], dim=1))
        filtered.append(module.filtered[i](module.narrowed[i](branch) * guided))
    z = module.squeezed((filtered[0] + filtered[1]).mean(dim=(2, 3), keepdim=True))
    scales = torch.softmax(torch.stack([excite(z) for excite in module.excited]), dim=0)
    expected = module.chosen(scales[0] * filtered[0] + scales[1] * filtered[1])
    assert torch.allclose(module(branches, heatmaps), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 3, 5]), st.integers(4, 9))
def test_regions_are_those_of_a_grid_sample(seed: int, side: int, size: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, size, size, generator=rng).double()
    points = (torch.rand(2, 4, 2, generator=rng).double() * 1.4 - 0.2) * size
    found = RegionSampler(4, 3, side, size).double()(features, points)
    offsets = torch.arange(side).double() - (side - 1) / 2
    x = (points[:, :, 0, None, None] + offsets[None, None, None, :]).expand(-1, -1, side, -1)
    y = (points[:, :, 1, None, None] + offsets[None, None, :, None]).expand(-1, -1, -1, side)
    # PyTorch's own sampler takes places in -1..1 from edge to edge.
    grid = torch.stack([(2 * x + 1) / size - 1, (2 * y + 1) / size - 1], dim=-1).reshape(2, 4 * side, side, 2)
    expected = torch.nn.functional.grid_sample(features, grid, align_corners=False)
    expected = expected.reshape(2, 3, 4, side, side).transpose(1, 2).reshape(8, 3, side, side)
    assert torch.allclose(found[:, :3], expected, atol=1e-10)


def test_coordinates_of_a_region_run_from_edge_to_edge() -> None:
    found = RegionSampler(1, 1, 3, 9)(torch.zeros(1, 1, 9, 9), torch.tensor([[[0.0, 8.0]]]))
    assert found.shape == (1, 3, 3, 3)
    assert found[0, 1, 0].tolist() == pytest.approx([-1.25, -1.0, -0.75])
    assert found[0, 2, :, 0].tolist() == pytest.approx([0.75, 1.0, 1.25])


@pytest.mark.parametrize("decoder", ["argmax-quarter", "local-mean", "local-softmax"])
def test_first_landmarks_are_those_that_the_device_decodes(decoder: str, images: Tensor) -> None:
    torch.manual_seed(0)
    cascade = Cascade(SMALL.model_copy(update={"decoder": decoder}).keeping(0)).eval()
    with torch.no_grad():
        found = cascade.all_stages(images)
        points, scores = cascade(images)
    heatmaps = found.heatmaps[-1][:, : SMALL.landmarks].numpy()
    expected, expected_scores = decode(heatmaps, 4, decoder)
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(scores.numpy(), expected_scores, atol=1e-5)


def test_each_stage_moves_the_landmarks_of_the_one_before(small: Cascade, images: Tensor) -> None:
    with torch.no_grad():
        found = small.all_stages(images)
        branches, heatmaps = small.heatmap(images)
    assert len(found.points) == 1 + SMALL.regression.stages
    for stage, (before, after) in zip(small.stages, pairwise(found.points), strict=True):
        with torch.no_grad():
            assert torch.equal(after, stage(branches, heatmaps[-1], before))
        assert (after - before).abs().max() > 0


@pytest.mark.parametrize("kept", range(4))
def test_a_cut_gives_the_very_same_landmarks(small: Cascade, images: Tensor, kept: int) -> None:
    cut = small.keeping(kept)
    assert cut.shape.regression.stages == kept == len(cut.stages)
    with torch.no_grad():
        assert torch.equal(cut.all_stages(images).points[-1], small.all_stages(images).points[kept])
    names = set(cut.state_dict())
    assert names == {
        n for n in small.state_dict() if not n.startswith("stages.") or int(n.split(".")[1]) < kept
    }


def test_more_stages_than_there_are_cannot_be_kept(small: Cascade) -> None:
    with pytest.raises(UserError, match="--keep-stages 4: the cascade has 3, give 0 to that"):
        small.keeping(4)


def test_landmarks_may_share_their_weights(images: Tensor) -> None:
    torch.manual_seed(0)
    shared = SMALL.model_copy(update={"regression": SMALL.regression.model_copy(update={"shared": True})})
    one, own = Cascade(shared).eval(), Cascade(SMALL).eval()
    sizes = [sum(p.numel() for p in net.stages[0].block.parameters()) for net in (one, own)]
    assert sizes[1] == SMALL.landmarks * sizes[0]
    stage = one.stages[0]
    assert isinstance(stage, RegressionStage)
    torch.nn.init.normal_(stage.offsets.weight, std=0.05)
    with torch.no_grad():
        assert one.all_stages(images).points[1].shape == (2, SMALL.landmarks, 2)


GRADIENTS = {"task-wise": (False, False), "ccr": (False, True), "full": (True, True)}
"""Whether the last stage's loss reaches the hourglasses, and the first stage's own weights (figure 5)."""


@pytest.mark.parametrize("backward", GRADIENTS)
def test_backward_connections_are_those_of_figure_5(
    small: Cascade, images: Tensor, backward: BackwardName
) -> None:
    small.zero_grad()
    found = small.all_stages(images, backward)
    (found.points[-1] ** 2).sum().backward()

    def reached(part: torch.nn.Module) -> bool:
        return any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in part.parameters())

    same = small.all_stages(images)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found.points, same.points, strict=True))
    into_heatmaps, into_first = GRADIENTS[backward]
    assert reached(small.heatmap.get_submodule("stacks")) is into_heatmaps
    assert reached(small.stages[0]) is into_first
    assert reached(small.stages[-1])
    # All tasks share the front.
    assert reached(small.heatmap.get_submodule("blocks"))
    small.zero_grad()


def plain_awing(y: float, truth: float) -> float:
    """Adaptive Wing of one value as its paper writes it: alpha 2.1, omega 14, epsilon 1, theta 0.5."""
    d, p = abs(y - truth), 2.1 - truth
    if d < 0.5:
        return 14 * math.log(1 + d**p)
    a = 14 / (1 + 0.5**p) * p * 0.5 ** (p - 1)
    return a * d - (0.5 * a - 14 * math.log(1 + 0.5**p))


@given(st.floats(-2, 2), st.floats(0, 1))
def test_adaptive_wing_is_its_papers(y: float, truth: float) -> None:
    found = adaptive_wing([torch.tensor([[[[y]]]]).double()], torch.tensor([[[[truth]]]]).double())
    weight = 11 if truth >= 0.2 else 1
    assert float(found) == pytest.approx(weight * plain_awing(y, truth), rel=1e-5, abs=1e-4)


def test_adaptive_wing_weighs_pixels_beside_the_foreground() -> None:
    truth = torch.zeros(1, 1, 5, 5).double()
    truth[0, 0, 2, 2] = 1.0
    heatmaps = truth + 0.3
    weighed = [11 if max(abs(i - 2), abs(j - 2)) <= 1 else 1 for i in range(5) for j in range(5)]
    losses = [plain_awing(0.3 + t, t) for t in truth.flatten().tolist()]
    expected = sum(w * loss for w, loss in zip(weighed, losses, strict=True)) / 25
    assert float(adaptive_wing([heatmaps], truth)) == pytest.approx(expected, rel=1e-5)
    assert float(adaptive_wing([heatmaps, heatmaps], truth)) == pytest.approx(2 * expected, rel=1e-5)


def test_adaptive_wing_has_finite_gradients_everywhere() -> None:
    heatmaps = torch.linspace(-3, 3, 601, requires_grad=True)
    for truth in (0.0, 0.5, 1.0):
        loss = adaptive_wing([heatmaps.reshape(1, 1, 1, -1)], torch.full((1, 1, 1, 601), truth))
        (gradient,) = torch.autograd.grad(loss, heatmaps)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("error", "expected"), [(0.0, 0.0), (10.0, 8 * math.log(2)), (-30.0, 8 * math.log(4))]
)
def test_wing_is_its_logarithm_alone(error: float, expected: float) -> None:
    assert float(small_wing(torch.tensor(error))) == pytest.approx(expected)


def test_offsets_outside_the_crop_do_not_count() -> None:
    truth = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    found = torch.tensor([[[2.5, 0.0], [100.0, 0.0]]])
    inside = torch.tensor([[True, False]])
    assert float(offset_loss(found, truth, inside, stride=4)) == pytest.approx(8 * math.log(2))


def test_tasks_are_weighed_by_equation_6() -> None:
    losses = [torch.tensor(2.0), torch.tensor(3.0)]
    log_sigmas = torch.tensor([math.log(2.0), math.log(5.0)])
    expected = 1 * (2 / 2 + math.log(2)) + 3 * (3 / 5 + math.log(5))
    assert float(scaled_adaptive(losses, log_sigmas, (1.0, 3.0))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stages", "weights"), [(0, (1.0,)), (1, (1.0, 3.0)), (4, (1.0, 1.0, 1.0, 1.0, 3.0))]
)
def test_the_last_stage_weighs_three_times(stages: int, weights: tuple[float, ...]) -> None:
    recipe = CascadeTrainingRecipe.model_validate(
        {"epochs": 1, "learning_rate": {"kind": "one-cycle", "peak": 0.1}}
    )
    assert recipe.task_weights(stages) == weights


@pytest.mark.parametrize("name", SCHEMES)
def test_boundaries_join_neighbours_of_each_region(name: str) -> None:
    scheme = scheme_named(name)
    segments = {tuple(pair) for pair in boundary_segments(scheme).tolist()}
    for region in scheme.regions:
        assert all(pair in segments for pair in pairwise(region.indices))
        if region.closed:
            assert (region.indices[-1], region.indices[0]) in segments


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_boundary_heatmaps_tell_the_distance_to_the_nearest_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 12, (1, 4, 2))
    segments = torch.tensor([[0, 1], [1, 2], [3, 3]])
    found = boundary_heatmap(torch.from_numpy(points), segments, (10, 8), sigma=1.5)
    assert found.shape == (1, 1, 10, 8)
    # Each line as a thousand points.
    steps = np.linspace(0, 1, 1001)[:, None]
    lines = np.concatenate(
        [points[0, a] + steps * (points[0, b] - points[0, a]) for a, b in segments.tolist()]
    )
    y, x = np.mgrid[:10, :8]
    squared = ((lines[:, 0] - x[..., None]) ** 2 + (lines[:, 1] - y[..., None]) ** 2).min(axis=-1)
    np.testing.assert_allclose(found[0, 0], np.exp(-squared / 4.5), atol=1e-3)


def test_equation_8_falls_as_a_small_cascade_learns(images: Tensor) -> None:
    torch.manual_seed(0)
    scheme = scheme_named("aflw-19")
    recipe = CascadeTrainingRecipe.model_validate(
        {"epochs": 1, "learning_rate": {"kind": "one-cycle", "peak": 0.1}}
    )
    task = CascadeTask(Cascade(SMALL), AdaptiveWingLoss(4, 1.0, boundary_segments(scheme)), recipe)
    truth = 20 + 24 * torch.rand(2, 19, 2)
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    first = task.losses(images, truth)
    for _ in range(30):
        optimizer.zero_grad()
        task(images, truth).backward()
        optimizer.step()
    last = task.losses(images, truth)
    assert all(after < 0.7 * before for before, after in zip(first, last, strict=True))
    assert (task.log_sigmas != 0).all()


def test_a_student_may_be_the_heatmap_network(images: Tensor) -> None:
    torch.manual_seed(0)
    student = full_architecture(19, 64, stem_width=8, widths=(8, 16), stage_count=3, encoders=1)
    shape = CascadeShape(
        landmarks=19,
        input_size=64,
        decoder="local-softmax",
        heatmap=student,
        regression=RegressionShape(stages=1, features=8, selective=False, width=8, shared=True),
    )
    cascade = Cascade(shape).eval()
    with torch.no_grad():
        found = cascade.all_stages(images)
    assert found.heatmaps[0].shape == (2, 19, 16, 16)
    assert found.points[1].shape == (2, 19, 2)
    cost = count(cascade, 64)
    head = 24 * 24 + 24 + 2 * 24 + 24 * 19 + 19
    assert cost.params - cost.params_without_head == head


def test_a_heatmap_network_for_other_faces_is_refused() -> None:
    with pytest.raises(ValueError, match="must be those of the cascade"):
        CascadeShape(landmarks=68, input_size=64, heatmap=full_architecture(19, 64))
