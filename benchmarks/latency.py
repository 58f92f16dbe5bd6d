"""Latency of bundles over batch sizes and thread counts, in turns, so that a drifting machine is fair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.session import Float32, Session, thread_count
from slimalign.runtimes.timing import (
    DRAFT,
    Protocol,
    Record,
    cpu_governor,
    cpu_model,
    time_calls,
    time_once_ms,
)

Image = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

Opener = Callable[[int], Session]
"""Opens one bundle in one runtime with a number of threads."""

Crops = Callable[[CropRule], Image]
"""Gives crops (N, S, S, 3) uint8 RGB, N >= 1, cut by a rule."""

FACES = 32
"""Faces that take turns as input, at most: real input varies, and memory is bounded."""


def crops_of(samples: Sequence[Sample]) -> Crops:
    """The first faces of ``samples``, cut as each bundle wants them."""
    if not samples:
        raise UserError("no images to measure the latency on; is the split empty?")
    return lambda rule: cut_crops(samples[:FACES], rule)


def sweep(
    openers: Sequence[Opener],
    batches: Sequence[int],
    threads: Sequence[int | None],
    crops: Crops,
    protocol: Protocol = DRAFT,
    target: str = "local",
    progress: Progress | None = None,
) -> list[Record]:
    """Latency of ``session.run`` alone for every opener, batch size and thread count (None: all cores).

    Every combination has a session of its own, so that ``init_ms`` and ``first_ms`` belong to it. Each round
    visits every combination once for a share of its samples. ``progress`` is told the visits done and
    their number. Raises UserError for a batch size that a file cannot run, and for output that is not finite.
    """
    counts = list(dict.fromkeys(thread_count(number) for number in threads))
    combinations = [(opener, count, batch) for opener in openers for count in counts for batch in batches]
    if not combinations or min(batches) < 1:
        raise UserError(
            f"batch sizes {list(batches)}: give bundles, thread counts and batch sizes of at least 1"
        )
    inputs = _Inputs(crops, max(batches))
    for opener in openers:
        with opener(counts[0]):
            pass  # the first to open pays for the import of its library, which is no part of ``init_ms``
    with ExitStack() as stack:
        subjects: list[_Subject] = []
        visits = len(combinations) * (protocol.rounds + 1)
        for opener, count, batch in combinations:
            subjects.append(_open(stack, opener, count, batch, inputs))
            _tell(progress, len(subjects), visits)
        for turn in range(protocol.rounds):
            for place, subject in enumerate(subjects, start=1):
                _visit(subject, protocol, first=turn == 0)
                _tell(progress, (turn + 1) * len(subjects) + place, visits)
        return [_record(subject, protocol, target) for subject in subjects]


@dataclass
class _Subject:
    """One combination under measurement; its samples grow with each visit."""

    session: Session
    batch: int
    started: str
    init_ms: float
    first_ms: float
    call: Callable[[], object]
    samples_ms: list[float] = field(default_factory=list)


class _Inputs:
    """Normalised faces, made once for all the bundles that take the same."""

    def __init__(self, crops: Crops, largest_batch: int):
        self._crops = crops
        self._largest_batch = largest_batch
        self._made: dict[tuple[object, ...], Float32] = {}

    def batches(self, manifest: Manifest, batch: int) -> list[Float32]:
        """Different batches of one size; faces are repeated where there are fewer than the largest batch."""
        key = (manifest.crop_rule, manifest.layout, manifest.mean, manifest.std)
        if key not in self._made:
            crops = self._crops(manifest.crop_rule)
            faces = np.arange(max(min(len(crops), FACES), self._largest_batch)) % len(crops)
            self._made[key] = network_inputs(crops[faces], manifest)
        inputs = self._made[key]
        return [inputs[start : start + batch] for start in range(0, len(inputs) - batch + 1, batch)]


def _open(stack: ExitStack, opener: Opener, threads: int, batch: int, inputs: _Inputs) -> _Subject:
    opened: list[Session] = []
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    init_ms = time_once_ms(lambda: opened.append(stack.enter_context(opener(threads))))
    session = opened[0]
    batches = inputs.batches(session.manifest, batch)
    outputs: list[Float32] = []
    first_ms = time_once_ms(lambda: outputs.append(session.run(batches[0])))
    if not np.isfinite(outputs[0]).all():
        raise UserError(
            f"bundle '{session.manifest.name}' in {session.runtime}: its heatmaps hold NaN or infinite"
            " values; export it again"
        )
    turns = cycle(batches)
    return _Subject(session, batch, started, init_ms, first_ms, lambda: session.run(next(turns)))


def _visit(subject: _Subject, protocol: Protocol, first: bool) -> None:
    warm_up = protocol.warm_up if first else protocol.settle
    timing = time_calls(subject.call, warm_up, protocol.length.share(protocol.rounds))
    subject.samples_ms.extend(timing.samples_ms)


def _record(subject: _Subject, protocol: Protocol, target: str) -> Record:
    manifest = subject.session.manifest
    return Record(
        bundle=manifest.name,
        sha256=manifest.sha256,
        runtime=subject.session.runtime,
        precision=manifest.precision,
        batch=subject.batch,
        threads=subject.session.threads,
        protocol=protocol.key,
        target=target,
        cpu=cpu_model(),
        governor=cpu_governor(),
        started=subject.started,
        init_ms=subject.init_ms,
        first_ms=subject.first_ms,
        samples_ms=tuple(subject.samples_ms),
    )


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
