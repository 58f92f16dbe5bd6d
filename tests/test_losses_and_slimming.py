"""Equations 2 to 4 against slow NumPy, and the exactness of slimming."""

import numpy as np
import pytest
import torch

from slimalign.compress.baseline import random_architecture
from slimalign.compress.batches import seeded
from slimalign.compress.losses import (
    MseLoss,
    SoftmaxLoss,
    distillation_loss,
    gaussian_heatmaps,
    heatmap_points,
    soft_argmax,
    sparsity,
)
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import SlimRecipe
from slimalign.compress.slim import (
    CutCosts,
    architecture_cost,
    ranked_operations,
    slimmed_architecture,
    student_from,
)
from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import UserError

N, M, SIZE, SIGMA = 2, 3, 12, 1.3
rng = np.random.default_rng(0)
HEATMAPS = rng.normal(size=(N, M, SIZE, SIZE))
OTHER = rng.normal(size=(N, M, SIZE, SIZE))
POINTS = rng.uniform(0, 4 * SIZE - 1, (N, M, 2))


def slow_gaussian(px, py):
    grid = np.zeros((SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            # The centre of heatmap pixel x lies at crop pixel 4 x + 1.5.
            grid[y, x] = np.exp(
                -(((4 * x + 1.5 - px) / 4) ** 2 + ((4 * y + 1.5 - py) / 4) ** 2) / (2 * SIGMA**2)
            )
    return grid


def slow_softmax(heatmap):
    exponentials = [[np.exp(v) for v in row] for row in heatmap]
    total = sum(map(sum, exponentials))
    return np.array(exponentials) / total


def tensor(array):
    return torch.from_numpy(array)


def test_ground_truth_term_of_equation_2():
    expected = np.mean(
        [[np.mean((HEATMAPS[n, m] - slow_gaussian(*POINTS[n, m])) ** 2) for m in range(M)] for n in range(N)]
    )
    assert MseLoss(4, SIGMA)(tensor(HEATMAPS), tensor(POINTS)).item() == pytest.approx(expected)


def test_sparsity_term_of_equation_2():
    assert sparsity(torch.tensor([0.5, -0.25, 0.0, 1.0])).item() == 1.75


def slow_kd(target, predicted):
    """Equation 3: mean over N and M of sum_xy S(P2) ln(S(P2) / S(P1))."""
    total = 0.0
    for n in range(N):
        for m in range(M):
            p2, p1 = slow_softmax(target[n, m]), slow_softmax(predicted[n, m])
            total += sum(p2[y, x] * np.log(p2[y, x] / p1[y, x]) for y in range(SIZE) for x in range(SIZE))
    return total / (N * M)


def test_distillation_loss_is_equation_3():
    assert distillation_loss(tensor(OTHER), tensor(HEATMAPS)).item() == pytest.approx(
        slow_kd(OTHER, HEATMAPS)
    )


def test_no_gradient_flows_into_the_target():
    target, predicted = tensor(OTHER).requires_grad_(), tensor(HEATMAPS).requires_grad_()
    distillation_loss(target, predicted).backward()
    assert target.grad is None
    assert predicted.grad.abs().sum() > 0


def test_softmax_loss_by_hand():
    expected = []
    for n in range(N):
        for m in range(M):
            truth = slow_gaussian(*POINTS[n, m])
            truth /= truth.sum()
            predicted = slow_softmax(HEATMAPS[n, m])
            mean = [
                sum(predicted[y, x] * (x, y)[axis] for y in range(SIZE) for x in range(SIZE))
                for axis in (0, 1)
            ]
            error = sum(abs(mean[axis] - (POINTS[n, m, axis] - 1.5) / 4) for axis in (0, 1))
            expected.append(np.sum(truth * np.log(truth / predicted)) + 0.5 * error)
    found = SoftmaxLoss(4, SIGMA)(tensor(HEATMAPS), tensor(POINTS)).item()
    assert found == pytest.approx(np.mean(expected))


def test_softmax_loss_leaves_points_outside_the_crop_out():
    loss = SoftmaxLoss(4, SIGMA)
    inside = loss(tensor(HEATMAPS[:, :2]), tensor(POINTS[:, :2]))
    outside = POINTS.copy()
    outside[:, 2] = (-30, 5)
    torch.testing.assert_close(loss(tensor(HEATMAPS), tensor(outside)), inside)
    everything_outside = loss(tensor(HEATMAPS), tensor(np.full((N, M, 2), 1e3)))
    assert everything_outside.item() == 0


def test_targets_and_decoder_agree():
    points = tensor(rng.uniform(10, 38, (4, 5, 2)))
    heatmaps = gaussian_heatmaps(heatmap_points(points, 4), (12, 12), 1.0)
    decoded, _ = decode(heatmaps.numpy(), 4, "local-mean")
    np.testing.assert_allclose(decoded, points.numpy(), atol=0.3)


def test_soft_argmax_of_a_single_pixel():
    probabilities = torch.zeros(1, 1, 12)
    probabilities[0, 0, 7] = 1.0  # row 1, column 3 of 3 x 4
    assert soft_argmax(probabilities, 3, 4).tolist() == [[[3.0, 1.0]]]


@pytest.mark.parametrize("importance", ["absolute", "relative"])
def test_slimming_is_exact_where_the_pruned_factors_are_zero(lively_supernet, importance):
    """Pruned by threshold, with whole blocks going and what then feeds nothing."""
    supernet = lively_supernet
    architecture = slimmed_architecture(supernet, SlimRecipe(importance=importance, threshold=0.75))
    assert len(architecture.operations) < 0.7 * len(supernet.architecture.operations)
    student = student_from(supernet, architecture).eval()
    kept = set(architecture.operations)
    with torch.no_grad():
        for i, op in enumerate(supernet.architecture.operations):
            if op not in kept:
                supernet.factors[i] = 0.0
        # A discarded level still reaches the head of the supernet as ReLU(0) = 0.
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(student(images), supernet(images), rtol=1e-5, atol=1e-5)


def test_a_discarded_output_level_keeps_the_heads_width(lively_supernet):
    supernet = lively_supernet
    operations = supernet.architecture.operations
    last = supernet.architecture.last_stage
    architecture = supernet.architecture.keeping(
        op for op in operations if (op.stage, op.target) != (last, 1)
    )
    assert architecture.output_levels == (0, 2)
    student = student_from(supernet, architecture).eval()
    with torch.no_grad():
        for i, op in enumerate(operations):
            if op not in set(architecture.operations):
                supernet.factors[i] = 0.0
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(student(images), supernet(images), rtol=1e-5, atol=1e-5)


def test_negative_factors_count_by_their_magnitude(lively_supernet):
    with torch.no_grad():
        lively_supernet.factors[5] = -3.0
    first = ranked_operations(lively_supernet, "absolute")[0]
    assert first == (lively_supernet.architecture.operations[5], 3.0)


def test_relative_importance_compares_within_a_block(lively_supernet):
    """A block's common scale, which batch norms make up for, changes nothing; its largest factor counts 1."""
    before = dict(ranked_operations(lively_supernet, "relative"))
    operations, scales = lively_supernet.architecture.operations, {0: 0.5, 1: -2.0, 2: 1.0}
    block = [i for i, op in enumerate(operations) if (op.stage, op.target) == (3, 1)]
    magnitudes = lively_supernet.factors[block].abs()
    expected = (magnitudes / magnitudes.max()).tolist()
    assert [before[operations[i]] for i in block] == pytest.approx(expected)
    with torch.no_grad():
        for i, op in enumerate(operations):
            lively_supernet.factors[i] *= scales[op.target]
    assert dict(ranked_operations(lively_supernet, "relative")) == pytest.approx(before)


@pytest.mark.parametrize(("scale", "importance"), [(0.0, 0.0), (1e-6, 1e-4), (1e-3, 0.1), (0.1, 1.0)])
def test_a_block_that_fades_as_a_whole_counts_less_and_less(lively_supernet, scale, importance):
    """Its largest factor is ``scale`` times the network's; below a hundredth of that the block fades."""
    operations = lively_supernet.architecture.operations
    block = [i for i, op in enumerate(operations) if (op.stage, op.target) == (3, 1)]
    with torch.no_grad():
        lively_supernet.factors[block] *= scale / lively_supernet.factors[block].max()
        lively_supernet.factors[0] = 1.0
        lively_supernet.factors.clamp_(max=1.0)
    importances = dict(ranked_operations(lively_supernet, "relative"))
    assert max(importances[operations[i]] for i in block) == pytest.approx(importance)


def test_among_equals_the_larger_factor_stays(lively_supernet):
    """Each block's largest counts 1; a tight budget decides between them by |a|, not by their place."""
    operations, levels = lively_supernet.architecture.operations, {0: 0.03, 1: 0.1, 2: 1.0}
    with torch.no_grad():
        for i, op in enumerate(operations):
            lively_supernet.factors[i] = levels[op.target] if op.source == op.target else 0.001
            if op.stage == 2:
                lively_supernet.factors[i] = levels[op.target]
    ranked = ranked_operations(lively_supernet, "relative")
    assert [op.target for op, importance in ranked if importance == 1.0] == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    macs = architecture_cost(lively_supernet.architecture.keeping([op for op, _ in ranked[:3]])).macs
    cut = slimmed_architecture(lively_supernet, SlimRecipe(max_gmacs=macs / 1e9))
    assert cut.output_levels == (2,)


def macs_of_first(supernet, ranked, n):
    try:
        return architecture_cost(supernet.architecture.keeping(ranked[:n])).macs
    except UserError:
        return None


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_a_budget_is_met_and_used(lively_supernet, share):
    full = architecture_cost(lively_supernet.architecture)
    limit = share * full.macs / 1e9
    cut = slimmed_architecture(lively_supernet, SlimRecipe(max_gmacs=limit))
    assert architecture_cost(cut).macs <= limit * 1e9
    # The whole ranking, tried one operation at a time, holds nothing larger that fits.
    ranked = [op for op, _ in ranked_operations(lively_supernet)]
    sizes = [size for n in range(1, len(ranked) + 1) if (size := macs_of_first(lively_supernet, ranked, n))]
    assert sizes == sorted(sizes)
    assert architecture_cost(cut).macs == max(size for size in sizes if size <= limit * 1e9)


def test_budgets_on_parameters_and_impossible_ones(lively_supernet):
    limit = int(0.6 * architecture_cost(lively_supernet.architecture).params)
    cut = slimmed_architecture(lively_supernet, SlimRecipe(max_params=limit))
    assert architecture_cost(cut).params <= limit
    with pytest.raises(UserError, match=r"no student meets the budget; the smallest has \d+ parameters"):
        slimmed_architecture(lively_supernet, SlimRecipe(max_params=100))


@pytest.mark.parametrize("head_width", [None, 11])
def test_the_sum_over_kept_parts_is_the_count_of_the_cut_network(small_architecture, head_width):
    """For the whole, for random cuts and for cuts that lose an output level."""
    full = Architecture.model_validate(small_architecture.model_dump() | {"head_width": head_width})
    costs, cuts = CutCosts(full), [full]
    for seed in range(4):
        order = torch.randperm(len(full.operations), generator=seeded(seed)).tolist()
        main_road = [op for op in full.operations if op.source == 0 == op.target]
        cuts.append(full.keeping([*main_road, *(full.operations[i] for i in order[: 4 + 4 * seed])]))
    assert {cut.output_levels for cut in cuts} > {(0, 1, 2)}
    for cut in cuts:
        counted = architecture_cost(cut)
        assert costs.of(cut) == (counted.params, counted.macs)


def test_factors_that_have_not_spread_are_refused(small_architecture):
    network = HRSuperNet(small_architecture)
    with pytest.raises(UserError, match="have not spread"):
        slimmed_architecture(network, SlimRecipe(max_gmacs=0.001))
    with torch.no_grad():  # blocks differ, but within each the factors are alike
        for i, op in enumerate(small_architecture.operations):
            network.factors[i] = 0.1 * op.stage + 0.01 * op.target
    assert len(ranked_operations(network, "absolute")) == len(small_architecture.operations)
    with pytest.raises(UserError, match="have not spread"):
        ranked_operations(network, "relative")


@pytest.mark.parametrize("recipe", [SlimRecipe(threshold=1e-9), SlimRecipe(max_gmacs=1.0)])
def test_a_cut_that_would_keep_everything_is_refused(lively_supernet, recipe):
    with pytest.raises(
        UserError, match="slim: all 21 operations would be kept, the smallest importance is 0"
    ):
        slimmed_architecture(lively_supernet, recipe)


@pytest.mark.parametrize("share", [0.65, 0.8])
def test_random_architectures_have_the_cost_asked_for(small_architecture, share):
    """At 65 % the first orders of seeds 3 and 4 hold no network that fits, and the next ones are tried."""
    macs = int(share * architecture_cost(small_architecture).macs)
    found = [random_architecture(small_architecture, macs, seeded(i)) for i in range(5)]
    assert len({a.operations for a in found}) >= 4
    for architecture in found:
        assert 0.97 * macs <= architecture_cost(architecture).macs <= macs


def test_a_cost_that_no_architecture_has_is_refused(small_architecture):
    """The head and the stem alone cost more than a tenth."""
    macs = architecture_cost(small_architecture).macs // 10
    with pytest.raises(UserError, match="no random architecture of 0.000 G .* choose another budget"):
        random_architecture(small_architecture, macs, seeded(0))
