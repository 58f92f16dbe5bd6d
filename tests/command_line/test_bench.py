"""What bench measures beside latency, over several runtimes and targets, and what it prints."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import SIZE, write_manifest
from command_line.place import Command, Place
from small_litert import Tensor, litert_file
from sshd import Sshd

from slimalign.commands.measuring import _backends
from slimalign.compress.data.sample import fingerprint_of
from slimalign.faces import read_split
from slimalign.places import Where, each_where
from slimalign.runtimes.bundle import MANIFEST_NAME
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW
from slimalign.runtimes.session import Backend
from slimalign.showing import shown_progress

ONE = ("--batch", "1", "--threads", "1")
NOBODY = "ssh://somebody@127.0.0.1:1"


@pytest.fixture
def litert(tmp_path: Path) -> Path:
    """A .tflite file that gives the size of each value."""
    folder, shape = tmp_path / "absolute", (1, SIZE, SIZE, 3)
    folder.mkdir()
    (folder / "model.tflite").write_bytes(litert_file("ABS", [Tensor(shape)], [Tensor(shape)]))
    return write_manifest(folder, "model.tflite", format="litert", layout="NHWC").folder


def rows(out: str) -> list[str]:
    """Those of the table: between the rule below its head and an empty line."""
    lines = [line.strip() for line in out.splitlines()]
    (rule,) = [place for place, line in enumerate(lines) if line and not line.strip("─")]
    return lines[rule + 1 : lines.index("", rule)]


def latencies() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "latency"]


def test_a_line_a_setting_and_where_throughput_ends(slimalign: Command, place: Place) -> None:
    done = slimalign("bench", place.onnx, place.torch, "--batch", "1,2", "--threads", "1")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].endswith("threads 1, local, kernel-1-draft")
    assert all(len(line) <= 130 for line in lines)
    settings = rows(done.out)
    # Both bundles are called "small [b]": their folders tell them apart.
    assert [line.split()[0] for line in settings] == [place.onnx.name] * 2 + [place.torch.name] * 2
    for line, record in zip(settings, latencies(), strict=True):
        found = re.search(
            r" (\d) +([\d.]+) \(([\d.]+) to ([\d.]+)\) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) *$",
            line,
        )
        assert found is not None, line
        batch, p50_ms, low, high, p90_ms, speed, memory_mb, init_ms, first_ms = map(float, found.groups())
        assert low <= p50_ms <= high
        assert p50_ms <= p90_ms
        assert p50_ms == pytest.approx(record["p50_ms"], abs=0.0051)
        assert speed == pytest.approx(1000 * batch / record["p50_ms"], abs=0.051)
        assert (init_ms, first_ms) == pytest.approx((record["init_ms"], record["first_ms"]), abs=0.051)
        assert memory_mb > 10
    knees = [line for line in lines if "throughput grows up to batch " in line]
    assert [line.split(":")[0] for line in knees] == [
        f"{place.onnx.name} in onnxruntime, threads 1, local",
        f"{place.torch.name} in pytorch, threads 1, local",
    ]


def test_a_record_holds_the_memory_and_what_was_run(slimalign: Command, place: Place) -> None:
    data = ("--data", place.data, "--data-format", "folder")
    (drawn,) = slimalign("bench", place.onnx, *ONE, "--json").json
    (found,) = slimalign("bench", place.onnx, *ONE, *data, "--json").json
    with shown_progress() as progress:
        faces = fingerprint_of(read_split("folder", AFLW, place.data, "val", False, progress))
    assert (drawn["inputs"], found["inputs"]) == ("drawn", f"folder val, 5 faces, {faces[:12]}")
    assert 10 < found["memory"]["libraries_mb"] <= found["memory"]["peak_mb"]
    assert (found["transfers"], found["graph"]) == (False, False)
    assert "samples_ms" not in found
    low, high = found["intervals"]["p50_ms"]
    assert low <= found["p50_ms"] <= high


def test_delegates_are_measured_in_turns_and_other_runtimes_once(
    slimalign: Command, place: Place, litert: Path
) -> None:
    records = slimalign("bench", litert, place.onnx, *ONE, "--delegate", "xnnpack,none", "--json").json
    assert [record["runtime"] for record in records] == ["litert", "litert-none", "onnxruntime"]
    assert [record["memory"] is not None for record in records] == [True] * 3
    refused = slimalign("bench", place.onnx, *ONE, "--delegate", "xnnpack,none")
    assert refused.status == 2
    assert "--delegate is for bundles of format litert, these are onnx" in refused.err


def test_nothing_is_measured_for_a_file_of_another_kind(slimalign: Command, place: Place) -> None:
    Path("notes.txt").write_text("line one\nlast line")
    data = ("--data", place.data, "--split", "val", "--data-format", "folder")
    for words in (("bench", place.onnx, *ONE), ("eval", place.onnx, *data), ("profile", place.onnx)):
        done = slimalign(*words, "--results", "notes.txt")
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("slimalign: notes.txt: it ends with a line that is no record; give a")
    assert Path("notes.txt").read_text() == "line one\nlast line"


def test_a_line_that_was_cut_is_told(slimalign: Command, place: Place) -> None:
    Path("results.jsonl").write_text('{"kind": "co')
    data = ("--data", place.data, "--split", "val", "--data-format", "folder")
    assert "its last line was cut short" in slimalign("eval", place.onnx, *data).err
    Path("results.jsonl").write_text('{"kind": "co')
    assert "its last line was cut short" in slimalign("profile", place.onnx, "--results", "results.jsonl").err
    assert len(Path("results.jsonl").read_text().splitlines()) == 1


def test_options_of_a_delegate_stay_with_it() -> None:
    found = _backends("cpu, cuda", "xnnpack,lib.so,backend=htp,mode=fast,none", cuda_graph=True)
    delegates = ("xnnpack", "lib.so,backend=htp,mode=fast", "none")
    assert found == [Backend(one, other, True) for one in ("cpu", "cuda") for other in delegates]


def test_a_target_that_is_not_reached_loses_nothing_of_the_others(
    slimalign: Command, place: Place, sshd: Sshd
) -> None:
    there = ("--python", sys.executable)
    done = slimalign("bench", place.onnx, *ONE, *there, "--target", f"local,{NOBODY},{sshd.address}")
    assert done.status == 2
    (said,) = [line for line in done.err.splitlines() if line.startswith("slimalign: ")]
    assert "127.0.0.1:1: no ssh server listens there" in said
    assert done.err.splitlines()[-1] == said
    assert [record["target"] for record in latencies()] == ["local", sshd.address]
    assert [line.split()[2] for line in rows(done.out)] == ["local", sshd.address]


def test_a_target_that_is_none_is_told_before_anything_is_measured(slimalign: Command, place: Place) -> None:
    done = slimalign("bench", place.onnx, *ONE, "--target", "local,ssh://-x")
    assert (done.status, done.out) == (2, "")
    assert "address 'ssh://-x' cannot be read" in done.err
    assert not Path("results.jsonl").exists()


def test_two_bundles_that_records_could_not_tell_apart_are_refused(
    slimalign: Command, place: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(place.onnx, other)
    manifest = json.loads((other / MANIFEST_NAME).read_text())
    (other / MANIFEST_NAME).write_text(json.dumps({**manifest, "decoder": "local-mean"}))
    done = slimalign("bench", place.onnx, other, *ONE)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"slimalign: {place.onnx} and {other}: two bundles called 'small [b]', both onnx in fp32; export one of them"
        " under another name, slimalign export ... --name NAME\n"
    )
    (other / MANIFEST_NAME).write_text(json.dumps({**manifest, "decoder": "local-mean", "name": "another"}))
    done = slimalign("bench", place.onnx, other, *ONE)
    assert done.status == 0, done.err
    settings = rows(done.out)
    assert [line.startswith(name) for line, name in zip(settings, ("small [b] ", "another "), strict=True)]


def test_an_export_can_be_given_a_name(slimalign: Command, place: Place) -> None:
    options = ("--formats", "torch", "--out", "made", "--name", "second try")
    (made,) = slimalign("export", place.torch, *options, "--json").json
    assert made["bundle"] == str(Path("made") / "second try-torch")
    assert json.loads((Path(made["bundle"]) / MANIFEST_NAME).read_text())["name"] == "second try"
    for name in ("a/b", "..", ""):
        done = slimalign("export", place.torch, "--formats", "torch", "--out", "made", "--name", name)
        assert done.status == 2
        assert f"--name {name!r}: it becomes a folder's name" in done.err


def test_minutes_of_calls_are_told_in_windows(slimalign: Command, place: Place) -> None:
    (found,) = slimalign("bench", place.onnx, *ONE, "--sustained", "0.02", "--json").json
    assert found["protocol"] == "kernel-1-sustained"
    assert (len(found["visits"]), sum(found["visits"])) == (20, found["samples"])
    kept = found["sustained"]
    assert set(kept) == {
        "slope_percent_a_minute",
        "slope_interval",
        "last_to_first",
        "last_to_first_interval",
        "throttled",
        "slower_from_minute",
    }
    (record,) = latencies()
    states, samples = record["visit_states"], record["samples_ms"]
    assert isinstance(states, list)
    assert isinstance(samples, list)
    assert [set(state) for state in states] == [{"hottest_c", "fastest_mhz"}] * 20
    assert np.sum(samples) >= 1e3 * 60 * 0.02 * 0.9
    both = slimalign("bench", place.onnx, *ONE, "--sustained", "1", "--reference")
    assert (both.status, "--sustained and --reference are two protocols" in both.err) == (2, True)


def test_minutes_of_calls_on_a_device(slimalign: Command, place: Place, sshd: Sshd) -> None:
    target = ("--target", sshd.address, "--python", sys.executable)
    done = slimalign("bench", place.onnx, *ONE, *target, "--sustained", "0.02")
    assert done.status == 0, done.err
    assert re.search(r"batch 1: [+-][\d.]+ % a minute \(.*\); at the end [\d.]+ of the time", done.out)
    (record,) = latencies()
    assert record["memory"] is not None
    assert (record["target"], record["inputs"]) == (sshd.address, "drawn")


def test_the_program_of_litert_is_for_the_phones_among_several_targets() -> None:
    program = Path("benchmark_model")
    found = each_where([Where(target, None, program) for target in ("local", "adb:R58M", "ssh://pi")])
    assert [where.benchmark_model for where in found] == [None, program, None]
    with pytest.raises(UserError, match="--benchmark-model benchmark_model: name the phone"):
        each_where([Where(target, None, program) for target in ("local", "ssh://pi")])
    with pytest.raises(UserError, match="adb:R58M: a phone has no Python"):
        each_where([Where("local"), Where("adb:R58M")])
