"""Jobs on a device, reached by a real ssh: measured there, broken off, gone on with."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import CROPS, expected_points, onnx_bundle
from sshd import Sshd

from slimalign.benchmarks.device_latency import sweep_on
from slimalign.benchmarks.latency import Wanted
from slimalign.runtimes.agent import told_there
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import MissingLibraryError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND
from slimalign.runtimes.timing import Protocol, Record
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.agent_file import agent_file
from slimalign.targets.device_aligner import DeviceAligner
from slimalign.targets.device_job import HOME, Device
from slimalign.targets.shell import LineDroppedError
from slimalign.targets.ssh import LONGEST_SOCKET

ROUNDS = 3
SLOW = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(6, 0.9), ROUNDS)
"""A visit takes 0.3 s: there is time to break it off."""
VISITS = 2 * ROUNDS
MEASURED_MEMORIES = 2
"""Steps before the first opening: the memory at each batch size."""


@pytest.fixture
def device(sshd: Sshd) -> Device:
    shell = shell_of(sshd.address)
    assert shell is not None
    return Device(shell, sys.executable)


@pytest.fixture
def cells(tmp_path: Path) -> Bundle:
    return onnx_bundle(tmp_path)


def crops(rule: CropRule) -> Any:
    return CROPS


def swept(
    device: Device,
    bundle: Bundle,
    told: Callable[[int], None] = lambda done: None,
    protocol: Protocol = SLOW,
) -> list[Record]:
    wanted = Wanted([bundle], (1, 2), (1,), crops, protocol)
    return sweep_on(device, wanted, progress=lambda done, total: told(done - MEASURED_MEMORIES))


def journal(sshd: Sshd) -> Path:
    (found,) = (sshd.home / HOME / "jobs").glob("*/results.jsonl")
    return found


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def agents(sshd: Sshd) -> list[int]:
    """The processes of the agents at work there, whose folder is the home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if any(b"/agents/" in word for word in words) and (folder / "cwd").resolve() == sshd.home:
                found.append(int(folder.name))
    return found


def await_end(path: Path) -> list[dict[str, Any]]:
    """What the agent has kept, once it has come to its end by itself."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if '"end"' in path.read_text():
            return entries(path)
        time.sleep(0.05)
    raise AssertionError(path.read_text())


def test_latency_is_measured_on_the_device(device: Device, sshd: Sshd, cells: Bundle) -> None:
    done: list[int] = []
    records = swept(device, cells, done.append)
    assert [(one.batch, one.threads, one.runtime) for one in records] == [
        (1, 1, "onnxruntime"),
        (2, 1, "onnxruntime"),
    ]
    for record in records:
        assert (record.target, record.sha256, record.protocol) == (sshd.address, cells.sha256, SLOW.key)
        # Three rounds of at least two calls each.
        assert len(record.samples_ms) >= 6
        assert record.version.startswith("onnxruntime ")
        assert record.before.keys() == record.after.keys() != set()
        assert record.init_ms > 0 < record.first_ms
        assert record.memory is not None
        assert 10 < record.memory.libraries_mb <= record.memory.peak_mb
    # The memory at two batch sizes is measured, two sessions are opened, then visited in turns.
    assert done == list(range(1 - MEASURED_MEMORIES, 2 + VISITS + 1))
    assert list((sshd.home / HOME / "jobs").iterdir()) == [], "a job that came to its end is left behind"


def test_points_are_found_on_the_device(device: Device, cells: Bundle) -> None:
    many = np.concatenate([CROPS] * 5)
    found = DeviceAligner(device, cells, 1, DEFAULT_BACKEND).align_crops(many)
    np.testing.assert_allclose(found.points, np.concatenate([expected_points(3)] * 5), atol=1e-3)
    np.testing.assert_allclose(found.scores, 1, atol=1e-6)


def test_a_dropped_line_loses_nothing_and_the_device_goes_on(
    device: Device, sshd: Sshd, cells: Bundle
) -> None:
    def cut(done: int) -> None:
        if done == 4:  # two sessions are opened, two visits done
            assert sshd.cut() > 0

    with pytest.raises(LineDroppedError, match="the same command goes on"):
        swept(device, cells, cut)
    kept = await_end(journal(sshd))
    visits = [entry for entry in kept if entry["kind"] == "visit"]
    assert len(visits) == VISITS
    records = swept(device, cells)
    for place, record in enumerate(records):
        samples = [sample for one in visits if one["place"] == place for sample in one["samples_ms"]]
        assert list(record.samples_ms) == samples, "the same command measured again what was there"


def test_after_a_loss_of_power_the_same_command_goes_on(device: Device, sshd: Sshd, cells: Bundle) -> None:
    def kill(done: int) -> None:
        if done == 5:
            for agent in agents(sshd):
                os.kill(agent, signal.SIGKILL)

    with pytest.raises(UserError):
        swept(device, cells, kill)
    path = journal(sshd)
    visits = [entry for entry in entries(path) if entry["kind"] == "visit"]
    assert 3 <= len(visits) < VISITS
    with path.open("a") as file:
        file.write('{"kind": "visit", "place": 0, "tu')  # what the loss of power left of a line
    first, second = swept(device, cells)
    for place, record in enumerate((first, second)):
        samples = [sample for one in visits if one["place"] == place for sample in one["samples_ms"]]
        assert list(record.samples_ms)[: len(samples)] == samples
        assert len(record.samples_ms) > len(samples)
        assert len(record.openings) == 2


def test_under_other_conditions_it_is_measured_anew(device: Device, sshd: Sshd, cells: Bundle) -> None:
    def kill(done: int) -> None:
        if done == 5:
            for agent in agents(sshd):
                os.kill(agent, signal.SIGKILL)

    with pytest.raises(UserError):
        swept(device, cells, kill)
    path, notes = journal(sshd), list[str]()
    old = entries(path)
    for entry in old:
        if entry["kind"] == "before":
            entry["conditions"]["power_mode"] = "15W"
        if entry["kind"] == "visit":
            entry["samples_ms"] = [1e6]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in old))
    records = swept(replace(device, note=notes.append), cells)
    assert max(max(record.samples_ms) for record in records) < 1e5
    assert notes == [f"{sshd.address}: the device is set another way since the last time: measuring anew"]


def test_a_line_that_dies_without_a_word_does_not_hold_the_device_up(
    device: Device, sshd: Sshd, cells: Bundle
) -> None:
    frozen: list[float] = []

    def freeze(done: int) -> None:
        if done == 4:
            sshd.freeze()
            frozen.append(time.monotonic())

    thread = threading.Thread(target=lambda: suppressed(swept, device, cells, freeze))
    thread.start()
    while not frozen:
        time.sleep(0.05)
    kept = await_end(journal(sshd))
    assert len([entry for entry in kept if entry["kind"] == "visit"]) == VISITS
    assert thread.is_alive(), "the line was not yet known to be dead"
    sshd.cut()
    thread.join(30)


def suppressed(call: Callable[..., object], *given: object) -> None:
    """A call whose connection may be lost."""
    with suppress(LineDroppedError):
        call(*given)


def test_two_measurements_take_turns(device: Device, sshd: Sshd, cells: Bundle) -> None:
    other = Device(shell_of(sshd.address) or device.shell, sys.executable)
    found: list[list[Record]] = []
    notes: list[str] = []

    def another() -> None:
        noting = replace(other, note=notes.append)
        found.append(sweep_on(noting, Wanted([cells], (3,), (1,), crops, SLOW)))

    thread = threading.Thread(target=another)

    def start(done: int) -> None:
        if done == 3:
            thread.start()

    # Long enough for the other to reach the device on a busy machine.
    first = swept(device, cells, start, replace(SLOW, length=Span(6, 4.5)))
    thread.join(60)
    assert notes == [f"{sshd.address}: another measurement is at work there: waiting for it"]
    assert first[0].after["time"] <= found[0][0].before["time"]


def test_what_was_found_before_a_line_dropped_is_not_looked_for_again(
    device: Device, sshd: Sshd, cells: Bundle
) -> None:
    finder = DeviceAligner(device, cells, 1, DEFAULT_BACKEND)
    first = finder.align_crops(CROPS)
    path = journal(sshd)
    before = path.read_bytes()
    again = DeviceAligner(device, cells, 1, DEFAULT_BACKEND)
    assert np.array_equal(again.align_crops(CROPS).points, first.points)
    assert path.read_bytes() == before
    again.clear()
    assert list((sshd.home / HOME / "jobs").iterdir()) == []


def test_two_at_once_follow_one_measurement(device: Device, sshd: Sshd, cells: Bundle) -> None:
    other = Device(shell_of(sshd.address) or device.shell, sys.executable)
    found: list[list[Record]] = []
    thread = threading.Thread(target=lambda: found.append(swept(other, cells)))

    def start(done: int) -> None:
        if done == 3:
            thread.start()

    mine = swept(device, cells, start)
    thread.join(60)
    assert [one.samples_ms for one in found[0]] == [one.samples_ms for one in mine]


@pytest.mark.parametrize("longest_socket", [LONGEST_SOCKET, 0], ids=["shared", "alone"])
def test_ctrl_c_stops_the_device_too(
    device: Device, sshd: Sshd, cells: Bundle, longest_socket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a connection that commands share, and without."""
    monkeypatch.setattr("slimalign.targets.ssh.LONGEST_SOCKET", longest_socket)

    def interrupt(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt  # as Python does on the signal, wherever it is

    with pytest.raises(KeyboardInterrupt):
        swept(device, cells, interrupt)
    path = journal(sshd)
    end = time.monotonic() + 30
    while agents(sshd):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len([entry for entry in entries(path) if entry["kind"] == "visit"]) < VISITS


def test_a_file_that_changed_on_the_device_is_not_run(device: Device, sshd: Sshd, cells: Bundle) -> None:
    swept(device, cells)
    (model,) = (sshd.home / HOME / "bundles").glob("*/model.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    said = rf"{sshd.address}: .*model\.onnx: not what was exported; delete {HOME}/bundles/\w+ on the device"
    with pytest.raises(UserError, match=said):
        swept(device, cells)


def test_what_the_device_lacks_is_named(device: Device, sshd: Sshd, cells: Bundle) -> None:
    bare = Device(device.shell, "/usr/bin/env python3-of-nowhere")
    with pytest.raises(
        UserError, match=f"{sshd.address}: .*python3-of-nowhere is not there; name its Python"
    ):
        swept(bare, cells)


def test_a_bundle_that_no_device_runs_is_refused(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    with pytest.raises(
        UserError, match="format = 'torch' does not run on a device; export it as one of onnx"
    ):
        swept(device, onnx_bundle(folder, format="torch"))


def test_on_a_device_a_missing_library_is_not_mended_by_slimaligns_extras() -> None:
    error = MissingLibraryError(".slimalign/model.tflite", "LiteRT", "ai-edge-litert", "litert")
    assert (
        told_there(error)
        == f"LiteRT is not installed there; run {sys.executable} -m pip install ai-edge-litert"
    )


def test_the_agent_is_the_same_file_each_time() -> None:
    assert agent_file() == agent_file()
