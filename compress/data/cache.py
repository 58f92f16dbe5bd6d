"""Training faces decoded once: wide crops on disk, memory-mapped, from which augmented crops are cut."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample
from slimalign.runtimes.crop import CropRule, transform_points

WIDE_BOX_SCALE = 2.2
"""Side of a cached crop over the face box: room for the crop rule's 1.25, 25 % of scale and any rotation."""


@dataclass(frozen=True)
class FaceCache:
    """Wide crops of a training split.

    ``images`` (N, C, C, 3) uint8 RGB, memory-mapped; ``points`` (N, K, 2) float32 in pixels of the wide crop;
    the face's centre is the crop's centre and the face box's longer side is C / WIDE_BOX_SCALE.
    """

    images: NDArray[np.uint8]
    points: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of a wide crop in pixels."""
        return int(self.images.shape[1])


def wide_crop_rule(input_size: int) -> CropRule:
    """The rule for wide crops whose pixels are 1.25 times as fine as those of the network's input."""
    return CropRule(size=math.ceil(input_size * WIDE_BOX_SCALE), box_scale=WIDE_BOX_SCALE)


def cached_faces(
    samples: Sequence[Sample], input_size: int, folder: Path, advance: Callable[[], None] = lambda: None
) -> FaceCache:
    """The wide crops of ``samples``, from ``folder`` where they lie there already, else decoded and kept there.

    ``advance`` is called after each decoded image. A cache of other samples or another size is never used.
    """
    rule = wide_crop_rule(input_size)
    points = np.stack([transform_points(s.points, rule.matrix(s.box)) for s in samples]).astype(np.float32)
    path = folder / f"faces-{_fingerprint(samples, rule)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _decode_into(path, samples, rule, advance)
    # Copy-on-write, because torch asks for writable memory though nothing writes to it.
    return FaceCache(np.load(path, mmap_mode="c"), points)


def _decode_into(path: Path, samples: Sequence[Sample], rule: CropRule, advance: Callable[[], None]) -> None:
    beside = path.with_suffix(f".{os.getpid()}.part")
    shape = (len(samples), rule.size, rule.size, 3)
    images = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
    for index, sample in enumerate(samples):
        images[index] = rule.crop(sample.load(), sample.box)
        advance()
    images.flush()
    os.replace(beside, path)


def _fingerprint(samples: Sequence[Sample], rule: CropRule) -> str:
    boxes = [[sample.name, *(round(float(v), 3) for v in sample.box)] for sample in samples]
    text = json.dumps([rule.size, rule.box_scale, boxes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
