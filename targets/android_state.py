"""The state of an Android device as far as it bears on its speed: heat, battery, clocks."""

from __future__ import annotations

import re
from typing import Any

from slimalign.runtimes.device_state import UNKNOWN
from slimalign.targets.shell import Shell

_CPUS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
_ASKED = {
    "time": "date -u +%Y-%m-%dT%H:%M:%SZ",
    "android": "getprop ro.build.version.release",
    "model": "getprop ro.product.model",
    "cpu": "getprop ro.soc.model",
    "abi": "getprop ro.product.cpu.abi",
    "governors": f"cat {_CPUS}/scaling_governor",
    "kilohertz": f"cat {_CPUS}/scaling_cur_freq",
    "battery": "dumpsys battery",
    "thermal": "dumpsys thermalservice",
}
_MARK = "slimalign-next-"
# BatteryManager.BATTERY_STATUS_* and PowerManager.THERMAL_STATUS_* of Android's API.
_BATTERY = {1: UNKNOWN, 2: "charging", 3: "discharging", 4: "not charging", 5: "full"}
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def android_state(shell: Shell) -> dict[str, Any]:
    """What can be read now, ready for JSON; what cannot is ``unknown``. Raises what ``shell`` does.

    ``battery`` has ``level_percent``, ``status``, ``temperature_c`` and ``powered_by``; ``thermal_status`` is how
    far the device throttles, ``none`` to ``shutdown``, and ``temperatures_c`` are those of its sensors by name. The
    other entries are those of ``device_state``, and the device's ``model``, ``abi`` and version of ``android``.
    """
    asked = [f"echo {_MARK}{name}; {command} 2>/dev/null" for name, command in _ASKED.items()]
    told = _parts(shell.run("; ".join([*asked, "true"])))
    plain = {name: told[name].strip() or UNKNOWN for name in ("time", "android", "model", "cpu", "abi")}
    return {
        **plain,
        "cpu_governors": sorted(set(told["governors"].split())) or UNKNOWN,
        "cpu_mhz": [int(word) / 1000 for word in told["kilohertz"].split() if word.isdigit()] or UNKNOWN,
        "battery": battery(told["battery"]),
        "thermal_status": thermal_status(told["thermal"]),
        "temperatures_c": temperatures_c(told["thermal"]),
    }


def battery(text: str) -> dict[str, Any]:
    """What ``dumpsys battery`` tells; its temperature is in tenths of a degree."""
    level, scale, status, tenths = (
        _number(text, name) for name in ("level", "scale", "status", "temperature")
    )
    powered = re.findall(r"^\s*(\w+) powered: true", text, re.M)
    return {
        "level_percent": UNKNOWN if level is None or not scale else 100 * level / scale,
        "status": UNKNOWN if status is None else _BATTERY.get(status, UNKNOWN),
        "temperature_c": UNKNOWN if tenths is None else tenths / 10,
        "powered_by": powered if " powered: " in text else UNKNOWN,
    }


def thermal_status(text: str) -> str:
    """How far the device throttles, by ``dumpsys thermalservice``, which is there from Android 10 on."""
    number = _number(text, "Thermal Status")
    return UNKNOWN if number is None or number >= len(_THERMAL) else _THERMAL[number]


def temperatures_c(text: str) -> dict[str, float] | str:
    """The sensors that ``dumpsys thermalservice`` reads anew; those it has kept are old."""
    _, _, current = text.partition("Current temperatures from HAL:")
    current, _, _ = current.partition("Current cooling devices")
    found = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=\d+, mName=([^,}]+)", current)
    return {name: float(value) for value, name in found} or UNKNOWN


def _parts(text: str) -> dict[str, str]:
    """What each of ``_ASKED`` told."""
    told = dict.fromkeys(_ASKED, "")
    for part in text.split(_MARK)[1:]:
        name, _, rest = part.partition("\n")
        told[name] = rest
    return told


def _number(text: str, name: str) -> int | None:
    found = re.search(rf"^\s*{name}: (\d+)\s*$", text, re.M)
    return None if found is None else int(found[1])
