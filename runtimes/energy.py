"""The power that a machine draws, where a rail tells it. Python 3.6 syntax, see session.py.

Read are the counters of RAPL (microjoules), and of INA3221 and other sensors the power, or voltage and current. A rail
is chosen that stands for the whole machine, in this order:

1. a rail with one of the names in WHOLE_BOARD;
2. all of the processor's packages together, as RAPL counts them: ``package-0``, or ``package-0+package-1``;
3. a sensor that is there to measure power, POWER_CHIPS, where it is the only one.

Rails of a part, such as a core's or a GPU's, are not taken: what they lack would look like thrift.
"""

import os
import threading
import time
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

from slimalign.runtimes.device_state import below, number, read_text

WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
"""Names of the rails of a Jetson through which all of its power comes."""
POWER_CHIPS = ("ina", "power_meter")
"""How the names of such sensors in hwmon begin: TI's INA219, INA226 and INA3221, and a server's own meter."""
POWERCAP = "/sys/class/powercap"
LOOK_AGAIN_S = 0.01


class Spent(NamedTuple):
    """What a rail gave over a time."""

    joules: float
    seconds: float

    @property
    def watts(self) -> float:
        """On average."""
        return self.joules / self.seconds


class Counted:
    """A rail whose joules the machine counts: pairs of a counter's file and the microjoules at which it begins anew."""

    def __init__(self, name: str, counters: Sequence[Tuple[str, int]]):
        self.name = name
        self._counters = counters

    def measure(self, work: Callable[[], object]) -> Optional[Spent]:
        """What it gave while ``work`` was done, which must not take so long that a counter begins anew twice.

        None where it cannot be read.
        """
        began, before = time.perf_counter(), self._read()
        work()
        after, seconds = self._read(), time.perf_counter() - began
        if before is None or after is None:
            return None
        ranges = [most for _, most in self._counters]
        spent = [(last - first) % most for first, last, most in zip(before, after, ranges)]
        return Spent(sum(spent) / 1e6, seconds)

    def _read(self) -> Optional[List[int]]:
        found = [number(read_text(path)) for path, _ in self._counters]
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else None


class Gauged:
    """A rail whose power is read again and again: the product of what is in ``files``, in parts of a watt."""

    def __init__(self, name: str, files: Sequence[str], parts: float):
        self.name = name
        self._files, self._parts = files, parts

    def watts(self) -> Optional[float]:
        """Its power now; None where it cannot be read."""
        found = 1.0
        for path in self._files:
            value = number(read_text(path))
            if value is None:
                return None
            found *= value
        return found / self._parts

    def measure(self, work: Callable[[], object]) -> Optional[Spent]:
        """What it gave while ``work`` was done; None where it cannot be read."""
        seen: "List[Tuple[float, float]]" = []
        over = threading.Event()
        watching = threading.Thread(target=self._watch, args=(seen, over))
        began = time.perf_counter()
        watching.start()
        try:
            work()
        finally:
            over.set()
            watching.join()
        seconds = time.perf_counter() - began
        return None if not seen else Spent(_mean(seen) * seconds, seconds)

    def _watch(self, seen: "List[Tuple[float, float]]", over: threading.Event) -> None:
        while not over.is_set():
            value = self.watts()
            if value is not None:
                seen.append((time.perf_counter(), value))
            over.wait(LOOK_AGAIN_S)


Rail = Union[Counted, Gauged]


def find_rail(root: str = "/") -> Optional[Rail]:
    """The rail of this machine, below the folder ``root``; None where none is, or none that may be read."""
    gauges = _gauges(root)
    for name in WHOLE_BOARD:
        for gauge in gauges:
            if gauge.name == name:
                return gauge
    packages = _packages(root)
    if packages is not None:
        return packages
    meters = [gauge for gauge in gauges if gauge.name.startswith(POWER_CHIPS)]
    return meters[0] if len(meters) == 1 else None


def _packages(root: str) -> Optional[Counted]:
    names, counters = [], []
    # Where RAPL can be read in two ways, all packages are in the first.
    zones = below(root, f"{POWERCAP}/intel-rapl:*") + below(root, f"{POWERCAP}/intel-rapl-mmio:*")
    for zone in zones:
        name = read_text(os.path.join(zone, "name")) or ""
        path = os.path.join(zone, "energy_uj")
        most = number(read_text(os.path.join(zone, "max_energy_range_uj")))
        if name.startswith("package-") and name not in names and most and number(read_text(path)) is not None:
            names.append(name)
            counters.append((path, most))
    return Counted("+".join(names), counters) if names else None


def _gauges(root: str) -> List[Gauged]:
    """The rails that tell their power: by their names, or by their sensor's where they have none."""
    found = []
    for path in below(root, "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
        # As JetPack 4 has them: milliwatts.
        power = path.replace("rail_name_", "in_power") + "_input"
        found.append(Gauged(read_text(path) or "", [power], 1e3))
    for chip in below(root, "/sys/class/hwmon/hwmon*"):
        name = read_text(os.path.join(chip, "name")) or ""
        for power in below(chip, "/power*_input") + below(chip, "/power*_average"):
            label = read_text(power[: power.rindex("_")] + "_label")
            found.append(Gauged(label or name, [power], 1e6))  # microwatts
        for current in below(chip, "/curr*_input"):
            voltage = os.path.join(chip, os.path.basename(current).replace("curr", "in"))
            label = read_text(voltage[: voltage.rindex("_")] + "_label")
            found.append(Gauged(label or name, [voltage, current], 1e6))  # millivolts and milliamperes
    return [gauge for gauge in found if gauge.watts() is not None]


def _mean(seen: "Sequence[Tuple[float, float]]") -> float:
    """The mean over time of (seconds, watts), straight between neighbours."""
    if len(seen) == 1:
        return seen[0][1]
    area = sum(
        (later - sooner) * (first + last) / 2 for (sooner, first), (later, last) in zip(seen, seen[1:])
    )
    return area / (seen[-1][0] - seen[0][0])
