"""Rails found in folders of files, and what they give by arithmetic."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slimalign.runtimes.energy import Counted, Gauged, find_rail

RAPL, HWMON = "sys/class/powercap", "sys/class/hwmon"


def write(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def package(number: int, energy_uj: int = 0, range_uj: int = 1_000_000) -> dict[str, object]:
    zone = f"{RAPL}/intel-rapl:{number}"
    return {
        f"{zone}/name": f"package-{number}",
        f"{zone}/energy_uj": energy_uj,
        f"{zone}/max_energy_range_uj": range_uj,
    }


def channel(chip: int, number: int, label: str, millivolts: int, milliamperes: int) -> dict[str, object]:
    folder = f"{HWMON}/hwmon{chip}"
    return {
        f"{folder}/name": "ina3221",
        f"{folder}/in{number}_label": label,
        f"{folder}/in{number}_input": millivolts,
        f"{folder}/curr{number}_input": milliamperes,
    }


def test_a_board_whose_rails_are_told_gives_the_one_that_all_comes_through(tmp_path: Path) -> None:
    rails = {**channel(3, 1, "VDD_CPU", 5000, 100), **channel(3, 2, "VDD_IN", 5072, 1500)}
    rail = find_rail(str(write(tmp_path, {**rails, **package(0)})))
    assert isinstance(rail, Gauged)
    assert rail.name == "VDD_IN"
    assert rail.watts() == pytest.approx(5.072 * 1.5)


def test_a_jetson_of_jetpack_4_tells_milliwatts(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rails = {f"{folder}/rail_name_0": "POM_5V_IN", f"{folder}/in_power0_input": 2345}
    parts = {f"{folder}/rail_name_1": "POM_5V_GPU", f"{folder}/in_power1_input": 40}
    rail = find_rail(str(write(tmp_path, {**parts, **rails})))
    assert isinstance(rail, Gauged)
    assert (rail.name, rail.watts()) == ("POM_5V_IN", pytest.approx(2.345))


def test_all_packages_count_together_and_a_core_is_none(tmp_path: Path) -> None:
    core = {f"{RAPL}/intel-rapl:0:0/name": "core", f"{RAPL}/intel-rapl:0:0/energy_uj": 5}
    twice = {name.replace("intel-rapl:", "intel-rapl-mmio:"): text for name, text in package(0).items()}
    root = write(tmp_path, {**package(0), **package(1), **core, **twice})
    rail = find_rail(str(root))
    assert isinstance(rail, Counted)
    assert rail.name == "package-0+package-1"

    def work() -> None:
        write(root, {**package(0, 250_000), **package(1, 500_000)})
        time.sleep(0.01)

    spent = rail.measure(work)
    assert spent is not None
    assert spent.joules == pytest.approx(0.75)
    assert spent.watts == pytest.approx(0.75 / spent.seconds)


def test_a_counter_that_begins_anew_goes_on_counting(tmp_path: Path) -> None:
    root = write(tmp_path, package(0, 900_000, 1_000_000))
    rail = find_rail(str(root))
    assert rail is not None
    spent = rail.measure(lambda: write(root, package(0, 150_000, 1_000_000)))
    assert spent is not None
    assert spent.joules == pytest.approx(0.25)


@contextmanager
def advancing(path: Path, watts: float) -> Iterator[None]:
    """A counter of microjoules that goes on at a known rate."""
    over, began = threading.Event(), time.perf_counter()

    def write_on() -> None:
        while not over.is_set():
            beside = path.with_name("beside")
            beside.write_text(f"{round(1e6 * watts * (time.perf_counter() - began))}\n")
            os.replace(beside, path)
            over.wait(0.001)

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_counter_at_a_known_rate_gives_its_watts(tmp_path: Path) -> None:
    root = write(tmp_path, package(0, 0, 10**12))
    rail = find_rail(str(root))
    assert rail is not None
    with advancing(root / f"{RAPL}/intel-rapl:0/energy_uj", watts=40.0):
        spent = rail.measure(lambda: time.sleep(1.0))
    assert spent is not None
    assert spent.seconds >= 1.0
    # On a busy machine the writer may be late.
    assert spent.watts == pytest.approx(40.0, rel=0.5)


def test_power_that_changes_is_averaged_over_time(tmp_path: Path) -> None:
    power = f"{HWMON}/hwmon0/power1_input"
    root = write(tmp_path, {f"{HWMON}/hwmon0/name": "ina226", power: 2_000_000})
    rail = find_rail(str(root))
    assert rail is not None
    assert rail.name == "ina226"

    def work() -> None:
        time.sleep(0.3)
        (root / "beside").write_text("6000000\n")
        os.replace(root / "beside", root / power)
        time.sleep(0.3)

    spent = rail.measure(work)
    assert spent is not None
    assert 2.0 < spent.watts < 6.0
    steady = rail.measure(lambda: time.sleep(0.05))
    assert steady is not None
    assert steady.watts == pytest.approx(6.0)
    assert steady.joules == pytest.approx(6.0 * steady.seconds)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {f"{RAPL}/intel-rapl:0:0/name": "core", f"{RAPL}/intel-rapl:0:0/energy_uj": 5},
        {f"{RAPL}/intel-rapl:0/name": "package-0", f"{RAPL}/intel-rapl:0/max_energy_range_uj": 9},
        {**channel(0, 1, "VDD_CPU", 5000, 100), **channel(0, 2, "VDD_GPU", 5000, 100)},
        {f"{HWMON}/hwmon0/name": "amdgpu", f"{HWMON}/hwmon0/power1_input": 9_000_000},
        {**channel(0, 1, "VDD_IN", 5000, 100), f"{HWMON}/hwmon0/curr1_input": "nothing"},
    ],
    ids=[
        "nothing",
        "a core",
        "a counter for root alone",
        "parts of a board",
        "a graphics card",
        "unreadable",
    ],
)
def test_without_a_rail_for_the_whole_there_is_none(tmp_path: Path, files: dict[str, object]) -> None:
    assert find_rail(str(write(tmp_path, files))) is None


def test_a_rail_that_goes_away_tells_nothing(tmp_path: Path) -> None:
    root = write(tmp_path, package(0))
    rail = find_rail(str(root))
    assert rail is not None
    assert rail.measure((root / f"{RAPL}/intel-rapl:0/energy_uj").unlink) is None
