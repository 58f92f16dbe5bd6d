"""The faces that quantisation is calibrated on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError

FACES = 128
FEWEST = 32
"""With fewer faces the ranges of activations would be those of these faces, not of faces."""


@dataclass(frozen=True)
class CalibrationSet:
    """``crops`` (N, S, S, 3) uint8 RGB of the faces called ``names``, cut as the device cuts them."""

    names: tuple[str, ...]
    crops: NDArray[np.uint8]

    @property
    def sha256(self) -> str:
        """The hash by which a bundle names the set."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The faces by name, each with the hash of its crop."""
        hashes = [hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest() for crop in self.crops]
        return json.dumps(dict(zip(self.names, hashes, strict=True)), indent=1) + "\n"


def calibration_set(samples: Sequence[Sample], rule: CropRule, seed: int = 0) -> CalibrationSet:
    """``FACES`` of the training split ``samples``, or all where there are fewer, spread over their subsets.

    Raises UserError where there are fewer than ``FEWEST``.
    """
    check_enough(samples)
    chosen = spread(samples, FACES, seed)
    return CalibrationSet(tuple(sample.name for sample in chosen), cut_crops(chosen, rule))


def check_enough(samples: Sequence[Sample]) -> None:
    """Raise UserError where ``samples``, a training split, are too few to calibrate on."""
    if len(samples) < FEWEST:
        raise UserError(
            f"{len(samples)} training faces to calibrate the quantisation on, at least {FEWEST} are needed; give more"
        )


def spread(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """At most ``count`` of ``samples``, in turn one of each combination of subset labels that still has some."""
    groups: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(samples)):
        groups[samples[index].subsets].append(samples[index])
    waiting = [groups[labels] for labels in sorted(groups)]
    chosen: list[Sample] = []
    while waiting and len(chosen) < count:
        chosen += [group.pop() for group in waiting][: count - len(chosen)]
        waiting = [group for group in waiting if group]
    return chosen
