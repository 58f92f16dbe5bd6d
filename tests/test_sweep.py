"""A sweep's events: what is done in which order, and what is left of one that was broken off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cells import CROPS, onnx_bundle

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.energy import Counted
from slimalign.runtimes.memory import ProcessMemory
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Session
from slimalign.runtimes.sweep import (
    Event,
    MeasuredEnergy,
    MeasuredMemory,
    Opened,
    Plan,
    Ready,
    Setting,
    Subjects,
    Visit,
    sweep,
)
from slimalign.runtimes.sweep_entries import EVENTS, entry_of, event_of
from slimalign.runtimes.timing_loop import Span

ONCE, NONE = Span(1, 0.0), Span(0, 0.0)
TURNS = Plan(ONCE, ONCE, Span(2, 0.0), rounds=2)
IN_ONE_GO = TURNS._replace(warm_up=NONE, settle=NONE, interleaved=False)


class Places:
    """Subjects of a real bundle at batch sizes 1 and 2, and how often each is opened and its memory asked."""

    def __init__(self, folder: Path):
        self.bundle = onnx_bundle(folder)
        self.opened: list[int] = []
        self.memories: list[int] = []

    def subjects(self, settings: tuple[Setting, ...] = (Setting(0, 1, 1), Setting(0, 1, 2))) -> Subjects:
        return Subjects(settings, self._open, lambda setting: CROPS, memory_of=self._memory_of)

    @contextmanager
    def _open(self, setting: Setting) -> Iterator[Session]:
        self.opened.append(setting.batch)
        with OnnxRuntimeSession(self.bundle, setting.threads) as session:
            yield session

    def _memory_of(self, setting: Setting) -> ProcessMemory | str:
        self.memories.append(setting.batch)
        return ProcessMemory(20.0 + setting.batch, 20.0) if setting.batch < 3 else "too large"


def told(events: list[Event]) -> list[tuple[object, ...]]:
    """Each event without its figures."""
    return [
        ("visit", event.place, event.turn)
        if isinstance(event, Visit)
        else ("opened", event.place)
        if isinstance(event, Opened)
        else ("energy", event.place)
        if isinstance(event, MeasuredEnergy)
        else ("memory", event.batch)
        if isinstance(event, MeasuredMemory)
        else ("ready", event.steps)
        for event in events
    ]


def test_settings_are_opened_and_then_visited_in_turns(tmp_path: Path) -> None:
    places = Places(tmp_path)
    events = list(sweep(places.subjects(), TURNS))
    opened = [("opened", 0), ("opened", 1)]
    rounds = [("visit", 0, 0), ("visit", 1, 0), ("visit", 1, 1), ("visit", 0, 1)]
    assert told(events) == [("ready", 8), ("memory", 1), ("memory", 2), *opened, *rounds]
    # Once before all, for the libraries, since no engine hangs on the batch; then each for itself.
    assert places.opened == [1, 1, 2]
    assert events[1] == MeasuredMemory(0, 1, 0, 21.0, 20.0, "")
    assert all(event.state is None for event in events if isinstance(event, Visit))


def test_engines_are_built_beforehand_for_every_batch(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.bundle = Bundle(tmp_path, replace(places.bundle.manifest, format="tensorrt"))
    list(sweep(places.subjects(), TURNS))
    assert places.opened == [1, 2, 1, 2]


def test_threads_share_what_is_known_of_the_memory(tmp_path: Path) -> None:
    places = Places(tmp_path)
    settings = (Setting(0, 1, 1), Setting(0, 2, 1), Setting(0, 1, 3), Setting(0, 1, 1, backend=1))
    events = list(sweep(places.subjects(settings), TURNS))
    assert places.memories == [1, 3, 1]
    assert events[0] == Ready(3 + 4 * 3, None)
    assert events[2] == MeasuredMemory(0, 3, 0, None, None, "too large")
    assert places.opened[:2] == [1, 1], "each backend once beforehand"


@pytest.mark.parametrize("broken_off_after", range(9))
def test_what_is_left_of_a_sweep_is_done(tmp_path: Path, broken_off_after: int) -> None:
    places = Places(tmp_path)
    whole = list(sweep(places.subjects(), TURNS))
    kept = whole[1:][:broken_off_after]
    rest = list(sweep(places.subjects(), TURNS, kept))
    visits = [one for one in told(kept + rest) if one[0] == "visit"]
    assert sorted(visits) == [("visit", place, turn) for place in (0, 1) for turn in (0, 1)]
    assert [one for one in told(kept + rest) if one[0] == "memory"] == [("memory", 1), ("memory", 2)]
    assert rest[0] == whole[0], "the steps of the whole sweep are told"


@pytest.mark.parametrize("broken_off_after", [0, 5, 9, 14])
def test_a_steady_drift_favours_no_setting(tmp_path: Path, broken_off_after: int) -> None:
    """Each visit of a sweep takes a millisecond more than the one before: all settings come to the same mean."""
    subjects = Places(tmp_path).subjects(tuple(Setting(0, 1, batch) for batch in (1, 2, 3)))
    plan = TURNS._replace(rounds=4)
    kept = list(sweep(subjects, plan))[1:][:broken_off_after]
    visits = [one for one in (*kept, *sweep(subjects, plan, kept)) if isinstance(one, Visit)]
    assert len(visits) == 12
    means = [
        sum(ms for ms, visit in enumerate(visits) if visit.place == place) / plan.rounds for place in range(3)
    ]
    assert means == [5.5, 5.5, 5.5]


def test_before_what_is_measured_in_one_go_the_device_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[tuple[float | None, float, int]] = []
    places = Places(tmp_path)

    def resting(start_c: float | None, busy_s: float) -> None:
        rests.append((start_c, busy_s, len(places.opened)))

    monkeypatch.setattr("slimalign.runtimes.sweep.rest", resting)
    monkeypatch.setattr("slimalign.runtimes.sweep.hottest_c", lambda: 40.0)
    minutes = IN_ONE_GO._replace(length=Span(2, 0.01))
    whole = list(sweep(places.subjects(), minutes))
    # Opened once before all, then each after its rest.
    assert rests == [(40.0, 0.01, 1), (40.0, 0.01, 2)]
    # Gone on with after a break, it is to be as cool as at the first visit, not as it is now.
    states = [{"hottest_c": 35.0, "fastest_mhz": None}, {"hottest_c": 60.0, "fastest_mhz": None}]
    warm = [one for one in whole[1:-1] if isinstance(one, Visit)]
    kept = [one for one in whole[1:-1] if not isinstance(one, Visit)]
    kept += [one._replace(state=state) for one, state in zip(warm, states, strict=False)]
    rests.clear()
    list(sweep(places.subjects(), minutes, kept))
    assert {start_c for start_c, _, _ in rests} == {35.0}
    rests.clear()
    list(sweep(places.subjects(), TURNS))
    assert rests == []


def test_what_is_measured_in_one_go_begins_anew_after_a_break(tmp_path: Path) -> None:
    places = Places(tmp_path)
    whole = list(sweep(places.subjects(), IN_ONE_GO))
    first = [("opened", 0), ("visit", 0, 0), ("visit", 0, 1)]
    second = [("opened", 1), ("visit", 1, 0), ("visit", 1, 1)]
    assert told(whole)[3:] == [*first, *second]
    states = [event.state for event in whole if isinstance(event, Visit)]
    assert all(state is not None and set(state) == {"hottest_c", "fastest_mhz"} for state in states)
    # Broken off in the second setting: the first is kept.
    rest = list(sweep(places.subjects(), IN_ONE_GO, whole[1:-1]))
    assert told(rest)[1:] == second
    # Broken off there again: what was visited before the last opening does not count.
    rest = list(sweep(places.subjects(), IN_ONE_GO, [*whole[1:-1], *rest[1:-1]]))
    assert told(rest)[1:] == second
    # Broken off in the first.
    rest = list(sweep(places.subjects(), IN_ONE_GO, whole[1:5]))
    assert told(rest)[1:] == [*first, *second]


class Steady(Counted):
    """A counter of 20 W at every moment."""

    def _read(self) -> list[int]:
        return [round(20e6 * time.perf_counter())]


def test_energy_is_measured_after_all_visits_and_at_rest_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimalign.runtimes.sweep.IDLE_SECONDS", 0.5)
    monkeypatch.setattr("slimalign.runtimes.sweep.ENERGY_SPAN", Span(5, 0.5))
    rail = Steady("package-0", [("read by the clock", 10**15)])
    subjects = Places(tmp_path).subjects()._replace(rail=rail)
    events = list(sweep(subjects, TURNS))
    assert events[0] == Ready(10, "package-0")
    assert told(events)[-3:] == [("visit", 0, 1), ("energy", 0), ("energy", 1)]
    for event in events[-2:]:
        assert isinstance(event, MeasuredEnergy)
        assert event.rail == "package-0"
        assert event.idle_w == pytest.approx(20.0, rel=0.1)
        assert event.total_w == pytest.approx(20.0, rel=0.1)
        # Many calls share the 0.5 s.
        assert 0 < event.call_mj < 1e3 * event.total_w * 0.5
    rest = list(sweep(subjects, TURNS, events[1:-1]))
    assert told(rest)[1:] == [("opened", 1), ("energy", 1)]


def test_events_survive_json(tmp_path: Path) -> None:
    energy = MeasuredEnergy(1, "VDD_IN", 2.0, 7.5, 31.25)
    events = [*list(sweep(Places(tmp_path).subjects(), TURNS))[1:], energy]
    again = [event_of(json.loads(json.dumps(entry_of(event)))) for event in events]
    assert again == events
    assert {entry_of(event)["kind"] for event in events} == set(EVENTS)
