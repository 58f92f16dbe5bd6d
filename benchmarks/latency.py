"""Latency of bundles over batch sizes and thread counts: what a sweep measures, gathered to records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.aligner import Face, check_box
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.device_state import device_state
from slimalign.runtimes.end_to_end import end_to_end_calls, opencv_threads_kept
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import SessionOpener
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Session, thread_count
from slimalign.runtimes.sweep import FACES, KERNEL, TIMED, Opened, Plan, Ready, Setting, Subjects, Visit
from slimalign.runtimes.sweep import sweep as visits_of
from slimalign.runtimes.timing import DRAFT, Protocol, Record
from slimalign.targets.address import LOCAL

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

Crops = Callable[[CropRule], Image]
"""Gives crops (N, S, S, 3) uint8 RGB, N >= 1, cut by a rule."""

Faces = Callable[[CropRule], Sequence[Face]]
"""Gives faces, at least one, in images that hold all that a rule's crops look at."""


def crops_of(samples: Sequence[Sample]) -> Crops:
    """The first faces of ``samples``, cut as each bundle wants them; once for all that want the same."""
    if not samples:
        raise UserError("no images to measure the latency on; is the split empty?")
    return cache(lambda rule: cut_crops(samples[:FACES], rule))


def faces_of(samples: Sequence[Sample]) -> Faces:
    """The first faces of ``samples``, each in the part of its image that the crop looks at.

    A whole image would be no more work, but more memory, and more to send to a device.
    """
    return cache(lambda rule: [_face(sample, rule) for sample in samples[:FACES]])


def _face(sample: Sample, rule: CropRule) -> Face:
    image = sample.load()
    check_box(sample.box, image.shape[1], image.shape[0])
    return Face(*rule.looked_at(image, sample.box))


def no_faces(_: CropRule) -> Sequence[Face]:
    """For a sweep that times the kernel alone."""
    return ()


def sweep(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    crops: Crops,
    protocol: Protocol = DRAFT,
    backend: Backend = DEFAULT_BACKEND,
    opener: SessionOpener = open_bundle,
    progress: Progress | None = None,
    timed: Sequence[str] = (KERNEL,),
    faces: Faces = no_faces,
) -> list[Record]:
    """Latency on this machine for every bundle, batch size and thread count (None: all cores).

    ``timed`` says of what, a record each: ``kernel`` of ``session.run`` alone, on ``crops``; ``end-to-end`` of all from
    ``faces`` to landmarks. It takes the place of the name in ``protocol``. ``progress`` is told the events done, an
    opening or a visit each, and their number. Raises UserError for a batch size that a file cannot run, and for output
    that is not finite.
    """
    counts = [thread_count(number) for number in threads]
    settings = settings_of(bundles, batches, counts, timed)

    def opened(setting: Setting) -> Any:
        return opener(bundles[setting.bundle], setting.threads, tuned(backend, setting.batch))

    def rule_of(setting: Setting) -> CropRule:
        return bundles[setting.bundle].manifest.crop_rule

    def end_to_end(session: Session, setting: Setting) -> Sequence[Callable[[], Floats]]:
        return end_to_end_calls(session, faces(rule_of(setting)), setting.batch)

    subjects = Subjects(settings, opened, lambda setting: crops(rule_of(setting)), end_to_end)
    gathered, before = Gathering(bundles, settings, protocol, progress), {}
    with opencv_threads_kept():
        for event in visits_of(subjects, plan_of(protocol)):
            if isinstance(event, Ready):
                before = device_state()
            else:
                gathered.add(event)
    return gathered.records(Machine(LOCAL, before), device_state())


def settings_of(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    timed: Sequence[str] = (KERNEL,),
) -> list[Setting]:
    """Every combination once; a GPU computes with no threads of the host's, so there one stands for all."""
    check_timed(timed)
    settings = [
        Setting(place, count, batch, timed=kind)
        for place, bundle in enumerate(bundles)
        for count in ((1,) if bundle.manifest.format == "tensorrt" else threads)
        for batch in batches
        for kind in timed
    ]
    if not settings or min(batches) < 1:
        raise UserError(
            f"batch sizes {list(batches)}: give bundles, thread counts and batch sizes of at least 1"
        )
    return list(dict.fromkeys(settings))


def check_timed(timed: Sequence[str]) -> None:
    """Raise UserError unless ``timed`` are some of TIMED."""
    unknown = [kind for kind in timed if kind not in TIMED]
    if unknown or not timed:
        raise UserError(
            f"--timed {','.join(timed)}: choose among {', '.join(TIMED)}, with a comma between them"
        )


def tuned(backend: Backend, batch: int) -> Backend:
    """``backend`` with engines for the one batch size that is measured."""
    return backend._replace(batches=(batch, batch, batch))


def plan_of(protocol: Protocol) -> Plan:
    """How long each setting is measured by ``protocol``."""
    return Plan(protocol.warm_up, protocol.settle, protocol.length, protocol.rounds)


@dataclass(frozen=True)
class Machine:
    """Where a sweep runs: its address, and its state before."""

    address: str
    before: Mapping[str, Any]


class Gathering:
    """The events of a sweep as they come in, and the records that they add up to."""

    def __init__(
        self,
        bundles: Sequence[Bundle],
        settings: Sequence[Setting],
        protocol: Protocol,
        progress: Progress | None = None,
    ):
        self._bundles, self._settings, self._protocol = bundles, settings, protocol
        self._progress = progress
        self._opened: dict[int, Opened] = {}
        self._samples_ms: dict[tuple[int, int], tuple[float, ...]] = {}

    def add(self, event: Opened | Visit) -> None:
        """Take one event; a setting that was opened again after a break keeps its first opening."""
        if isinstance(event, Opened):
            self._opened.setdefault(event.place, event)
        else:
            self._samples_ms[event.place, event.turn] = tuple(event.samples_ms)
        if self._progress is not None:
            done = len(self._opened) + len(self._samples_ms)
            self._progress(done, len(self._settings) * (self._protocol.rounds + 1))

    def records(self, machine: Machine, after: Mapping[str, Any]) -> list[Record]:
        """One for every setting, once all its visits are in."""
        return [self._record(place, machine, after) for place in range(len(self._settings))]

    def _record(self, place: int, machine: Machine, after: Mapping[str, Any]) -> Record:
        setting, opened = self._settings[place], self._opened[place]
        bundle = self._bundles[setting.bundle]
        visits = [self._samples_ms[place, turn] for turn in range(self._protocol.rounds)]
        return Record(
            bundle=bundle.manifest.name,
            sha256=bundle.sha256,
            runtime=opened.runtime,
            precision=bundle.manifest.precision,
            batch=setting.batch,
            threads=opened.threads,
            protocol=replace(self._protocol, name=setting.timed).key,
            target=machine.address,
            cpu=machine.before["cpu"],
            started=opened.started,
            init_ms=opened.init_ms,
            first_ms=opened.first_ms,
            samples_ms=tuple(chain.from_iterable(visits)),
            version=opened.version,
            before=machine.before,
            after=after,
            visits=tuple(map(len, visits)),
        ).with_intervals()
