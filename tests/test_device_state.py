"""The state of a machine and what is installed there: what the scripts for devices read, and when they give up."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adb_device import Manner, adb_server, connected

from slimalign.runtimes import device_state, installed
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.targets.address import shell_of
from slimalign.targets.android_state import android_state, battery, temperatures_c, thermal_status

SCRIPTS = [Path(module.__file__) for module in (device_state, installed)]
AFTER_3_6 = (
    r"capture_output|dataclass|importlib\.metadata|text=|check_output\(.*encoding|:=|removeprefix|nullcontext"
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_python_3_6_and_need_the_standard_library_alone(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(text, feature_version=(3, 6))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= set(sys.stdlib_module_names) - {"__future__", "dataclasses", "graphlib", "zoneinfo"}
    # Of the library, what came after 3.6 cannot be seen in the syntax.
    assert not re.search(AFTER_3_6, text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_run_alone_as_their_text_is_given_to_python(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=script.read_bytes(),
        check=True,
        capture_output=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.stderr == b""
    assert {"device_state.py": "temperatures_c", "installed.py": "packages"}[script.name] in json.loads(
        done.stdout
    )


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_clocks_heat_and_memory_are_read(tmp_path: Path) -> None:
    cpu, zone = "sys/devices/system/cpu/cpu", "sys/class/thermal/thermal_zone"
    write(
        tmp_path / "[root]",
        {
            f"{cpu}0/cpufreq/scaling_governor": "schedutil\n",
            f"{cpu}2/cpufreq/scaling_governor": "performance\n",
            f"{cpu}10/cpufreq/scaling_governor": "schedutil\n",
            f"{cpu}0/cpufreq/scaling_cur_freq": "729600\n",
            f"{cpu}2/cpufreq/scaling_cur_freq": "1510400\n",
            f"{cpu}10/cpufreq/scaling_cur_freq": "1344000\n",
            f"{cpu}idle/current_driver": "none\n",
            f"{zone}0/type": "CPU-therm\n",
            f"{zone}0/temp": "45500\n",
            f"{zone}1/type": "GPU-therm\n",
            f"{zone}1/temp": "nothing\n",
            f"{zone}10/type": "CPU-therm\n",
            f"{zone}10/temp": "-2000\n",
            f"{zone}2/temp": "30000\n",
            "proc/meminfo": "MemTotal:        7802948 kB\nMemFree: 1 kB\nMemAvailable:    4096000 kB\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        },
    )
    state = device_state.device_state(str(tmp_path / "[root]"))
    assert state["cpu"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert state["cpu_governors"] == ["performance", "schedutil"]
    assert state["cpu_mhz"] == [729.6, 1510.4, 1344.0]
    assert state["temperatures_c"] == {
        "CPU-therm": 45.5,
        "GPU-therm": UNKNOWN,
        UNKNOWN: 30.0,
        "CPU-therm-10": -2.0,
    }
    brief = device_state.brief_state(str(tmp_path / "[root]"))
    assert brief == {"hottest_c": 45.5, "fastest_mhz": 1510.4}
    assert state["memory_mb"] == {"total": 7620, "available": 4000}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", state["time"])
    json.dumps(state, allow_nan=False)


def test_what_a_machine_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = device_state.device_state(str(tmp_path))
    assert device_state.brief_state(str(tmp_path)) == {"hottest_c": None, "fastest_mhz": None}
    assert state.pop("memory_mb") == {"total": UNKNOWN, "available": UNKNOWN}
    assert {name for name, value in state.items() if value != UNKNOWN} <= {"time", "cpu", "load_average"}


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


# What the Jetson's tools write, as NVIDIA's documentation shows it.
NVPMODEL = "echo NV Fan Mode:quiet; echo NV Power Mode: MAXN_SUPER; echo 2"
TEGRASTATS = "while true; do echo 'RAM 2448/7772MB (lfb 4x4MB) CPU [1%@1190,2%@1190]'; sleep 0.05; done"


def test_a_jetsons_tools_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tool(tmp_path, "nvpmodel", NVPMODEL)
    tool(tmp_path, "jetson_clocks", "echo 'cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400'")
    tool(tmp_path, "tegrastats", TEGRASTATS)
    state = device_state.device_state()
    assert state["power_mode"] == "MAXN_SUPER"
    assert state["jetson_clocks"] == ["cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400"]
    assert state["tegrastats"] == "RAM 2448/7772MB (lfb 4x4MB) CPU [1%@1190,2%@1190]"


def test_tools_that_fail_hang_or_need_root_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(device_state, "TOOL_SECONDS", 0.3)
    tool(tmp_path, "nvpmodel", f"{NVPMODEL}; exec sleep 60")
    tool(tmp_path, "jetson_clocks", "echo must be run as root; exit 1")
    tool(tmp_path, "tegrastats", "sleep 60 & printf 'half a line'; wait")
    state = device_state.device_state()
    assert [state[name] for name in ("power_mode", "jetson_clocks", "tegrastats")] == [UNKNOWN] * 3


def test_installed_packages_are_found_with_their_versions(tmp_path: Path) -> None:
    (tmp_path / "tflite_runtime").mkdir()
    write(
        tmp_path,
        {
            "tflite_runtime/__init__.py": "__version__ = '2.14.0'\n",
            "tensorrt.py": "raise ImportError('libnvinfer.so.8: cannot open shared object file')\n",
            "torch.py": "raise AssertionError('imported')\n",
            "torch-2.1.0-py3.6.egg-info": "",
            "Onnx_Runtime-9.dist-info/METADATA": "",
            "h5py/a-folder-without-code": "",
        },
    )
    done = subprocess.run(
        [sys.executable, "-S", "-"],  # without the packages of this Python
        input=SCRIPTS[1].read_bytes(),
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    found = json.loads(done.stdout)["packages"]
    assert found == {"tflite_runtime": "2.14.0", "tensorrt": UNKNOWN, "torch": "2.1.0"}


def test_this_machines_packages_are_told() -> None:
    found = installed.installed()
    assert found["packages"]["numpy"] == np.__version__
    assert "CPUExecutionProvider" in found["onnxruntime_providers"]
    assert found["python"] == sys.version.split()[0]


# What dumpsys writes, put together from Android's sources and not recorded from a device.
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  level: 42
  scale: 50
  temperature: 287
"""
THERMAL = """IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=CPU0, mStatus=3}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=45.25, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=-1.5, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=tpu_cooling}
"""


def test_what_dumpsys_tells_is_read() -> None:
    assert battery(BATTERY) == {
        "level_percent": 84.0,
        "status": "charging",
        "temperature_c": 28.7,
        "powered_by": ["USB"],
    }
    assert battery("") == dict.fromkeys(("level_percent", "status", "temperature_c", "powered_by"), UNKNOWN)
    assert battery(BATTERY.replace("true", "false"))["powered_by"] == []
    assert (thermal_status(THERMAL), thermal_status("")) == ("moderate", UNKNOWN)
    assert thermal_status("Thermal Status: 9") == UNKNOWN
    assert temperatures_c(THERMAL) == {"CPU0": 45.25, "VIRTUAL-SKIN": -1.5}
    assert temperatures_c("Cached temperatures:\n\tTemperature{mValue=1, mType=0, mName=a}") == UNKNOWN


def test_an_android_device_is_asked_for_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "battery").write_text(BATTERY)
    tool(tools, "dumpsys", f"[ $1 = battery ] && cat {tools}/battery")
    tool(tools, "getprop", "[ $1 = ro.product.model ] && echo 'Pixel 8'")
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    with adb_server(tmp_path, monkeypatch) as adb, connected(adb, tmp_path / "device", Manner()) as device:
        shell = shell_of(f"adb:{device.serial}")
        assert shell is not None
        state = android_state(shell)
    assert (state["model"], state["abi"]) == ("Pixel 8", UNKNOWN)
    assert state["battery"]["temperature_c"] == 28.7
    assert (state["thermal_status"], state["temperatures_c"]) == (UNKNOWN, UNKNOWN)
