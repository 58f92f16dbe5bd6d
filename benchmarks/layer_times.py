"""How long a runtime takes for each of its own operators, by its own profiler."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.opening import open_bundle
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession

Float32 = NDArray[np.float32]
Floats = NDArray[np.float64]

WARM_UP, RUNS = 10, 100
KERNEL = "_kernel_time"
"""How ONNX Runtime ends the name of an operator that ran."""
CALL = "model_run"
"""What it calls a call, which begins before its operators."""


@dataclass(frozen=True)
class NodeTime:
    """The median time of what the runtime calls ``name`` and ``kind``."""

    name: str
    kind: str
    ms: float


@dataclass(frozen=True)
class LayerTimes:
    """What a profiler tells of ``runs`` calls; ``p50_ms`` is the median of as many with the profiler off."""

    runtime: str
    version: str
    threads: int
    runs: int
    p50_ms: float
    nodes: tuple[NodeTime, ...]


def layer_times(bundle: Bundle, inputs: Float32, threads: int | None = 1) -> LayerTimes:
    """Run ``bundle`` on ``inputs`` in turns with its profiler off and on, so that a drifting machine is fair to both.

    Raises UserError for a runtime that has no profiler, or none that can be read from Python.
    """
    timer = _TIMERS.get(bundle.manifest.format)
    if timer is None:
        raise UserError(f"{bundle.folder}: {_WITHOUT[bundle.manifest.format]}")
    with open_bundle(bundle, threads) as session:
        samples_ms: list[float] = []

        def run() -> None:
            start = perf_counter()
            session.run(inputs)
            samples_ms.append(1000 * (perf_counter() - start))

        nodes = tuple(timer(bundle, inputs, threads, run))
        p50_ms = float(np.median(samples_ms[WARM_UP:]))
        return LayerTimes(session.runtime, session.version, session.threads, RUNS, p50_ms, nodes)


def _onnxruntime(
    bundle: Bundle, inputs: Float32, threads: int | None, between: Callable[[], None]
) -> Iterator[NodeTime]:
    with TemporaryDirectory() as folder:
        with OnnxRuntimeSession(bundle, threads, trace=str(Path(folder) / "trace")) as session:
            for _ in range(WARM_UP + RUNS):
                between()
                session.run(inputs)
            path = session.end_trace()
        events = json.loads(Path(path).read_text(encoding="utf-8"))
    return nodes_in(events)


def nodes_in(events: Sequence[Mapping[str, Any]]) -> Iterator[NodeTime]:
    """The operators in ONNX Runtime's trace of ``WARM_UP`` and ``RUNS`` calls, in the order in which they first ran.

    What ran several times in a call, or shares its name and kind with another, has the time of all that.
    """
    starts = [event["ts"] for event in events if event["name"] == CALL]
    durations: dict[tuple[str, str], Floats] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            key = event["name"].removesuffix(KERNEL), event["args"]["op_name"]
            calls = durations.setdefault(key, np.zeros(len(starts)))
            calls[bisect(starts, event["ts"]) - 1] += event["dur"] / 1000
    for (name, kind), found in durations.items():
        yield NodeTime(name, kind, float(np.median(found[WARM_UP:])))


def _pytorch(
    bundle: Bundle, inputs: Float32, threads: int | None, between: Callable[[], None]
) -> Iterator[NodeTime]:
    from slimalign.compress.torch_session import TorchSession

    durations: dict[str, list[float]] = {}
    with TorchSession(bundle, threads) as session:
        leaves = {
            name: module for name, module in session.network.named_modules() if not [*module.children()]
        }
        with _told(leaves, durations):
            for _ in range(WARM_UP + RUNS):
                between()
                session.run(inputs)
    for name, found in durations.items():
        # One module may run more than once in a call.
        calls = np.reshape(found, (WARM_UP + RUNS, -1)).sum(axis=1)
        yield NodeTime(name, type(leaves[name]).__name__, float(np.median(calls[WARM_UP:])))


@contextmanager
def _told(modules: Mapping[str, Any], durations: dict[str, list[float]]) -> Iterator[None]:
    """While this lasts, the milliseconds of each run of each of ``modules`` are added to ``durations``."""
    started: dict[str, float] = {}

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: started.update({name: perf_counter()})

    def leave(name: str) -> Callable[..., None]:
        return lambda *_: durations.setdefault(name, []).append(1000 * (perf_counter() - started[name]))

    handles = []
    for name, module in modules.items():
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_Timer = Callable[[Bundle, Float32, int | None, Callable[[], None]], Iterator[NodeTime]]

_TIMERS: Mapping[str, _Timer] = {
    "onnx": _onnxruntime,
    "torch": _pytorch,
}
_WITHOUT = {
    "litert": "LiteRT's Python interpreter tells no times of operators; run LiteRT's benchmark_model on the device with"
    " --enable_op_profiling=true, or time the network's ONNX bundle",
    "tensorrt": "the times of TensorRT's layers are not read; run trtexec with --dumpProfile on the device, or time the"
    " network's ONNX bundle",
}
