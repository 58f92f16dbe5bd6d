"""Slimming: operations of small importance are cut away, and a dense student takes the rest over."""

from __future__ import annotations

from collections.abc import Callable

import torch

from slimalign.compress.cost import Cost, count
from slimalign.compress.networks.architecture import Architecture, Operation
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import SlimRecipe
from slimalign.runtimes.errors import UserError

FLAT_SPREAD = 0.02
"""Factors whose 5 % and 95 % quantiles differ by less than this share of the median tell nothing apart."""


def slimmed_architecture(supernet: HRSuperNet, recipe: SlimRecipe) -> Architecture:
    """The architecture that is left of ``supernet`` by the recipe's threshold or budget."""
    ranked = ranked_operations(supernet)
    if recipe.threshold is not None:
        return supernet.architecture.keeping(
            op for op, importance in ranked if importance >= recipe.threshold
        )
    return largest_within(supernet.architecture, [op for op, _ in ranked], _budget(recipe))


def ranked_operations(supernet: HRSuperNet) -> list[tuple[Operation, float]]:
    """Operations with their importance |a|, the most important first.

    Raises UserError where the factors have not spread: their order would be noise.
    """
    magnitudes = supernet.factors.detach().abs().float().cpu()
    low, middle, high = torch.quantile(magnitudes, torch.tensor([0.05, 0.5, 0.95])).tolist()
    if high - low < FLAT_SPREAD * middle:
        raise UserError(
            f"the importance factors have not spread (5 % to 95 %: {low:.4g} to {high:.4g}); raise "
            "search.factor_learning_rate, search.sparsity or search.epochs in the recipe and run again"
        )
    pairs = zip(supernet.architecture.operations, magnitudes.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def _budget(recipe: SlimRecipe) -> Callable[[Cost], bool]:
    def fits(cost: Cost) -> bool:
        macs_fit = recipe.max_gmacs is None or cost.macs <= recipe.max_gmacs * 1e9
        return macs_fit and (recipe.max_params is None or cost.params <= recipe.max_params)

    return fits


def largest_within(
    architecture: Architecture, ranked: list[Operation], fits: Callable[[Cost], bool]
) -> Architecture:
    """The largest cut of ``architecture`` that ``fits``, keeping the first operations of ``ranked``.

    Keeping more operations never costs less, so the number to keep is found by bisection.
    """

    def attempt(keep: int) -> Architecture | None:
        try:
            return architecture.keeping(ranked[:keep])
        except UserError:
            return None

    low, high, best = 1, len(ranked), None
    while low <= high:
        middle = (low + high) // 2
        candidate = attempt(middle)
        if candidate is None or fits(architecture_cost(candidate)):
            best, low = candidate or best, middle + 1
        else:
            high = middle - 1
    if best is None:
        smallest = next(cut for cut in map(attempt, range(1, len(ranked) + 1)) if cut is not None)
        cost = architecture_cost(smallest)
        raise UserError(
            f"slim: no student meets the budget; the smallest has {cost.params} parameters and "
            f"{cost.macs / 1e9:.3f} G multiply-adds; raise max_gmacs or max_params, or narrow the head"
        )
    return best


def architecture_cost(architecture: Architecture) -> Cost:
    """The cost of an architecture's network, counted without allocating its weights."""
    with torch.device("meta"):
        network = HRSuperNet(architecture)
    return count(network, architecture.input_size)


def student_from(supernet: HRSuperNet, architecture: Architecture) -> HRSuperNet:
    """The dense student of ``architecture`` with the supernet's weights and importance factors.

    Where every operation that the architecture lacks has a factor of zero, student and supernet agree.
    """
    student = HRSuperNet(architecture)
    source = supernet.state_dict()
    index = {op: i for i, op in enumerate(supernet.architecture.operations)}
    chosen = [index[op] for op in architecture.operations]
    weights = {name: source[name] for name in student.state_dict() if name != "factors"}
    weights["factors"] = source["factors"][chosen]
    inputs = _head_inputs(supernet.architecture, architecture)
    weights["head.hidden.weight"] = source["head.hidden.weight"][:, inputs]
    student.load_state_dict(weights)
    return student


def _head_inputs(full: Architecture, architecture: Architecture) -> list[int]:
    """Channels of the full network's concatenated levels that the student still has."""
    channels: list[int] = []
    start = 0
    for level in full.output_levels:
        width = full.widths[level]
        if level in architecture.output_levels:
            channels += range(start, start + width)
        start += width
    return channels
