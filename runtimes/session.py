"""A bundle opened in one runtime.

This and the sessions are read by a Jetson's Python 3.6 too, in the agent: their syntax is Python 3.6.
"""

import os
import sys
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

import numpy as np

from slimalign.runtimes.errors import UserError

if sys.version_info >= (3, 8):
    from typing import Protocol
else:
    Protocol = object

if TYPE_CHECKING:
    from collections.abc import Sized
    from types import TracebackType

    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Manifest

    Float32 = NDArray[np.float32]
else:
    Float32 = np.ndarray


class Session(Protocol):
    """A bundle opened in one runtime; a context manager with one verb.

    ``runtime`` is the runtime's name as records give it, with what of it computes where that is not the default;
    ``version`` names the library and its version; ``threads`` is how many threads it computes with.
    """

    runtime: str
    version: str
    threads: int
    manifest: "Manifest"

    def run(self, inputs: "Float32") -> "Float32":
        """Raw heatmaps of normalised ``inputs``, both in the layout that the manifest names.

        (N, 3, S, S) -> (N, K, H, W) for NCHW, (N, S, S, 3) -> (N, H, W, K) for NHWC. A file that decodes them
        itself gives (N, K, 3) instead: x and y in pixels of the crop, and the score; one from elsewhere that gives
        coordinates (N, V) as they are. The answer is the caller's own: a later run does not change it.
        """
        ...

    def __enter__(self) -> "Session": ...

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        error: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None: ...


class Backend(NamedTuple):
    """What of a runtime computes; each runtime looks at its own entries.

    ``provider`` is ONNX Runtime's, by the first part of its name: ``cpu``, ``cuda``, ``tensorrt``, ``xnnpack`` ...
    ``delegate`` is LiteRT's: ``xnnpack``, ``none`` for the plain kernels, ``gpu``, or the path of an external
    delegate's library, with its options after it as in ``libdelegate.so,backend=htp``. ``cuda_graph`` replays
    TensorRT's work as one graph; ``batches`` are the least, the best and the largest batch of its engine.
    """

    provider: str = "cpu"
    delegate: str = "xnnpack"
    cuda_graph: bool = False
    batches: Tuple[int, int, int] = (1, 1, 8)


DEFAULT_BACKEND = Backend()


def joined(points: "Float32", scores: "Float32") -> "Float32":
    """Points (N, K, 2) and scores (N, K) as one array (N, K, 3)."""
    return np.concatenate([points, scores[..., None]], axis=2)


def answer_of(found: "List[Float32]", manifest: "Manifest") -> "Float32":
    """What ``run`` gives, of the outputs that were ``found``: heatmaps, points and scores, or coordinates."""
    if manifest.output == "points":
        return joined(*found)
    return found[0] if manifest.output == "heatmaps" else found[0].reshape(len(found[0]), -1)


def available_cores() -> int:
    """How many processor cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def thread_count(threads: Optional[int]) -> int:
    """``threads``, or all cores where it is None; raises UserError below 1."""
    if threads is None:
        return available_cores()
    if threads < 1:
        raise UserError(f"threads = {threads}, must be at least 1; leave it out to use all cores")
    return threads


def check_batch(inputs: "Sized", manifest: "Manifest") -> None:
    """Raise UserError where ``inputs``, N faces, are not of the one batch size that the file can run."""
    if manifest.batch is not None and len(inputs) != manifest.batch:
        raise UserError(
            f"bundle '{manifest.name}': batch = {len(inputs)}, the file runs batch {manifest.batch} only;"
            " give it so many at a time"
        )
