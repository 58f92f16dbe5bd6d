"""The entries of a sweep as they come in, here or from a device, and the records that they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.journal import KEPT
from slimalign.runtimes.session import Backend
from slimalign.runtimes.sweep import KERNEL, MeasuredEnergy, MeasuredMemory, Opened, Setting, Visit
from slimalign.runtimes.sweep_entries import EVENTS, event_of
from slimalign.runtimes.timing import SUSTAINED_MODE, Energy, Memory, Protocol, Record

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

GPU_PROVIDERS = ("cuda", "tensorrt", "nvtensorrtrtx", "rocm", "migraphx", "dml", "webgpu")
"""Those of ONNX Runtime to whose memory a call takes data, and from there."""
GPU_DELEGATE = "gpu"
FREE_CORES = 0.5
"""What may run beside a measurement, in cores, that no core is left for."""


def kept_nowhere(records: Sequence[Record]) -> None:
    """Whoever called has them."""


@dataclass(frozen=True)
class Aside:
    """What goes along with a sweep.

    ``inputs`` says in records what faces were run. ``note`` is told what the user had better know, a line each.
    ``keep`` puts the records into a safe place: only then what a break would have left of the sweep is cleared away.
    """

    inputs: str = UNKNOWN
    note: Callable[[str], None] = lambda text: None
    keep: Callable[[Sequence[Record]], None] = kept_nowhere


@dataclass(frozen=True)
class Swept:
    """What is swept, and on which machine; see slimalign.runtimes.sweep."""

    bundles: Sequence[Bundle]
    backends: Sequence[Backend]
    settings: Sequence[Setting]
    protocol: Protocol
    address: str


class Gathering:
    """Takes the entries of a sweep, first those that were kept of one that was broken off; ``progress`` is told the
    steps done and their number.
    """

    def __init__(self, swept: Swept, aside: Aside, progress: Progress | None = None):
        self._swept, self._aside, self._progress = swept, aside, progress
        self._told: dict[str, Mapping[str, Any]] = {}
        self._opened: dict[int, Opened] = {}
        self._visits: dict[tuple[int, int], Visit] = {}
        self._memory: dict[tuple[int, int, int], MeasuredMemory] = {}
        self._energy: dict[int, MeasuredEnergy] = {}
        self._openings: defaultdict[int, list[str]] = defaultdict(list)
        self._taken = self._kept = 0
        self._available_mb: float | None = None

    def take_up(self, kept: Sequence[Mapping[str, Any]]) -> None:
        """Take what an earlier sweep has kept, as one step: the time that is left does not hang on it."""
        self._kept = len(kept)
        for entry in kept:
            self._add(entry)
        if kept:
            self._tell_progress()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take one entry, see slimalign.runtimes.sweep_entries; one of kind KEPT says how many of all are old ones."""
        if entry["kind"] == KEPT:
            self._kept = entry["number"]
            return
        self._add(entry)
        if entry["kind"] in EVENTS:
            self._tell_progress()

    def _add(self, entry: Mapping[str, Any]) -> None:
        kind = entry["kind"]
        self._taken += 1
        if kind in EVENTS:
            self._add_event(event_of(dict(entry)))
        else:
            self._told.setdefault(kind, entry)  # of the first beginning, where it was broken off
            if kind == "before" and self._taken > self._kept:
                self._warn_of_load(entry)
                told = entry["state"].get("memory_mb", UNKNOWN)
                self._available_mb = None if told == UNKNOWN else told["available"]
                self._warn_of_memory()

    def _tell_progress(self) -> None:
        if self._progress is not None:
            done = len(self._opened) + len(self._visits) + len(self._memory) + len(self._energy)
            self._progress(done, self._told["before"]["steps"])

    def _add_event(self, event: Any) -> None:
        if isinstance(event, Visit):
            self._visits[event.place, event.turn] = event
        elif isinstance(event, MeasuredEnergy):
            self._energy[event.place] = event
        elif isinstance(event, MeasuredMemory):
            self._memory[event.bundle, event.batch, event.backend] = event
            self._warn_of_memory()
            if event.why:
                name = self._swept.bundles[event.bundle].manifest.name
                self._aside.note(
                    f"{self._swept.address}: the memory of '{name}' at batch {event.batch} is not known: {event.why}"
                )
        else:
            self._add_opening(event)

    def _add_opening(self, event: Opened) -> None:
        """A setting that is visited in turns and was opened again after a break keeps its first opening."""
        if self._swept.protocol.mode == SUSTAINED_MODE:
            self._opened[event.place] = event
            self._visits = {key: visit for key, visit in self._visits.items() if key[0] != event.place}
            self._openings[event.place] = [event.started]
        else:
            self._opened.setdefault(event.place, event)
            self._openings[event.place].append(event.started)

    def _warn_of_load(self, before: Mapping[str, Any]) -> None:
        load, cores = before["load"], before["cores"]
        used = max(setting.threads or cores for setting in self._swept.settings)
        if load is not None and load + used > cores + FREE_CORES:
            self._aside.note(
                f"{self._swept.address}: it was busy before the start: a load of {load:.1f} on {cores} cores, of which"
                f" {used} are measured with; for steady figures end what else runs there"
            )

    def _warn_of_memory(self) -> None:
        """Once all of it is known: sessions that are visited in turns are open at once."""
        found = [self._memory.get(setting.cell) for setting in self._swept.settings]
        if self._swept.protocol.mode == SUSTAINED_MODE or self._available_mb is None or None in found:
            return
        needed = sum(
            one.peak_mb - one.libraries_mb
            for one in found
            if one is not None and one.peak_mb is not None and one.libraries_mb is not None
        )
        if needed > self._available_mb:
            self._aside.note(
                f"{self._swept.address}: its {len(found)} settings take about {needed:.0f} MB at once, of which"
                f" {self._available_mb:.0f} are free; measure fewer bundles or batch sizes at once"
            )

    def records(self) -> list[Record]:
        """One for every setting, once all is in."""
        return [self._record(place) for place in range(len(self._swept.settings))]

    def _record(self, place: int) -> Record:
        swept = self._swept
        setting, opened = swept.settings[place], self._opened[place]
        bundle, backend = swept.bundles[setting.bundle], swept.backends[setting.backend]
        visits = [self._visits[place, turn] for turn in range(swept.protocol.rounds)]
        before = self._told["before"]["state"]
        return Record(
            bundle=bundle.manifest.name,
            sha256=bundle.sha256,
            runtime=opened.runtime,
            precision=bundle.manifest.precision,
            batch=setting.batch,
            threads=opened.threads,
            protocol=replace(swept.protocol, name=setting.timed).key,
            target=swept.address,
            cpu=before["cpu"],
            started=opened.started,
            init_ms=opened.init_ms,
            first_ms=opened.first_ms,
            samples_ms=tuple(chain.from_iterable(visit.samples_ms for visit in visits)),
            version=opened.version,
            before=before,
            after=self._told["after"]["state"],
            visits=tuple(len(visit.samples_ms) for visit in visits),
            inputs=self._aside.inputs,
            transfers=takes_data_there(bundle, backend),
            graph=bundle.manifest.format == "tensorrt" and backend.cuda_graph,
            memory=self._memory_of(setting),
            energy=self._energy_of(place),
            visit_states=tuple(visit.state for visit in visits if visit.state is not None),
            openings=tuple(self._openings[place]),
        ).with_intervals()

    def _memory_of(self, setting: Setting) -> Memory | None:
        """End to end there are images and crops beside it, which nobody has measured."""
        found = self._memory.get(setting.cell) if setting.timed == KERNEL else None
        if found is None or found.peak_mb is None or found.libraries_mb is None:
            return None
        return Memory(found.peak_mb, found.libraries_mb)

    def _energy_of(self, place: int) -> Energy | None:
        found = self._energy.get(place)
        return None if found is None else Energy(found.rail, found.idle_w, found.total_w, found.call_mj)


def takes_data_there(bundle: Bundle, backend: Backend) -> bool:
    """Whether a call takes its inputs to a GPU and the answer back: all our sessions do that run on one."""
    kind = bundle.manifest.format
    return (
        kind == "tensorrt"
        or (kind == "onnx" and backend.provider.lower() in GPU_PROVIDERS)
        or (kind == "litert" and backend.delegate == GPU_DELEGATE)
    )
