"""Training faces decoded once: wide crops on disk, memory-mapped, from which augmented crops are cut."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample
from slimalign.runtimes.crop import CropRule, transform_points
from slimalign.runtimes.files import replacing

WIDE_BOX_SCALE = 2.2
"""Side of a cached crop over the face box.

Room for the crop rule's 1.25 and rotations up to 30 degrees at 25 % of scale: 1.25 x 1.25 x (cos 30 + sin 30)
= 2.134. What a stronger augmentation takes from beyond is black.
"""


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

    The folder is a cache's alone: those of other samples or sizes are removed, they take a megabyte a face at 256 px.
    ``advance`` is called after each decoded image. A cache belongs to the names and boxes of its samples, their
    order and the size; an image that has changed under its name and box is not noticed: delete ``folder`` then.
    Raises UserError where ``folder`` has no room for the crops, before anything is decoded.
    """
    rule = wide_crop_rule(input_size)
    points = np.stack([transform_points(s.points, rule.matrix(s.box)) for s in samples]).astype(np.float32)
    path = folder / f"faces-{_fingerprint(samples, rule)}.npy"
    if not path.exists():
        with replacing(path) as beside, beside.open("wb") as file:
            _decode_into(file, samples, rule, advance)
    for other in set(folder.glob("faces-*.npy")) - {path}:
        if not other.stem.endswith(".part"):  # those may be another process's, who is just writing
            other.unlink(missing_ok=True)
    # Copy-on-write, because torch asks for writable memory though nothing writes to it.
    return FaceCache(np.load(path, mmap_mode="c"), points)


def _decode_into(
    file: BinaryIO, samples: Sequence[Sample], rule: CropRule, advance: Callable[[], None]
) -> None:
    """Write the crops as an .npy file.

    One after the other and not through a memory map: a disk that is full is an error here, but there kills
    the process.
    """
    shape = (len(samples), rule.size, rule.size, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    _reserve(file, math.prod(shape))
    for sample in samples:
        file.write(rule.crop(sample.load(), sample.box).tobytes())
        advance()


def _reserve(file: BinaryIO, size: int) -> None:
    """Take the next ``size`` bytes of the disk, so that too little room is told before the decoding."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), file.tell(), size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that reserves nothing
            raise


def _fingerprint(samples: Sequence[Sample], rule: CropRule) -> str:
    boxes = [[sample.name, *(round(float(v), 3) for v in sample.box)] for sample in samples]
    text = json.dumps([rule.size, rule.box_scale, boxes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
