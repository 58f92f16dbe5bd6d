"""A bundle opened in one runtime."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.errors import UserError

Float32 = NDArray[np.float32]


class Session(Protocol):
    """A bundle opened in one runtime; a context manager with one verb.

    ``runtime`` is the runtime's name as records give it, ``threads`` how many threads it computes with.
    """

    runtime: str
    threads: int
    manifest: Manifest

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, both in the layout that the manifest names.

        (N, 3, S, S) -> (N, K, H, W) for NCHW, (N, S, S, 3) -> (N, H, W, K) for NHWC. A file that decodes them
        itself gives (N, K, 3) instead: x and y in pixels of the crop, and the score. The answer is the caller's own:
        a later run does not change it.
        """
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def joined(points: Float32, scores: Float32) -> Float32:
    """Points (N, K, 2) and scores (N, K) as one array (N, K, 3)."""
    return np.concatenate([points, scores[..., None]], axis=2)


def available_cores() -> int:
    """How many processor cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """``threads``, or all cores where it is None; raises UserError below 1."""
    if threads is None:
        return available_cores()
    if threads < 1:
        raise UserError(f"threads = {threads}, must be at least 1; leave it out to use all cores")
    return threads


def check_batch(inputs: Float32, manifest: Manifest) -> None:
    """Raise UserError where ``inputs`` (N, ...) are not of the one batch size that the file can run."""
    if manifest.batch is not None and len(inputs) != manifest.batch:
        raise UserError(
            f"bundle '{manifest.name}': batch = {len(inputs)}, the file runs batch {manifest.batch} only;"
            " give it so many at a time"
        )
