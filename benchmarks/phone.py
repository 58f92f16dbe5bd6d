"""Bundles on an Android phone, run by LiteRT's benchmark_model: there is no Python for the agent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.aligner import Landmarks
from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.bundle import Bundle, Manifest
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.timing import Protocol
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.android_state import android_state
from slimalign.targets.benchmark_model import DELEGATES, BenchmarkModel, Settings
from slimalign.targets.shell import Shell

Image = NDArray[np.uint8]
PROTOCOL = "benchmark_model-1"
ONCE = Span(1, 0.0)


@dataclass(frozen=True)
class Phone:
    """A phone, the benchmark_model ``program`` for it, and the delegate that files run in there."""

    shell: Shell
    program: Path
    delegate: str

    def __post_init__(self) -> None:
        if self.delegate not in DELEGATES:
            raise UserError(
                f"delegate {self.delegate}: benchmark_model has {', '.join(DELEGATES)}; choose one of them"
            )

    @property
    def runtime(self) -> str:
        """The runtime's name in records, as LiteRtSession has it."""
        return "litert" if self.delegate == "xnnpack" else f"litert-{self.delegate}"

    def check_runs(self, bundle: Bundle) -> None:
        """Raise UserError for a bundle that benchmark_model cannot run."""
        if bundle.manifest.format != "litert":
            raise UserError(
                f"{bundle.folder}: format = '{bundle.manifest.format}', benchmark_model runs LiteRT files; export it as"
                " one of litert, litert-int8 ..."
            )

    def latencies(
        self, bundles: Sequence[Bundle], batches: Sequence[int], threads: Sequence[int], protocol: Protocol
    ) -> Iterator[ToldLatency]:
        """What benchmark_model tells of every bundle, batch size and thread count, each as soon as it is there.

        It warms up and measures as long as ``protocol`` says, on random input.
        """
        for bundle in bundles:
            self.check_runs(bundle)
            for batch in batches:
                _input_shape(bundle.manifest, batch)
        for bundle in bundles:
            for batch in batches:
                for count in threads:
                    yield self._latency(bundle, batch, count, protocol)

    def _latency(self, bundle: Bundle, batch: int, threads: int, protocol: Protocol) -> ToldLatency:
        manifest = bundle.manifest
        settings = Settings(
            threads, self.delegate, protocol.warm_up, protocol.length, _input_shape(manifest, batch)
        )
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        before = android_state(self.shell)
        program = BenchmarkModel(self.shell, self.program)
        found = program.measure(bundle.model_path, settings)
        return ToldLatency(
            bundle=manifest.name,
            sha256=bundle.sha256,
            runtime=self.runtime,
            precision=manifest.precision,
            batch=batch,
            threads=threads,
            protocol=f"{PROTOCOL}-{protocol.mode}",
            target=self.shell.address,
            cpu=before["cpu"],
            started=started,
            init_ms=found.init_ms,
            first_ms=found.first_ms,
            count=found.count,
            mean_ms=found.mean_ms,
            min_ms=found.min_ms,
            max_ms=found.max_ms,
            std_ms=found.std_ms,
            p50_ms=found.median_ms,
            p95_ms=found.p95_ms,
            version=program.version,
            before=before,
            after=android_state(self.shell),
        )


def _input_shape(manifest: Manifest, batch: int) -> tuple[int, ...]:
    if manifest.batch not in (None, batch):
        raise UserError(
            f"bundle '{manifest.name}': batch = {batch}, the file runs batch {manifest.batch} only; give that"
        )
    size = manifest.input_size
    return (batch, size, size, 3) if manifest.layout == "NHWC" else (batch, 3, size, size)


class PhoneFinder:
    """Finds the landmarks of crops with ``bundle`` on ``phone``: crops go there, raw outputs come back."""

    faces_at_once = 16
    """Each is a file there and a run of the program."""

    def __init__(self, phone: Phone, bundle: Bundle, session: LiteRtSession):
        self.manifest = bundle.manifest
        self.rule = bundle.manifest.crop_rule
        self.landmarks = bundle.manifest.landmark_scheme.count
        self.runtime = phone.runtime
        self._model = bundle.model_path
        self._program = BenchmarkModel(phone.shell, phone.program)
        self._settings = Settings(1, phone.delegate, ONCE, ONCE)
        self._session = session  # knows the file's numbers

    def align_crops(self, crops: Image) -> Landmarks:
        """Landmarks of ``crops`` (N, S, S, 3) uint8 RGB that were cut by ``rule``, in pixels of the crop."""
        inputs = self._session.as_stored(network_inputs(crops, self.manifest))
        answers = [
            self._session.from_stored(raw)
            for raw in self._program.outputs(self._model, inputs, self._settings)
        ]
        points, scores = points_and_scores(np.concatenate(answers), self.manifest, self.landmarks)
        return Landmarks(points.astype(np.float64), scores.astype(np.float64))
