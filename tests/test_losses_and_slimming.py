"""Equations 2 to 4 against slow NumPy, and the exactness of slimming."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.compress.baseline import random_architecture
from slimalign.compress.batches import seeded
from slimalign.compress.importance import importances_of
from slimalign.compress.losses import (
    MseLoss,
    SoftmaxLoss,
    distillation_loss,
    gaussian_heatmaps,
    heatmap_points,
    soft_argmax,
    sparsity,
)
from slimalign.compress.networks.architecture import Architecture, Operation, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet, operation_key
from slimalign.compress.recipe import SlimRecipe
from slimalign.compress.slim import (
    CutCosts,
    Size,
    architecture_cost,
    check_budget,
    ranked_operations,
    slimmed_architecture,
    student_from,
    successive_cuts,
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


def by_factors(supernet):
    return importances_of(supernet, "absolute", [])


def cut_by_factors(supernet, **limits):
    return slimmed_architecture(supernet.architecture, by_factors(supernet), SlimRecipe(**limits))


def test_slimming_is_exact_where_the_pruned_factors_are_zero(lively_supernet):
    """Pruned by threshold, with whole blocks going and what then feeds nothing."""
    supernet = lively_supernet
    architecture = cut_by_factors(supernet, threshold=0.75)
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
    importances = by_factors(lively_supernet)
    first = ranked_operations(importances)[0]
    assert (first, importances[first]) == (lively_supernet.architecture.operations[5], 3.0)


def test_an_operations_contribution_is_the_spread_of_what_it_adds_to_its_block(lively_supernet):
    """In stage 2 every block's only source is the encoded stem, so that it can be computed by hand."""
    images = [torch.randn(3, 3, 64, 64), torch.randn(2, 3, 64, 64)]
    contributions = importances_of(lively_supernet, "contribution", images)
    assert list(contributions) == list(lively_supernet.architecture.operations)
    for i, op in enumerate(lively_supernet.architecture.operations):
        if op.stage == 2:
            with torch.no_grad():
                stems = [lively_supernet.encoders["s1_l0"](lively_supernet.stem(batch)) for batch in images]
                added = [
                    lively_supernet.factors[i] * lively_supernet.transforms[operation_key(op)](stem)
                    for stem in stems
                ]
            expected = np.mean([np.std(batch.numpy(), ddof=1) for batch in added])
            assert contributions[op] == pytest.approx(expected, rel=1e-4)


def test_a_scale_that_a_batch_norm_takes_over_does_not_change_the_contribution(lively_supernet):
    """A factor of a hundredth before a batch norm of a hundredfold scale is the same network."""
    operations, images = lively_supernet.architecture.operations, [torch.randn(2, 3, 64, 64)]
    before = importances_of(lively_supernet, "contribution", images)
    magnitudes = by_factors(lively_supernet)
    chosen = next(i for i, op in enumerate(operations) if op.stage == 3 and op.source != op.target)
    with torch.no_grad():
        lively_supernet.factors[chosen] /= 100
        norm = lively_supernet.transforms[operation_key(operations[chosen])][-1]
        norm.weight *= 100
        norm.bias *= 100
    assert importances_of(lively_supernet, "contribution", images) == pytest.approx(before, rel=1e-3)
    assert by_factors(lively_supernet)[operations[chosen]] == pytest.approx(
        magnitudes[operations[chosen]] / 100
    )


@pytest.mark.parametrize("training", [True, False])
def test_measuring_contributions_leaves_the_network_as_it_was(lively_supernet, training):
    before = {name: value.clone() for name, value in lively_supernet.train(training).state_dict().items()}
    importances_of(lively_supernet, "contribution", [torch.randn(2, 3, 64, 64)])
    assert all(torch.equal(value, before[name]) for name, value in lively_supernet.state_dict().items())
    assert lively_supernet.training == training
    assert not any(module._forward_hooks for module in lively_supernet.modules())


def macs_of_first(supernet, ranked, n):
    try:
        return architecture_cost(supernet.architecture.keeping(ranked[:n])).macs
    except UserError:
        return None


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_a_budget_is_met_and_used(lively_supernet, share):
    full = architecture_cost(lively_supernet.architecture)
    limit = share * full.macs / 1e9
    cut = cut_by_factors(lively_supernet, max_gmacs=limit)
    assert architecture_cost(cut).macs <= limit * 1e9
    # The whole ranking, tried one operation at a time, holds nothing larger that fits.
    ranked = ranked_operations(by_factors(lively_supernet))
    sizes = [size for n in range(1, len(ranked) + 1) if (size := macs_of_first(lively_supernet, ranked, n))]
    assert sizes == sorted(sizes)
    assert architecture_cost(cut).macs == max(size for size in sizes if size <= limit * 1e9)


@settings(deadline=None, max_examples=40)
@given(order=st.permutations(range(21)))
def test_whatever_the_order_the_cuts_shrink_to_a_single_path(order):
    """Each is smaller than the one before, is a network, and the last has one operation a stage."""
    full = full_architecture(5, 64, 8, (4, 6, 8), stage_count=4, encoders=1)
    cuts = list(successive_cuts(full, [full.operations[i] for i in order]))
    assert cuts[0] == full
    for larger, smaller in itertools.pairwise(cuts):
        assert set(smaller.operations) < set(larger.operations)
        assert smaller.keeping(smaller.operations).operations == smaller.operations
    assert [op.stage for op in sorted(cuts[-1].operations)] == [2, 3, 4]


@pytest.mark.parametrize("widths", [(4, 6, 8), (8, 6, 4)])
def test_the_lightest_paths_are_those_of_all_that_no_other_beats(widths):
    full = full_architecture(5, 64, 8, widths, stage_count=4, encoders=1)
    ways = itertools.product(range(3), repeat=3)
    paths = [full.keeping([Operation(2, a, 0), Operation(3, b, a), Operation(4, c, b)]) for a, b, c in ways]
    costs = [architecture_cost(path) for path in paths]
    sizes = [Size(cost.params, cost.macs) for cost in costs]
    beaten = {a for a in sizes for b in sizes if a != b and b.params <= a.params and b.macs <= a.macs}
    assert set(CutCosts(full).lightest_paths()) == set(sizes) - beaten


def test_an_operation_that_alone_connects_is_kept_however_little_it_counts():
    """Stage 2 counts least; without it there is no network."""
    full = full_architecture(5, 64, 8, (4, 6), stage_count=4, encoders=1)
    ranked = sorted(full.operations, key=lambda op: (-op.stage, op.target, op.source))
    *_, last = successive_cuts(full, ranked)
    assert last.operations == (Operation(2, 0, 0), Operation(3, 0, 0), Operation(4, 0, 0))


def test_budgets_on_parameters_and_impossible_ones(lively_supernet):
    limit = int(0.6 * architecture_cost(lively_supernet.architecture).params)
    cut = cut_by_factors(lively_supernet, max_params=limit)
    assert architecture_cost(cut).params <= limit
    with pytest.raises(
        UserError, match=r"no student meets the budget, every one has at least \d+ parameters"
    ):
        cut_by_factors(lively_supernet, max_params=100)


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(21)))
def test_a_budget_that_some_student_meets_is_met_in_any_order_of_importance(order):
    """Even where the least important operations are those of the cheapest path."""
    full = full_architecture(5, 64, 8, (4, 6, 8), stage_count=4, encoders=1)
    importances = {full.operations[place]: 1.0 + rank for rank, place in enumerate(order)}
    for size in CutCosts(full).lightest_paths():
        both = SlimRecipe(max_gmacs=(size.macs + 0.5) / 1e9, max_params=size.params)
        check_budget(full, both)
        assert CutCosts(full).of(slimmed_architecture(full, importances, both)) == size


def test_two_budgets_that_no_student_meets_together_are_refused():
    full = full_architecture(5, 64, 8, (4, 6, 8), stage_count=4, encoders=1)
    fewest, *_, quickest = CutCosts(full).lightest_paths()
    assert (fewest.params < quickest.params, fewest.macs > quickest.macs) == (True, True)
    enough = f"{math.ceil(fewest.macs / 1e5) / 1e4:.4f} G"
    with pytest.raises(
        UserError, match=f"every one of at most {fewest.params} parameters has at least .* {enough}"
    ):
        check_budget(full, SlimRecipe(max_gmacs=(quickest.macs + 0.5) / 1e9, max_params=fewest.params))


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
        assert costs.of(cut) == (counted.params, counted.macs, 0)


def test_factors_that_have_not_spread_are_refused(small_architecture):
    with pytest.raises(UserError, match="have not spread"):
        cut_by_factors(HRSuperNet(small_architecture), max_gmacs=0.001)


@pytest.mark.parametrize("limits", [{"threshold": 1e-9}, {"max_gmacs": 1.0}])
def test_a_cut_that_would_keep_everything_is_refused(lively_supernet, limits):
    with pytest.raises(
        UserError, match="slim: all 21 operations would be kept, the smallest importance is 0"
    ):
        cut_by_factors(lively_supernet, **limits)


@pytest.mark.parametrize("share", [0.65, 0.8])
def test_random_architectures_have_the_cost_asked_for(small_architecture, share):
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
