"""What the operations of a searched supernet count for: by it slimming ranks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from slimalign.compress.networks.architecture import Operation
from slimalign.compress.networks.supernet import HRSuperNet, operation_key
from slimalign.compress.recipe import ImportanceName

MEASURES: Mapping[ImportanceName, str] = MappingProxyType(
    {"absolute": "|a|", "contribution": "|a| x the spread of what it weighs"}
)
"""How each kind of importance is called in pictures."""


def importances_of(
    supernet: HRSuperNet, importance: ImportanceName, images: Iterable[Tensor]
) -> dict[Operation, float]:
    """The importance of every operation; ``images`` are normalised batches (N, 3, S, S) on the supernet's device."""
    return _magnitudes(supernet) if importance == "absolute" else _contributions(supernet, images)


def _magnitudes(supernet: HRSuperNet) -> dict[Operation, float]:
    """The paper's |a|."""
    factors = supernet.factors.detach().abs().float().tolist()
    return dict(zip(supernet.architecture.operations, factors, strict=True))


def _contributions(supernet: HRSuperNet, images: Iterable[Tensor]) -> dict[Operation, float]:
    """The standard deviation of a * T(x) in equation 1, the mean over the batches of ``images``.

    |a| alone tells little: T ends in a batch norm, whose scale can grow as a shrinks, and an identity has none.
    """
    spreads: dict[str, list[float]] = {operation_key(op): [] for op in supernet.architecture.operations}
    hooks = [
        supernet.transforms[key].register_forward_hook(
            lambda _module, _inputs, output, found=found: found.append(float(output.float().std()))
        )
        for key, found in spreads.items()
    ]
    was_training = supernet.training
    supernet.eval()
    with torch.no_grad():
        for batch in images:
            supernet(batch)
    supernet.train(was_training)
    for hook in hooks:
        hook.remove()
    means = {key: sum(found) / len(found) for key, found in spreads.items()}
    return {op: a * means[operation_key(op)] for op, a in _magnitudes(supernet).items()}
