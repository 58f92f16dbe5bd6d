"""What `slimalign doctor` tells of this machine and of devices: a real sshd, a real adb, a real ARM Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from adb_device import Manner, adb_server, connected
from arm64 import arm64_python
from command_line.place import Command
from sshd import Sshd, running_sshd

from slimalign import doctor as roof
from slimalign.targets.address import SSH_CONFIG
from slimalign.targets.profile import PROFILES

RUN_ONNX, RUN_LITERT, RUN_TENSORRT = (
    f"run {name} bundles" for name in ("ONNX Runtime", "LiteRT", "TensorRT")
)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(autouse=True)
def _its_ssh_configuration(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "sshd" in request.fixturenames:
        monkeypatch.setenv(SSH_CONFIG, str(request.getfixturevalue("sshd").config))


def possible(machine: dict) -> dict[str, bool]:
    return {check["what"]: check["possible"] for check in machine["checks"]}


def test_this_machine_is_told_with_all_that_it_can_do(slimalign: Command) -> None:
    document = slimalign("doctor", "--json").json
    assert (document["target"], document["device"]) == (None, None)
    here = document["here"]
    assert {"numpy", "cv2", "torch", "onnxruntime"} <= set(here["installed"]["packages"])
    assert set(here["state"]) >= {"temperatures_c", "power_mode", "cpu_governors"}
    assert possible(here)[RUN_ONNX]
    assert possible(here)["export to LiteRT"]
    assert possible(here)[RUN_TENSORRT] == (here["installed"]["gpu"] is not None)
    lines = slimalign("doctor").out.splitlines()
    assert lines[0].startswith("this machine: Python 3.")
    assert any(line.split()[:4] == ["yes", "run", "LiteRT", "bundles"] for line in lines)


def test_what_is_missing_comes_with_the_line_that_mends_it(
    slimalign: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {"packages": {"numpy": "2.0", "cv2": "4.8"}, "programs": {}, "gpu": None}
    monkeypatch.setattr(roof.installed, "installed", lambda: bare)
    checks = {check["what"]: check for check in slimalign("doctor", "--json").json["here"]["checks"]}
    assert checks[RUN_ONNX] == {
        "what": RUN_ONNX,
        "possible": False,
        "missing": ["onnxruntime"],
        "mend": "run pip install 'slimalign[onnxruntime]'",
    }
    assert checks[RUN_LITERT]["missing"] == ["ai_edge_litert or tflite_runtime"]
    assert checks["export to LiteRT"]["mend"] == "run pip install 'slimalign[export]'"
    assert checks["reach Android devices"]["mend"].endswith("apt-get install adb")
    assert "run pip install 'slimalign[onnxruntime]'" in slimalign("doctor").out


def profile(folder: Path, address: str, **others: str) -> Path:
    """A user's own profile of an ARM machine."""
    lines = {"address": address, **others}
    path = folder / "my-board.toml"
    shipped = (PROFILES / "linux-arm64.toml").read_text()
    path.write_text(shipped + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return path


def test_a_device_of_another_architecture_is_asked_by_its_own_python(
    slimalign: Command, sshd: Sshd, tmp_path: Path
) -> None:
    path = profile(tmp_path, sshd.address, python=str(arm64_python()))
    device = slimalign("doctor", "--target", path, "--json").json["device"]
    assert device["address"] == sshd.address
    assert device["installed"]["machine"] == "aarch64"
    assert device["installed"]["packages"]["ai_edge_litert"] == "2.3.0"
    assert possible(device) == {RUN_ONNX: True, RUN_LITERT: True}


def test_a_device_on_which_nothing_runs_ends_with_status_1(
    slimalign: Command, sshd: Sshd, tmp_path: Path
) -> None:
    python = sshd.home / "bare python3"
    python.write_text('#!/bin/sh\nexec python3 -S "$@"\n')  # one without packages
    python.chmod(0o755)
    done = slimalign("doctor", "--target", profile(tmp_path, sshd.address, python=str(python)))
    assert (done.status, done.err) == (1, "")
    told = slimalign("doctor", "--target", profile(tmp_path, sshd.address, python=str(python)), "--json").out
    mends = [check["mend"] for check in json.loads(told)["device"]["checks"]]
    made = "-m venv venv && venv/bin/pip install numpy onnxruntime, then give --python venv/bin/python"
    assert f"on the device run {python} {made}" in mends


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (
            "no-such-python",
            'no-such-python is not there; name its Python by --python, or as python = "..." in a profile',
        ),
        ("echo", "echo printed something else than was asked; name another"),
    ],
)
def test_a_python_that_is_none_is_told(
    slimalign: Command, sshd: Sshd, tmp_path: Path, python: str, said: str
) -> None:
    done = slimalign("doctor", "--target", profile(tmp_path, sshd.address, python=python))
    assert (done.status, done.out) == (2, "")
    assert done.err == f"slimalign: {sshd.address}: {said}\n"


def test_an_android_device_is_asked_for_its_state(
    slimalign: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with adb_server(tmp_path, monkeypatch) as adb, connected(adb, tmp_path / "device", Manner()) as device:
        document = slimalign("doctor", "--target", f"adb:{device.serial}", "--json").json
    assert document["device"]["state"]["battery"]["level_percent"] == "unknown"
    assert possible(document["device"]) == {"run LiteRT bundles by benchmark_model, which you name": True}


def test_a_target_without_an_address_is_told_how_to_get_one(slimalign: Command) -> None:
    done = slimalign("doctor", "--target", "orin-nano")
    assert done.status == 0
    said = 'orin-nano has no address; copy its profile and add one, as address = "ssh://user@host"'
    assert done.out.splitlines()[-1] == said


def test_a_wrong_address_is_shown_as_it_was_given(slimalign: Command) -> None:
    done = slimalign("doctor", "--target", "ssh://a:x:b")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("slimalign: address 'ssh://a:x:b' cannot be read; ")
