"""Latency of bundles over batch sizes and thread counts: what a sweep measures, gathered to records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.gathering import Aside, Gathering, Progress, Swept
from slimalign.benchmarks.opening import open_bundle, used_by
from slimalign.benchmarks.unfinished import gone_on_with
from slimalign.benchmarks.weighing import memory_here
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.energy import find_rail
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import SessionOpener
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, thread_count
from slimalign.runtimes.sweep import FACES, Plan, Setting, Subjects
from slimalign.runtimes.sweep_entries import sweep_entries
from slimalign.runtimes.timing import DRAFT, SUSTAINED_MODE, Protocol, Record
from slimalign.targets.address import LOCAL
from slimalign.targets.agent_file import key_of

Image = NDArray[np.uint8]

Crops = Callable[[CropRule], Image]
"""Gives crops (N, S, S, 3) uint8 RGB, N >= 1, cut by a rule."""


def crops_of(samples: Sequence[Sample]) -> Crops:
    """The first faces of ``samples``, cut as each bundle wants them; once for all that want the same."""
    if not samples:
        raise UserError("no images to measure the latency on; is the split empty?")
    return cache(lambda rule: cut_crops(samples[:FACES], rule))


def sweep(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    crops: Crops,
    protocol: Protocol = DRAFT,
    backends: Sequence[Backend] = (DEFAULT_BACKEND,),
    opener: SessionOpener = open_bundle,
    progress: Progress | None = None,
) -> list[Record]:
    """Latency on this machine of ``session.run`` alone for every bundle, batch size, backend and thread count.

    Threads None stands for all cores. ``progress`` is told the steps done and their number. Raises UserError for a
    batch size that a file cannot run, and for output that is not finite.
    """
    swept = _swept(bundles, batches, threads, protocol, backends)
    gathered = Gathering(swept, Aside(), progress)
    for entry in sweep_entries(_subjects(swept, crops, opener), plan_of(protocol)):
        gathered.add(entry)
    return gathered.records()


def sweep_here(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    crops: Crops,
    protocol: Protocol,
    backends: Sequence[Backend],
    aside: Aside,
    beside: Path | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """What ``sweep`` measures, and memory and energy with it.

    With ``beside``, the results file, what was found before a break is not measured again by the same call.
    """
    swept = _swept(bundles, batches, threads, protocol, backends)

    def weigh(setting: Setting) -> Any:
        backend = tuned(backends[setting.backend], setting.batch)
        return memory_here(bundles[setting.bundle], setting.threads, setting.batch, backend)

    subjects = _subjects(swept, crops, open_bundle)._replace(weigh=weigh, rail=find_rail())
    entries_after = partial(sweep_entries, subjects, plan_of(protocol))
    path = None if beside is None else beside.with_name(f"{beside.name}.{_key(swept, crops)}.unfinished")
    gathered = Gathering(swept, aside, progress)
    with gone_on_with(path, lambda text: aside.note(f"{LOCAL}: {text}"), entries_after) as (kept, rest):
        gathered.take_up(kept)
        for entry in rest:
            gathered.add(entry)
        records = gathered.records()
        aside.keep(records)
    return records


def _swept(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    protocol: Protocol,
    backends: Sequence[Backend],
) -> Swept:
    counts = [thread_count(number) for number in threads]
    return Swept(bundles, backends, settings_of(bundles, batches, counts, backends), protocol, LOCAL)


def _subjects(swept: Swept, crops: Crops, opener: SessionOpener) -> Subjects:
    def opened(setting: Setting) -> Any:
        backend = tuned(swept.backends[setting.backend], setting.batch)
        return opener(swept.bundles[setting.bundle], setting.threads, backend)

    return Subjects(
        swept.settings, opened, lambda setting: crops(swept.bundles[setting.bundle].manifest.crop_rule)
    )


def _key(swept: Swept, crops: Crops) -> str:
    """By which a sweep is known again: all that decides what is measured."""
    rules = [bundle.manifest.crop_rule for bundle in swept.bundles]
    parts = [
        [bundle.sha256 for bundle in swept.bundles],
        [key_of(np.ascontiguousarray(crops(rule)).tobytes()) for rule in rules],
        swept.settings,
        swept.backends,
        swept.protocol.key,
        plan_of(swept.protocol),
    ]
    return key_of(json.dumps(parts).encode())


def settings_of(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    backends: Sequence[Backend] = (DEFAULT_BACKEND,),
) -> list[Setting]:
    """Every combination once; a GPU computes with no threads of the host's, so there one stands for all.

    Of the backends that a bundle's runtime cannot tell from one another the first stands for all.
    """
    settings = [
        Setting(place, count, batch, backend)
        for place, bundle in enumerate(bundles)
        for backend in _distinct(bundle, backends)
        for count in ((1,) if bundle.manifest.format == "tensorrt" else threads)
        for batch in batches
    ]
    if not settings or min(batches) < 1:
        raise UserError(
            f"batch sizes {list(batches)}: give bundles, thread counts and batch sizes of at least 1"
        )
    return list(dict.fromkeys(settings))


def _distinct(bundle: Bundle, backends: Sequence[Backend]) -> list[int]:
    first: dict[object, int] = {}
    for place, backend in enumerate(backends):
        first.setdefault(used_by(bundle.manifest.format, backend), place)
    return list(first.values())


def tuned(backend: Backend, batch: int) -> Backend:
    """``backend`` with engines for the one batch size that is measured."""
    return backend._replace(batches=(batch, batch, batch))


def plan_of(protocol: Protocol) -> Plan:
    """How long each setting is measured by ``protocol``."""
    interleaved = protocol.mode != SUSTAINED_MODE
    return Plan(protocol.warm_up, protocol.settle, protocol.length, protocol.rounds, interleaved)
