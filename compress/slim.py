"""Slimming: operations of small importance are cut away, and a dense student takes the rest over."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch

from slimalign.compress.cost import Cost, LayerCost, count
from slimalign.compress.latency_table import (
    LatencyTable,
    encoder_parts,
    operation_part,
    parts_of,
    read_latency_table,
)
from slimalign.compress.networks.architecture import Architecture, Operation
from slimalign.compress.networks.supernet import HRSuperNet, block_key, operation_key
from slimalign.compress.recipe import SlimRecipe
from slimalign.runtimes.errors import UserError

Importances = Mapping[Operation, float]
"""What each operation counts for, see ``importance``."""

FLAT_SPREAD = 0.02
"""Importances whose 5 % and 95 % quantiles differ by less than this share of the median tell nothing apart."""


Path = tuple[Operation, ...]
"""Operations that lead one after the other from the input to the head."""


class Size(NamedTuple):
    """Parameters and multiply-adds of a network or of a part of one, and its milliseconds by a latency table."""

    params: int
    macs: int
    ms: float = 0.0


class CutCosts:
    """What any cut of one architecture costs: a sum over what it keeps, from one count of the whole.

    Without a ``table`` of latencies everything takes no time.
    """

    def __init__(self, full: Architecture, table: LatencyTable | None = None) -> None:
        self.full = full
        self._table = table
        whole = architecture_cost(full)
        self._parts = _sizes_of_parts(whole.layers)
        # No layer of the network may be one that the sum does not know of.
        assert self.of(full)[:2] == (whole.params, whole.macs)

    def of(self, cut: Architecture) -> Size:
        """What ``cut`` costs, which ``keeping`` made of the full architecture."""
        kept = ["stem", "head.norm", "head.heatmaps"]
        kept += [f"encoders.{block_key(*block)}" for block in cut.encoded_blocks]
        kept += [f"transforms.{operation_key(op)}" for op in cut.operations]
        sizes = [self._parts[name] for name in kept] + [self._hidden_layer(cut)]
        factors = len(cut.operations)
        params, macs = factors + sum(size.params for size in sizes), sum(size.macs for size in sizes)
        return Size(params, macs, self._ms(parts_of(cut)))

    def lightest_paths(self) -> dict[Size, Path]:
        """The single paths from the input to the head that no other beats in all that a size tells.

        Every cut holds a single path, and costs no less: a budget that no lightest path meets, no cut meets.
        """
        paths: dict[int, dict[Size, Path]] = {0: {Size(0, 0): ()}}
        for number, stage in enumerate(self.full.stages, start=2):
            paths = {
                target: _unbeaten(
                    (self._longer(size, op), (*path, op))
                    for op in (Operation(number, target, source) for source in sources)
                    for size, path in paths[op.source].items()
                )
                for target, sources in stage.items()
            }
        whole = [path for ending in paths.values() for path in ending.values()]
        return _unbeaten((self.of(self.full.keeping(path)), path) for path in whole)

    def _longer(self, size: Size, op: Operation) -> Size:
        """``size`` of a path that ``op`` and the block which it leads to are added to."""
        transform = self._parts[f"transforms.{operation_key(op)}"]
        encoder = self._parts[f"encoders.{block_key(op.stage, op.target)}"]
        parts = {operation_part(op): 1}
        if op.stage < self.full.last_stage:
            parts |= encoder_parts(self.full, op.stage, op.target)
        added = (size, transform, encoder)
        params, macs = sum(one.params for one in added), sum(one.macs for one in added)
        return Size(params, macs, size.ms + self._ms(parts))

    def _ms(self, parts: Mapping[str, int]) -> float:
        return 0.0 if self._table is None else self._table.predicted_ms(parts)

    def _hidden_layer(self, cut: Architecture) -> Size:
        """The head's first layer: its inputs are the channels of the levels that are left."""
        whole, biases = self._parts["head.hidden"], self.full.hidden_width
        channels, left = (sum(a.widths[i] for i in a.output_levels) for a in (self.full, cut))
        return Size((whole.params - biases) // channels * left + biases, whole.macs // channels * left)


def _unbeaten(paths: Iterable[tuple[Size, Path]]) -> dict[Size, Path]:
    """Those among ``paths`` that no other beats, by size, the fewest parameters first."""
    found: dict[Size, Path] = {}
    for size, path in sorted(paths):
        if not any(all(map(operator.le, other, size)) for other in found):
            found[size] = path
    return found


def _sizes_of_parts(layers: Iterable[LayerCost]) -> defaultdict[str, Size]:
    """Sizes by operation, block and layer of the head; an identity, which has no layer, costs nothing."""
    sizes: defaultdict[str, Size] = defaultdict(lambda: Size(0, 0))
    for layer in layers:
        names = layer.name.split(".")
        part = names[0] if names[0] == "stem" else ".".join(names[:2])
        sizes[part] = Size(sizes[part].params + layer.params, sizes[part].macs + layer.macs)
    return sizes


def slimmed_architecture(full: Architecture, importances: Importances, recipe: SlimRecipe) -> Architecture:
    """The architecture that is left of ``full`` by the recipe's threshold on the importances, or its budget.

    Raises UserError where the importances have not spread, where nothing within the budget is a network, and where
    nothing would be cut.
    """
    ranked = ranked_operations(importances)
    if recipe.threshold is not None:
        cut = full.keeping([op for op in ranked if importances[op] >= recipe.threshold])
    else:
        cut = _largest_in_budget(full, ranked, recipe)
    if len(cut.operations) == len(ranked):
        raise UserError(
            f"slim: all {len(ranked)} operations would be kept, the smallest importance is "
            f"{importances[ranked[-1]]:.4g}; raise the threshold or lower the budget"
        )
    return cut


def check_budget(full: Architecture, recipe: SlimRecipe) -> None:
    """Raise UserError for a budget that no cut of ``full`` meets or that all of it meets: known before any training."""
    if recipe.threshold is not None:
        return
    costs = costs_by(recipe, full)
    whole = costs.of(full)
    if _budget(recipe)(whole):
        raise UserError(
            f"slim: the whole supernet is within the budget, it has {whole.params} parameters and "
            f"{whole.macs / 1e9:.4f} G multiply-adds{_told_ms(recipe, '', whole.ms)}; lower {_limits(recipe)}"
        )
    _path_within(costs, recipe)


def _path_within(costs: CutCosts, recipe: SlimRecipe) -> Path:
    """The lightest path of fewest parameters within the budget; raises UserError where there is none."""
    paths = costs.lightest_paths()
    for size, path in paths.items():
        if _budget(recipe)(size):
            return path
    sizes = [size for size in paths if recipe.max_params is None or size.params <= recipe.max_params]
    within = f" of at most {recipe.max_params} parameters" if recipe.max_params is not None and sizes else ""
    least_ms = min(size.ms for size in sizes or paths)
    least = Size(min(size.params for size in paths), min(size.macs for size in sizes or paths), least_ms)
    # Rounded up: this many are enough.
    raise UserError(
        f"slim: no student meets the budget, every one{within} has at least {least.params} parameters and "
        f"{math.ceil(least.macs / 1e5) / 1e4:.4f} G multiply-adds"
        f"{_told_ms(recipe, 'at least ', math.ceil(least.ms * 100) / 100)}; raise {_limits(recipe)}, or narrow the head"
    )


def costs_by(recipe: SlimRecipe, full: Architecture) -> CutCosts:
    """The costs of cuts of ``full``, with milliseconds where the recipe names a latency table.

    Raises UserError for a table that cannot be read, or is not one for ``full``.
    """
    return CutCosts(full, table_of(recipe, full))


def table_of(recipe: SlimRecipe, full: Architecture) -> LatencyTable | None:
    """The latency table that the recipe names, which has to be one for ``full``; None where it names none."""
    return None if recipe.latency_table is None else read_latency_table(recipe.latency_table, full)


def _told_ms(recipe: SlimRecipe, how: str, ms: float) -> str:
    return "" if recipe.latency_table is None else f", and takes {how}{ms:.2f} ms by {recipe.latency_table}"


def _limits(recipe: SlimRecipe) -> str:
    return "max_gmacs or max_params" if recipe.max_ms is None else "max_ms, max_gmacs or max_params"


def _largest_in_budget(full: Architecture, operations: list[Operation], recipe: SlimRecipe) -> Architecture:
    costs = costs_by(recipe, full)
    cut = largest_within(costs, operations, _budget(recipe))
    if cut is not None:
        return cut
    # The order of importance ends in one path, which may cost more than others: then a lightest one is spared.
    spared = _path_within(costs, recipe)
    order = [*spared, *(op for op in operations if op not in spared)]
    cut = largest_within(costs, order, _budget(recipe))
    assert cut is not None
    return cut


def ranked_operations(importances: Importances) -> list[Operation]:
    """The operations, the most important first; raises UserError where their order would be noise."""
    _refuse_flat(list(importances.values()))
    return sorted(importances, key=lambda op: -importances[op])


def _refuse_flat(importances: list[float]) -> None:
    low, middle, high = torch.quantile(torch.tensor(importances), torch.tensor([0.05, 0.5, 0.95])).tolist()
    if high - low <= FLAT_SPREAD * middle:
        raise UserError(
            f"the importance factors have not spread (5 % to 95 %: {low:.4g} to {high:.4g}); raise "
            "search.factor_learning_rate, search.sparsity or search.epochs in the recipe and run again with --retrain"
        )


def _budget(recipe: SlimRecipe) -> Callable[[Size], bool]:
    def fits(size: Size) -> bool:
        macs_fit = recipe.max_gmacs is None or size.macs <= recipe.max_gmacs * 1e9
        ms_fit = recipe.max_ms is None or size.ms <= recipe.max_ms
        return macs_fit and ms_fit and (recipe.max_params is None or size.params <= recipe.max_params)

    return fits


def largest_within(
    costs: CutCosts, ranked: list[Operation], fits: Callable[[Size], bool]
) -> Architecture | None:
    """The first of the ``successive_cuts`` that ``fits``; None if none does."""
    return next((cut for cut in successive_cuts(costs.full, ranked) if fits(costs.of(cut))), None)


def successive_cuts(full: Architecture, ranked: list[Operation]) -> Iterator[Architecture]:
    """``full``, then cut by one more operation each time, from the end of ``ranked``, with what then feeds nothing.

    An operation without which nothing leads from the input to the head any more is passed over, so that the last
    cut is a single path.
    """
    cut = full
    yield cut
    for op in reversed(ranked):
        if op in cut.operations:
            smaller = _cut(full, [other for other in cut.operations if other != op])
            if smaller is not None:
                cut = smaller
                yield cut


def _cut(full: Architecture, operations: list[Operation]) -> Architecture | None:
    try:
        return full.keeping(operations)
    except UserError:
        return None


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
