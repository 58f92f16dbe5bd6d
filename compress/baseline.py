"""Random architectures of a given cost, against which a search has to prove itself."""

from __future__ import annotations

import torch
from torch import Generator

from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.slim import CutCosts, largest_within
from slimalign.runtimes.errors import UserError

TOLERANCE = 0.03
"""A random architecture's multiply-adds may lie this share below those asked for, never above."""

ATTEMPTS = 200


def random_architecture(full: Architecture, macs: int, rng: Generator) -> Architecture:
    """A random cut of ``full`` whose multiply-adds are ``macs`` to within TOLERANCE.

    Operations are ranked at random where the search ranks them by importance; the cut is the same.
    """
    operations, costs = full.operations, CutCosts(full)
    for _ in range(ATTEMPTS):
        order = torch.randperm(len(operations), generator=rng).tolist()
        cut = largest_within(costs, [operations[i] for i in order], lambda size: size.macs <= macs)
        # The last step of a cut may take a whole block along and fall short.
        if cut is not None and costs.of(cut).macs >= (1 - TOLERANCE) * macs:
            return cut
    raise UserError(
        f"no random architecture of {macs / 1e9:.3f} G multiply-adds found; choose another budget"
    )
