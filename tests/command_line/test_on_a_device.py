"""Commands that measure on a device, which is this machine reached by a real ssh."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command_line.place import Command, Place
from sshd import Sshd

from slimalign.targets.device_job import HOME


@pytest.fixture
def profile(sshd: Sshd, tmp_path: Path) -> Path:
    """A user's own device, with the way to reach it."""
    path = tmp_path / "board.toml"
    path.write_text(
        f'title = "My board"\narchitecture = "x86_64"\nformats = ["onnx"]\naddress = "{sshd.address}"\n'
        f'python = "{sys.executable}"\n'
    )
    return path


def test_bench_measures_there(slimalign: Command, place: Place, sshd: Sshd) -> None:
    options = ("--target", sshd.address, "--python", sys.executable, "--batch", "1,2", "--threads", "1")
    records = slimalign("bench", place.onnx, *options, "--json").json
    assert [(one["target"], one["batch"], one["runtime"]) for one in records] == [
        (sshd.address, 1, "onnxruntime"),
        (sshd.address, 2, "onnxruntime"),
    ]
    kept = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in kept] == ["latency", "latency", "cost"]
    assert {"cpu_governors", "temperatures_c", "power_mode", "tegrastats"} <= set(kept[0]["before"])
    assert kept[0]["before"]["time"] <= kept[0]["after"]["time"]


def test_bench_times_images_to_landmarks_there(slimalign: Command, place: Place, profile: Path) -> None:
    options = ("--target", profile, "--batch", "2", "--threads", "1", "--timed", "kernel,end-to-end")
    records = slimalign("bench", place.onnx, *options, "--json").json
    assert [one["protocol"] for one in records] == ["kernel-1-draft", "end-to-end-1-draft"]


def test_a_device_has_one_name_for_measuring_and_for_choosing(
    slimalign: Command, place: Place, profile: Path
) -> None:
    assert slimalign("bench", place.onnx, "--target", profile, "--batch", "1", "--threads", "1").status == 0
    assert slimalign("eval", place.onnx, "--data", place.data, "--data-format", "folder").status == 0
    report = slimalign("report", "results.jsonl", "--target", profile, "--split", "test")
    assert report.status == 0, report.err
    said = slimalign("report", "results.jsonl", "--target", "nowhere", "--split", "test").err
    assert "no latency with --target nowhere; it holds ssh://" in said


def test_eval_judges_what_is_found_there(slimalign: Command, place: Place, profile: Path) -> None:
    data = ("--data", place.data, "--data-format", "folder", "--normaliser", "diagonal", "--json")
    there = slimalign("eval", place.onnx, *data, "--target", profile).json
    here = slimalign("eval", place.onnx, *data).json
    # Points come back rounded to 1e-4 of a pixel.
    assert there["nme"] == pytest.approx(here["nme"], abs=1e-3)
    assert there["images"] == here["images"]


def test_parity_holds_with_the_same_file(slimalign: Command, place: Place, profile: Path) -> None:
    found = slimalign("parity", place.onnx, "--target", profile, "--faces", "4", "--json").json
    assert (found["holds"], found["faces"], found["allowed_px"]) == (True, 4, 0.05)
    assert 0 <= found["mean_px"] <= found["p95_px"] <= found["largest_px"] < 1e-3


def test_the_golden_face_stays_here(slimalign: Command, place: Place, profile: Path, sshd: Sshd) -> None:
    assert (place.onnx / "golden.png").is_file()
    assert slimalign("parity", place.onnx, "--target", profile, "--faces", "1").status == 0
    (folder,) = (sshd.home / HOME / "bundles").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "model.onnx"]


def test_parity_fails_where_the_device_finds_something_else(
    slimalign: Command, place: Place, profile: Path, sshd: Sshd
) -> None:
    """The first point's x that its Python tells has one digit more."""
    python = sshd.home / "python"
    python.write_text(f'#!/bin/sh\n{sys.executable} "$@" | sed \'s/"points": \\[\\[\\[/&1/\'\n')
    python.chmod(0o755)
    done = slimalign("parity", place.onnx, "--target", profile, "--python", python, "--faces", "4")
    assert done.status == 1
    assert "NOT the same landmarks" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--target", "jetson-orin-nano"),
            "target jetson-orin-nano: its profile says not how to reach it; give ssh",
        ),
        (("--target", "ssh://-oProxyCommand=x@host"), "address 'ssh://-oProxyCommand=x@host' cannot be read"),
        (
            ("--target", "adb:R58M"),
            "adb:R58M: a phone has no Python; give the path of LiteRT's benchmark_model",
        ),
        (("--delegate", "gpu"), "--delegate is for bundles of format litert, these are onnx; leave it out"),
        (("--benchmark-model", "b"), "--benchmark-model b: name the phone, as in --target adb:SERIAL"),
        (("--target", "ssh://somebody@127.0.0.1:1"), "127.0.0.1:1: no ssh server listens there"),
    ],
)
def test_a_device_that_cannot_be_measured_on_is_told_in_one_line(
    slimalign: Command, place: Place, options: tuple[str, ...], said: str
) -> None:
    done = slimalign("bench", place.onnx, *options)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err
