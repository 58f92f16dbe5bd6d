"""Latency of bundles over batch sizes and thread counts: what a sweep measures, gathered to records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.gathering import Aside, Gathering, Progress, Swept
from slimalign.benchmarks.memory_here import memory_here
from slimalign.benchmarks.opening import open_bundle, used_by
from slimalign.benchmarks.unfinished import gone_on_with
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.aligner import Face, check_box
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.end_to_end import end_to_end_calls, opencv_threads_kept
from slimalign.runtimes.energy import find_rail
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import SessionOpener
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Session, thread_count
from slimalign.runtimes.sweep import FACES, KERNEL, TIMED, Plan, Setting, Subjects
from slimalign.runtimes.sweep_entries import sweep_entries
from slimalign.runtimes.timing import DRAFT, SUSTAINED_MODE, Protocol, Record
from slimalign.targets.address import LOCAL
from slimalign.targets.agent_file import key_of

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

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


@dataclass(frozen=True)
class Wanted:
    """What a sweep measures: every combination of ``bundles``, ``batches`` and ``threads`` (None: all cores).

    ``timed`` says of what, a record each: ``kernel`` of ``session.run`` alone, on ``crops``; ``end-to-end`` of all from
    ``faces`` to landmarks. It takes the place of the name in ``protocol``. ``memory`` says whether the memory that each
    bundle takes is measured too, by a process of its own.
    """

    bundles: Sequence[Bundle]
    batches: Sequence[int]
    threads: Sequence[int | None]
    crops: Crops
    protocol: Protocol = DRAFT
    timed: Sequence[str] = (KERNEL,)
    faces: Faces = no_faces
    memory: bool = True

    @property
    def measures_memory(self) -> bool:
        """End to end it is not measured: images, crops and OpenCV would be part of it."""
        return self.memory and KERNEL in self.timed


def sweep(
    wanted: Wanted,
    backends: Sequence[Backend] = (DEFAULT_BACKEND,),
    opener: SessionOpener = open_bundle,
    progress: Progress | None = None,
) -> list[Record]:
    """Latency on this machine of all that is ``wanted``, with each of ``backends``.

    ``progress`` is told the steps done and their number. Raises UserError for a batch size that a file cannot run, and
    for output that is not finite.
    """
    swept = _swept(wanted, backends)
    gathered = Gathering(swept, Aside(), progress)
    with opencv_threads_kept():
        for entry in sweep_entries(_subjects(swept, wanted, opener), plan_of(wanted.protocol)):
            gathered.add(entry)
    return gathered.records()


def sweep_here(
    wanted: Wanted,
    backends: Sequence[Backend],
    aside: Aside,
    beside: Path | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """What ``sweep`` measures, and memory, where that is wanted, and energy with it.

    With ``beside``, the results file, what was found before a break is not measured again by the same call.
    """
    swept = _swept(wanted, backends)

    def memory_of(setting: Setting) -> Any:
        backend = tuned(backends[setting.backend], setting.batch)
        return memory_here(wanted.bundles[setting.bundle], setting.threads, setting.batch, backend)

    subjects = _subjects(swept, wanted, open_bundle)._replace(rail=find_rail())
    if wanted.measures_memory:
        subjects = subjects._replace(memory_of=memory_of)
    entries_after = partial(sweep_entries, subjects, plan_of(wanted.protocol))
    path = None if beside is None else beside.with_name(f"{beside.name}.{_key(swept, wanted)}.unfinished")
    gathered = Gathering(swept, aside, progress)
    note = partial(_noted, aside)
    with opencv_threads_kept(), gone_on_with(path, note, entries_after) as (kept, rest):
        gathered.take_up(kept)
        for entry in rest:
            gathered.add(entry)
        records = gathered.records()
        aside.keep(records)
    return records


def _noted(aside: Aside, text: str) -> None:
    aside.note(f"{LOCAL}: {text}")


def _swept(wanted: Wanted, backends: Sequence[Backend]) -> Swept:
    counts = [thread_count(number) for number in wanted.threads]
    return Swept(wanted.bundles, backends, settings_of(wanted, counts, backends), wanted.protocol, LOCAL)


def _subjects(swept: Swept, wanted: Wanted, opener: SessionOpener) -> Subjects:
    def rule_of(setting: Setting) -> CropRule:
        return swept.bundles[setting.bundle].manifest.crop_rule

    def opened(setting: Setting) -> Any:
        backend = tuned(swept.backends[setting.backend], setting.batch)
        return opener(swept.bundles[setting.bundle], setting.threads, backend)

    def end_to_end(session: Session, setting: Setting) -> Sequence[Callable[[], Floats]]:
        return end_to_end_calls(session, wanted.faces(rule_of(setting)), setting.batch)

    return Subjects(swept.settings, opened, lambda setting: wanted.crops(rule_of(setting)), end_to_end)


def _key(swept: Swept, wanted: Wanted) -> str:
    """By which a sweep is known again: all that decides what is measured."""
    rules = [bundle.manifest.crop_rule for bundle in swept.bundles]
    parts = [
        [bundle.sha256 for bundle in swept.bundles],
        [key_of(np.ascontiguousarray(wanted.crops(rule)).tobytes()) for rule in rules],
        swept.settings,
        swept.backends,
        swept.protocol.key,
        plan_of(swept.protocol),
        wanted.measures_memory,
    ]
    return key_of(json.dumps(parts).encode())


def settings_of(wanted: Wanted, threads: Sequence[int], backends: Sequence[Backend]) -> list[Setting]:
    """Every combination once, with the thread counts ``threads``; a GPU computes with no threads of the host's, so
    there one stands for all.

    Of the backends that a bundle's runtime cannot tell from one another the first stands for all.
    """
    check_timed(wanted.timed)
    check_batches(wanted.bundles, wanted.batches)
    settings = [
        Setting(place, count, batch, backend, kind)
        for place, bundle in enumerate(wanted.bundles)
        for backend in _distinct(bundle, backends)
        for count in ((1,) if bundle.manifest.format == "tensorrt" else threads)
        for batch in wanted.batches
        for kind in wanted.timed
    ]
    if not settings or min(wanted.batches) < 1:
        raise UserError(
            f"batch sizes {list(wanted.batches)}: give bundles, thread counts and batch sizes of at least 1"
        )
    return list(dict.fromkeys(settings))


def _distinct(bundle: Bundle, backends: Sequence[Backend]) -> list[int]:
    first: dict[object, int] = {}
    for place, backend in enumerate(backends):
        first.setdefault(used_by(bundle.manifest.format, backend), place)
    return list(first.values())


def check_timed(timed: Sequence[str]) -> None:
    """Raise UserError unless ``timed`` are some of TIMED."""
    unknown = [kind for kind in timed if kind not in TIMED]
    if unknown or not timed:
        raise UserError(
            f"--timed {','.join(timed)}: choose among {', '.join(TIMED)}, with a comma between them"
        )


def check_batches(bundles: Sequence[Bundle], batches: Sequence[int]) -> None:
    """Raise UserError that names all of ``bundles`` whose files run one batch size alone, where ``batches`` has others.

    Before the sweep, which comes to them after others.
    """
    fixed = {bundle.manifest.name: bundle.manifest.batch for bundle in bundles if bundle.manifest.batch}
    refused = {name: size for name, size in fixed.items() if set(batches) != {size}}
    if refused:
        told = ", ".join(f"'{name}' runs batch {size} only" for name, size in refused.items())
        sizes = " or ".join(str(size) for size in sorted(set(refused.values())))
        raise UserError(
            f"--batch {','.join(map(str, batches))}: {told}; measure such bundles by a call of their own, with --batch"
            f" {sizes}"
        )


def tuned(backend: Backend, batch: int) -> Backend:
    """``backend`` with engines for the one batch size that is measured."""
    return backend._replace(batches=(batch, batch, batch))


def plan_of(protocol: Protocol) -> Plan:
    """How long each setting is measured by ``protocol``."""
    interleaved = protocol.mode != SUSTAINED_MODE
    return Plan(protocol.warm_up, protocol.settle, protocol.length, protocol.rounds, interleaved)
