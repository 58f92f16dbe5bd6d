"""The state of this machine as far as it bears on its speed: clocks, heat, power mode, load, memory.

This file also runs on devices, alone: its syntax and what it uses of the standard library are those of Python 3.6.

    python3 device_state.py            prints the state as JSON

What cannot be read is ``unknown``. Nothing is waited for longer than a few seconds, and nothing needs root, though
jetson_clocks tells more to it.
"""

import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Union

UNKNOWN = "unknown"
TOOL_SECONDS = 5.0
"""How long a tool may take before it is ended; tegrastats, which never ends, is ended after its first line."""
ADMIN_FOLDERS = "/usr/sbin:/sbin"
"""Where the Jetson's tools are; not every user has them on the path."""
CPUS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"


def device_state(root: str = "/") -> Dict[str, Any]:
    """What can be read now, ready for JSON; files are those below the folder ``root``.

    ``cpu_governors`` are those in use, ``cpu_mhz`` the clock of each core, ``temperatures_c`` those of the thermal
    zones by their names, ``load_average`` that of 1, 5 and 15 minutes, ``power_mode`` the name that nvpmodel tells,
    ``jetson_clocks`` the lines that it shows, ``tegrastats`` one line of it, and ``time`` is ISO 8601 in UTC.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(root),
        "cpu_governors": cpu_governors(root),
        "cpu_mhz": cpu_mhz(root),
        "temperatures_c": temperatures_c(root),
        "load_average": load_average(),
        "memory_mb": memory_mb(root),
        "power_mode": power_mode(),
        "jetson_clocks": lines_of(["jetson_clocks", "--show"]),
        "tegrastats": tegrastats(),
    }


def brief_state(root: str = "/") -> Dict[str, Any]:
    """What tells in no time whether the machine slows itself down, of the hottest zone and the fastest core.

    ``hottest_c`` in degrees Celsius and ``fastest_mhz``; None where it is not told.
    """
    zones, clocks = temperatures_c(root), cpu_mhz(root)
    degrees = [value for value in zones.values() if value != UNKNOWN] if isinstance(zones, dict) else []
    return {
        "hottest_c": max(degrees) if degrees else None,
        "fastest_mhz": max(clocks) if isinstance(clocks, list) else None,
    }


def read_text(path: str) -> Optional[str]:
    """What the file ``path`` holds, without the ends; None where it cannot be read or holds nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ") or None
    except OSError:
        return None


def below(root: str, pattern: str) -> List[str]:
    """The paths below ``root`` that match ``pattern``, those with smaller numbers first."""
    found = glob.glob(os.path.join(glob.escape(root), pattern.lstrip("/")))
    return sorted(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path[len(root) :])])


def cpu_model(root: str = "/") -> str:
    """The processor's or the board's name."""
    board = read_text(os.path.join(root, "proc/device-tree/model"))
    if board is not None:
        return board
    lines = (read_text(os.path.join(root, "proc/cpuinfo")) or "").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware"))]
    return next((name for name in names if name), platform.processor() or UNKNOWN)


def cpu_governors(root: str = "/") -> Union[str, List[str]]:
    """How the kernel sets the clocks, each way named once."""
    found = [read_text(path) for path in below(root, CPUS + "/scaling_governor")]
    return sorted({name for name in found if name}) or UNKNOWN


def cpu_mhz(root: str = "/") -> Union[str, List[float]]:
    """The clock of each core that tells it, the first core first."""
    found = [number(read_text(path)) for path in below(root, CPUS + "/scaling_cur_freq")]
    return [kilohertz / 1000 for kilohertz in found if kilohertz is not None] or UNKNOWN


def temperatures_c(root: str = "/") -> Union[str, Dict[str, Union[str, float]]]:
    """Degrees Celsius by the names of the zones; a name that several have gets the zone's number."""
    found = {}  # type: Dict[str, Union[str, float]]
    for zone in below(root, "/sys/class/thermal/thermal_zone*"):
        name = read_text(os.path.join(zone, "type")) or UNKNOWN
        if name in found:
            name += "-" + zone[zone.rindex("zone") + 4 :]
        thousandths = number(read_text(os.path.join(zone, "temp")))
        found[name] = UNKNOWN if thousandths is None else thousandths / 1000
    return found or UNKNOWN


def load_average() -> Union[str, List[float]]:
    """Processes that run or want to, on average over 1, 5 and 15 minutes."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):  # Windows has none
        return UNKNOWN


def memory_mb(root: str = "/") -> Dict[str, Union[str, float]]:
    """``total``, and ``available`` without swapping."""
    text = read_text(os.path.join(root, "proc/meminfo")) or ""
    found = {}  # type: Dict[str, Union[str, float]]
    for entry, name in (("MemTotal", "total"), ("MemAvailable", "available")):
        line = re.search(r"^%s:\s*(\d+) kB" % entry, text, re.M)
        found[name] = UNKNOWN if line is None else int(line.group(1)) // 1024
    return found


def power_mode() -> str:
    """The name of a Jetson's power mode."""
    lines = lines_of(["nvpmodel", "-q"])
    found = re.search(
        r"^NV Power Mode:[ \t]*(.+)$", "\n".join(lines) if isinstance(lines, list) else "", re.M
    )
    return UNKNOWN if found is None else found.group(1).strip()


def tegrastats() -> str:
    """One line of a Jetson's load, clocks and heat."""
    lines = lines_of(["tegrastats", "--interval", "200"], endless=True)
    return lines[0] if isinstance(lines, list) else UNKNOWN


def number(text: Optional[str]) -> Optional[int]:
    """The whole number that ``text`` is."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def lines_of(command: List[str], endless: bool = False) -> Union[str, List[str]]:
    """The lines that a tool writes, or of an endless one the first; ``unknown`` where it is missing or fails."""
    path = shutil.which(command[0]) or shutil.which(command[0], path=ADMIN_FOLDERS)
    if path is None:
        return UNKNOWN
    try:
        # A file: who reads a pipe to its end waits for what the tool has started, too.
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                [path] + command[1:],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            done = watched(process, out.fileno(), endless)
            out.seek(0)
            lines = out.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return UNKNOWN
    return (lines[:1] if endless else lines) if done and lines else UNKNOWN


def watched(process: "subprocess.Popen[bytes]", out: int, endless: bool) -> bool:
    """Wait until the tool has ended, or with ``endless`` has written a line to ``out``; whether it did in time."""
    end = time.monotonic() + TOOL_SECONDS
    done = False
    while not done and time.monotonic() < end and process.poll() is None:
        done = endless and b"\n" in os.pread(out, 65536, 0)
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it hangs in the kernel
            return False
        return done
    return process.returncode == 0


if __name__ == "__main__":
    json.dump(device_state(), sys.stdout)
    sys.stdout.write("\n")
