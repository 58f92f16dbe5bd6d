"""Records from a sweep's entries, told one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import onnx_bundle

from slimalign.benchmarks.gathering import Aside, Gathering, Swept, takes_data_there
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.journal import KEPT
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.sweep import END_TO_END, Setting
from slimalign.runtimes.timing import DRAFT, Energy, Memory, Record, sustained

STATE = {"cpu": "a board", "time": "2026-01-01T00:00:00Z"}


def opened(place: int, started: str = "first") -> dict[str, Any]:
    figures = {"threads": 1, "init_ms": 3.0, "first_ms": 2.0}
    return {"kind": "opened", "place": place, "started": started, "runtime": "r", "version": "r 1", **figures}


def visit(place: int, turn: int, *samples_ms: float, state: object = None) -> dict[str, Any]:
    return {"kind": "visit", "place": place, "turn": turn, "samples_ms": list(samples_ms), "state": state}


def before(load: float | None = None, cores: int = 4) -> dict[str, Any]:
    return {"kind": "before", "state": STATE, "conditions": {}, "steps": 9, "load": load, "cores": cores}


AFTER = {"kind": "after", "state": STATE}
MEMORY = {"kind": "memory", "bundle": 0, "batch": 1, "backend": 0}
ENERGY = {"kind": "energy", "place": 1, "rail": "VDD_IN", "idle_w": 2.0, "total_w": 5.0, "call_mj": 40.0}


@pytest.fixture
def swept(tmp_path: Path) -> Swept:
    settings = [Setting(0, 1, 1), Setting(0, 2, 1)]
    return Swept([onnx_bundle(tmp_path)], [DEFAULT_BACKEND], settings, replace(DRAFT, rounds=2), "ssh://pi")


def gathered(swept: Swept, *entries: dict[str, Any], aside: Aside | None = None) -> list[Record]:
    found = Gathering(swept, aside or Aside())
    for entry in entries:
        found.add(entry)
    return found.records()


def whole() -> Iterator[dict[str, Any]]:
    yield from (before(), opened(0), opened(1))
    yield from (visit(place, turn, 1.0 + place, 2.0) for turn in (0, 1) for place in (0, 1))


def test_every_entry_lands_in_its_record(swept: Swept) -> None:
    memory = {**MEMORY, "peak_mb": 90.0, "libraries_mb": 60.0, "why": ""}
    aside = Aside(inputs="300w val, 32 faces, 0a1b")
    first, second = gathered(swept, *whole(), memory, ENERGY, AFTER, aside=aside)
    assert (first.samples_ms, second.samples_ms) == ((1.0, 2.0, 1.0, 2.0), (2.0, 2.0, 2.0, 2.0))
    assert first.visits == second.visits == (2, 2)
    assert first.memory == second.memory == Memory(90.0, 60.0)
    assert (first.energy, second.energy) == (None, Energy("VDD_IN", 2.0, 5.0, 40.0))
    assert (first.target, first.cpu, first.inputs) == ("ssh://pi", "a board", aside.inputs)
    assert second.intervals["p50_ms"] == (2.0, 2.0)


def test_memory_that_is_not_known_is_none_and_told(swept: Swept) -> None:
    notes: list[str] = []
    memory = {**MEMORY, "peak_mb": None, "libraries_mb": None, "why": "ended by signal 9"}
    first, _ = gathered(swept, *whole(), memory, AFTER, aside=Aside(note=notes.append))
    assert first.memory is None
    assert notes == ["ssh://pi: the memory of 'cells' at batch 1 is not known: ended by signal 9"]


@pytest.mark.parametrize(
    ("load", "cores", "warned"),
    [(None, 2, False), (0.4, 2, False), (0.6, 2, True), (2.4, 4, False), (2.6, 4, True), (9.0, 4, True)],
)
def test_a_machine_without_cores_to_spare_is_told(
    swept: Swept, load: float | None, cores: int, warned: bool
) -> None:
    """Two cores are measured with."""
    notes: list[str] = []
    found = Gathering(swept, Aside(note=notes.append))
    found.add(before(load, cores))
    assert [f"ssh://pi: it was busy before the start: a load of {load} on" in note for note in notes] == (
        [True] * warned
    )


@pytest.mark.parametrize("on_a_device", [False, True])
def test_after_a_break_the_load_of_now_is_told(swept: Swept, on_a_device: bool) -> None:
    notes: list[str] = []
    found, kept = Gathering(swept, Aside(note=notes.append)), [before(9.0, 2), opened(0)]
    if on_a_device:
        found.add({"kind": KEPT, "number": len(kept)})
        for entry in kept:
            found.add(entry)
    else:
        found.take_up(kept)
    assert notes == []
    found.add(before(7.0, 2))
    assert ["a load of 7.0 on" in note for note in notes] == [True]


def test_every_opening_is_kept(swept: Swept) -> None:
    first, second = gathered(swept, *whole(), opened(0, "again"), AFTER)
    assert (first.openings, second.openings) == (("first", "again"), ("first",))


def test_end_to_end_has_no_memory(swept: Swept) -> None:
    """What was measured is the network's alone."""
    kernel, faces = swept.settings[0], swept.settings[1]._replace(timed=END_TO_END)
    memory = {**MEMORY, "peak_mb": 90.0, "libraries_mb": 60.0, "why": ""}
    first, second = gathered(replace(swept, settings=[kernel, faces]), *whole(), memory, AFTER)
    assert (first.memory, second.memory) == (Memory(90.0, 60.0), None)


@pytest.mark.parametrize(("available", "warned"), [(59.0, True), (60.0, False)])
@pytest.mark.parametrize("goes_on", [False, True])
def test_too_little_memory_for_all_settings_is_told(
    swept: Swept, available: float, warned: bool, goes_on: bool
) -> None:
    """Both settings take 30 MB beside the libraries, which are there once."""
    notes: list[str] = []
    found = Gathering(swept, Aside(note=notes.append))
    memory = {**MEMORY, "peak_mb": 90.0, "libraries_mb": 60.0, "why": ""}
    begin = {**before(), "state": {**STATE, "memory_mb": {"total": 100.0, "available": available}}}
    if goes_on:
        found.take_up([before(), memory])
    found.add(begin)
    if not goes_on:
        found.add(memory)
    said = "ssh://pi: its 2 settings take about 60 MB at once, of which 59 are free; measure fewer bundles or"
    assert [note.startswith(said) for note in notes] == [True] * warned


def test_settings_that_are_measured_one_after_another_share_the_memory(swept: Swept) -> None:
    notes: list[str] = []
    found = Gathering(replace(swept, protocol=sustained(1.0)), Aside(note=notes.append))
    found.add({**before(), "state": {**STATE, "memory_mb": {"total": 9.0, "available": 1.0}}})
    found.add({**MEMORY, "peak_mb": 90.0, "libraries_mb": 60.0, "why": ""})
    assert notes == []


def test_what_was_broken_off_keeps_its_first_opening(swept: Swept) -> None:
    first, _ = gathered(swept, *whole(), opened(0, "again"), AFTER)
    assert first.started == "first"


def test_what_begins_anew_leaves_its_old_visits(swept: Swept) -> None:
    steps: list[tuple[int, int]] = []
    protocol = replace(sustained(1.0), rounds=2)
    one = replace(swept, settings=swept.settings[:1], protocol=protocol)
    found = Gathering(one, Aside(), lambda done, total: steps.append((done, total)))
    state = {"hottest_c": 61.5, "fastest_mhz": 1500.0}
    again = [visit(0, 0, 1.0, state=state), visit(0, 1, 2.0, state=state)]
    for entry in (before(), opened(0), visit(0, 0, 9.0), opened(0, "again"), *again, AFTER):
        found.add(entry)
    (record,) = found.records()
    assert (record.samples_ms, record.started, record.openings) == ((1.0, 2.0), "again", ("again",))
    assert record.visit_states == (state, state)
    assert steps == [(1, 9), (2, 9), (1, 9), (2, 9), (3, 9)]


@pytest.mark.parametrize(
    ("kind", "backend", "there"),
    [
        ("tensorrt", Backend(), True),
        ("onnx", Backend(provider="CUDA"), True),
        ("onnx", Backend(provider="xnnpack"), False),
        ("litert", Backend(delegate="gpu"), True),
        ("litert", Backend(provider="cuda"), False),
        ("torch", Backend(provider="cuda", delegate="gpu"), False),
    ],
)
def test_where_a_gpu_computes_data_is_taken_there(
    swept: Swept, kind: str, backend: Backend, there: bool
) -> None:
    (bundle,) = swept.bundles
    found = Bundle(bundle.folder, replace(bundle.manifest, format=kind))
    assert takes_data_there(found, backend) is there


def test_only_tensorrts_graph_is_told(swept: Swept) -> None:
    (bundle,) = swept.bundles
    with_graph = replace(swept, backends=[Backend(cuda_graph=True)])
    engine = Bundle(bundle.folder, replace(bundle.manifest, format="tensorrt"))
    assert [one.graph for one in gathered(with_graph, *whole(), AFTER)] == [False, False]
    found = gathered(replace(with_graph, bundles=[engine]), *whole(), AFTER)
    assert [(one.graph, one.transfers) for one in found] == [(True, True)] * 2
