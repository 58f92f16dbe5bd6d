"""A sweep on this machine that is broken off: a real process, killed, and the same command again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import CROPS, onnx_bundle

from slimalign.benchmarks.gathering import Aside
from slimalign.benchmarks.latency import Wanted, sweep_here
from slimalign.benchmarks.results import read
from slimalign.benchmarks.unfinished import gone_on_with
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.device_state import device_state
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.journal import END, Entry, conditions
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.timing import DRAFT
from slimalign.runtimes.timing_loop import Span

VISITS = 2 * DRAFT.rounds


def command(folder: Path, *more: str) -> list[str]:
    bundles = more or (str(folder),)
    return [sys.executable, "-m", "slimalign", "bench", *bundles, "--batch", "1,2", "--threads", "1"]


def journal(folder: Path) -> Path:
    (found,) = folder.glob("results.jsonl.*.unfinished")
    return found


def entries(path: Path) -> list[dict[str, Any]]:
    """The whole lines of it."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def killed(folder: Path, after: int, *more: str) -> list[dict[str, Any]]:
    """The visits that are kept of a command that is killed once there are so many."""
    process = subprocess.Popen(
        command(folder, *more), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end, visits = time.monotonic() + 120, list[dict[str, Any]]()
    while len(visits) < after:
        assert time.monotonic() < end
        assert process.poll() is None, "it came to its end before it could be killed"
        time.sleep(0.01)
        for path in folder.glob("results.jsonl.*.unfinished"):
            visits = [entry for entry in entries(path) if entry["kind"] == "visit"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [entry for entry in entries(journal(folder)) if entry["kind"] == "visit"]


def again(folder: Path, *more: str) -> str:
    """What the same command says on standard error, once it has come to its end."""
    done = subprocess.run(command(folder, *more), cwd=folder, capture_output=True, text=True, check=True)
    return done.stderr


def test_a_killed_sweep_goes_on_after_its_last_whole_visit(tmp_path: Path) -> None:
    onnx_bundle(tmp_path)
    visits = killed(tmp_path, after=3)
    assert 3 <= len(visits) < VISITS
    assert not (tmp_path / "results.jsonl").exists()
    with journal(tmp_path).open("a") as file:
        file.write('{"kind": "visit", "place": 0, "tu')  # what a kill within a write leaves
    assert "local: going on with what was broken off" in again(tmp_path)
    records = read(tmp_path / "results.jsonl").latency
    assert [record.batch for record in records] == [1, 2]
    for place, record in enumerate(records):
        kept = [sample for one in visits if one["place"] == place for sample in one["samples_ms"]]
        assert list(record.samples_ms)[: len(kept)] == kept
        assert len(record.samples_ms) > len(kept)
        assert len(record.visits) == DRAFT.rounds
        assert record.memory is not None
        assert record.inputs == "drawn"
        assert len(record.openings) == 2
        assert record.openings[0] == record.started
    assert list(tmp_path.glob("*.unfinished")) == [], "what is in the results file is kept twice"


def test_what_was_added_before_a_kill_is_not_added_again(tmp_path: Path) -> None:
    """Killed between the results file and the clearing up: what was kept is still there."""
    onnx_bundle(tmp_path)
    killed(tmp_path, after=2)
    path = journal(tmp_path)
    lines: list[str] = []
    process = subprocess.Popen(command(tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL)
    with path.open() as file:  # still read when its name is taken away
        process.wait()
        lines = file.readlines()
    assert json.loads(lines[-1]) == END
    before = (tmp_path / "results.jsonl").read_bytes()
    path.write_text("".join(lines))
    assert "picking up what was found meanwhile" in again(tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes() == before
    again(tmp_path)
    assert len(read(tmp_path / "results.jsonl").latency) == 4, "another measurement is another record"


def test_under_other_conditions_a_killed_sweep_is_measured_anew(tmp_path: Path) -> None:
    onnx_bundle(tmp_path)
    killed(tmp_path, after=2)
    path = journal(tmp_path)
    old = entries(path)
    for entry in old:
        if entry["kind"] == "before":
            assert entry["conditions"]["onnxruntime"] is not None
            entry["conditions"]["onnxruntime"] = "0.1"
        if entry["kind"] == "visit":
            entry["samples_ms"] = [1e6]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in old))
    assert "the device is set another way since the last time: measuring anew" in again(tmp_path)
    assert max(max(one.samples_ms) for one in read(tmp_path / "results.jsonl").latency) < 1e5


def test_another_file_is_another_sweep(tmp_path: Path) -> None:
    onnx_bundle(tmp_path)
    killed(tmp_path, after=2)
    (tmp_path / "other").mkdir()
    onnx_bundle(tmp_path / "other", decoder="local-softmax")
    assert "going on" not in again(tmp_path, str(tmp_path / "other"))
    assert len(list(tmp_path.glob("*.unfinished"))) == 1, "what was broken off may still be gone on with"


BEFORE = {"kind": "before", "conditions": {"python": "another"}}


def counted(kept: Sequence[Entry]) -> Iterator[Entry]:
    """Three entries in all."""
    for number in range(len([one for one in kept if one["kind"] == "one"]), 3):
        yield {"kind": "one", "number": number}


def numbers(path: Path | None, notes: list[str]) -> list[int]:
    with gone_on_with(path, notes.append, counted) as (kept, rest):
        return [entry["number"] for entry in (*kept, *rest) if entry["kind"] == "one"]


def test_what_has_come_to_its_end_is_taken_whatever_has_changed(tmp_path: Path) -> None:
    """Killed between the last visit and the results file: nothing is measured again."""
    path, notes = tmp_path / "kept", list[str]()
    whole = [BEFORE, {"kind": "one", "number": 7}, END]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in whole))
    assert numbers(path, notes) == [7]
    assert notes == ["picking up what was found meanwhile"]
    assert not path.exists()


SPOILT = [b"\x00\xff\x7f", b'{"kind": "one", "num', b"[]", b'{"number": 7}', b'{"kind": "before"}']


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_damaged_is_measured_anew(tmp_path: Path, spoilt: bytes) -> None:
    path, notes = tmp_path / "kept", list[str]()
    path.write_bytes(b'{"kind": "one", "number": 7}\n' + spoilt + b"\n" + json.dumps(END).encode() + b"\n")
    assert numbers(path, notes) == [0, 1, 2]
    assert notes == ["what was kept of the last time is damaged: measuring anew"]
    assert not path.exists()


def test_entries_are_kept_until_all_is_done(tmp_path: Path) -> None:
    path, notes = tmp_path / "kept", list[str]()
    with pytest.raises(ZeroDivisionError):
        _stopped(path, notes)
    first = {"kind": "before", "conditions": conditions(device_state())}
    path.write_text(json.dumps(first) + "\n" + path.read_text())
    assert numbers(path, notes) == [0, 1, 2]
    assert notes == ["going on with what was broken off"]
    assert not path.exists()
    assert numbers(None, notes) == [0, 1, 2]
    assert os.listdir(tmp_path) == []


def _stopped(path: Path, notes: list[str]) -> None:
    """Stop after the first entry."""
    with gone_on_with(path, notes.append, counted) as (_, rest):
        assert next(rest)["number"] == 0
        raise ZeroDivisionError


def test_a_sweep_that_cannot_be_done_leaves_nothing_behind(tmp_path: Path) -> None:
    bundle, path = onnx_bundle(tmp_path), tmp_path / "results.jsonl"
    with pytest.raises(UserError, match="provider none: ONNX Runtime .* here has"):
        sweep_here(Wanted([bundle], (1,), (1,), crops), [Backend("none")], Aside(), path)
    assert list(tmp_path.glob("results*")) == []


def test_progress_goes_on_where_it_was(tmp_path: Path) -> None:
    """Memory at two batch sizes, two openings and the visits: ten steps."""
    bundle, path = onnx_bundle(tmp_path), tmp_path / "results.jsonl"
    quick = replace(DRAFT, length=Span(2, 0.0), warm_up=Span(0, 0.0), rounds=3)
    wanted = Wanted([bundle], (1, 2), (1,), crops, quick)
    steps: list[tuple[int, int]] = []

    def stop_at_six(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_here(wanted, [DEFAULT_BACKEND], Aside(), path, stop_at_six)
    assert steps == [(done, 10) for done in range(1, 7)]
    steps.clear()
    first, second = sweep_here(
        wanted, [DEFAULT_BACKEND], Aside(), path, lambda done, total: steps.append((done, total))
    )
    # What was kept is one step; then both settings are opened again, which counts once.
    assert steps == [(6, 10), (6, 10), (6, 10), *((done, 10) for done in range(7, 11))]
    assert first.visits == second.visits == (1, 1, 1)


def crops(rule: CropRule) -> Any:
    return CROPS


def test_two_that_measure_the_same_do_not_mix_their_visits(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="kept: another process measures the same now; wait for its end"):
            numbers(path, [])
    assert numbers(path, []) == [0, 1, 2]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/kept: cannot be written \(No such file"):
        numbers(tmp_path / "nowhere" / "kept", [])
