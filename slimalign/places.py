"""Where bundles are measured: on this machine, on a device reached by ssh, or on a phone reached by adb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from slimalign.benchmarks.accuracy import Finder
from slimalign.benchmarks.device_latency import check_runs_on_devices, sweep_on
from slimalign.benchmarks.gathering import Aside, Progress
from slimalign.benchmarks.latency import Wanted, sweep_here
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.phone import Phone, PhoneFinder
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.timing import Record
from slimalign.targets.address import ADB, LOCAL, is_address, shell_of
from slimalign.targets.device_aligner import DeviceAligner
from slimalign.targets.device_job import Device, check_python
from slimalign.targets.profile import target_named
from slimalign.targets.shell import Shell
from slimalign.targets.target import PYTHON, at_home

Finding = Callable[[Bundle], AbstractContextManager[Finder]]
"""Gives what finds landmarks with a bundle somewhere."""


@dataclass(frozen=True)
class Where:
    """What users say of the machine to measure on.

    ``target`` is ``local``, ``ssh://user@host``, ``adb:SERIAL``, or a profile that says how it is reached; ``python``
    is the interpreter there, by default the one that the profile names, or ``python3``; ``benchmark_model`` is
    LiteRT's program for a phone; each of ``backends`` says what of a runtime computes, landmarks are found by the
    first. ``note`` is told what they had better know meanwhile. ``results`` is the file that records go to: beside it
    is kept what a sweep on this machine has found so far.
    """

    target: str = LOCAL
    python: str | None = None
    benchmark_model: Path | None = None
    backends: Sequence[Backend] = (DEFAULT_BACKEND,)
    note: Callable[[str], None] = lambda text: None
    results: Path | None = None


class Place(Protocol):
    """A machine on which slimalign itself measures, and finds landmarks."""

    def check(self) -> None:
        """Raise UserError, or LineDroppedError, where it cannot be reached."""
        ...

    def sweep(self, wanted: Wanted, progress: Progress, aside: Aside) -> list[Record]:
        """Latency of what is wanted, see slimalign.benchmarks.latency."""
        ...

    def finding(self, bundle: Bundle) -> AbstractContextManager[Finder]:
        """What finds landmarks with ``bundle`` there, on all cores."""
        ...


@dataclass(frozen=True)
class ThisMachine:
    """The machine that slimalign runs on; a sweep that was broken off goes on from what it kept beside ``results``."""

    backends: Sequence[Backend] = (DEFAULT_BACKEND,)
    results: Path | None = None

    def check(self) -> None:
        """It is always there."""

    def sweep(self, wanted: Wanted, progress: Progress, aside: Aside) -> list[Record]:
        """Latency of what is wanted, see slimalign.benchmarks.latency."""
        return sweep_here(wanted, self.backends, aside, self.results, progress)

    @contextmanager
    def finding(self, bundle: Bundle) -> Iterator[Finder]:
        """What finds landmarks with ``bundle`` here, on all cores."""
        with open_bundle(bundle, None, self.backends[0]) as session:
            yield Aligner(session)


THIS_MACHINE = ThisMachine()


@dataclass(frozen=True)
class ReachedDevice:
    """A device on which the agent works."""

    device: Device
    backends: Sequence[Backend] = (DEFAULT_BACKEND,)

    def check(self) -> None:
        """Raise UserError, or LineDroppedError, where it cannot be reached or its Python is not there."""
        check_python(self.device)

    def sweep(self, wanted: Wanted, progress: Progress, aside: Aside) -> list[Record]:
        """Latency of what is wanted, see slimalign.benchmarks.device_latency."""
        return sweep_on(self.device, wanted, self.backends, progress, aside)

    @contextmanager
    def finding(self, bundle: Bundle) -> Iterator[Finder]:
        """What finds landmarks with ``bundle`` there, on all cores."""
        check_runs_on_devices(bundle)
        finder = DeviceAligner(self.device, bundle, None, self.backends[0])
        yield finder
        finder.clear()


@dataclass(frozen=True)
class _Reached:
    """A target found: the way to it, None for this machine, and its Python."""

    address: str
    shell: Shell | None
    python: str

    @property
    def is_phone(self) -> bool:
        """Whether it has no Python."""
        return self.address.startswith(ADB)


def _address_and_python(target: str) -> tuple[str, str]:
    if is_address(target):
        return target, PYTHON
    profile = target_named(target)
    if profile.address is None:
        raise UserError(
            f"target {profile.name}: its profile says not how to reach it; give ssh://user@host, or a profile of"
            " your own with an address"
        )
    return profile.address, profile.python


def each_where(wheres: Sequence[Where]) -> list[Where]:
    """Several machines in place of one: LiteRT's program is for the phones among them.

    Raises UserError where one of them cannot be a target; nothing is sent to any of them.
    """
    phones = [where.target for where in wheres if _address_and_python(where.target)[0].startswith(ADB)]
    found = [
        replace(where, benchmark_model=None) if phones and where.target not in phones else where
        for where in wheres
    ]
    for where in found:
        _reached(where)
    return found


def _reached(where: Where) -> _Reached:
    address, python = _address_and_python(where.target)
    found = _Reached(address, shell_of(address), at_home(where.python or python))
    if where.benchmark_model is not None and not found.is_phone:
        raise UserError(
            f"--benchmark-model {where.benchmark_model}: name the phone, as in --target adb:SERIAL"
        )
    if where.benchmark_model is None and found.is_phone:
        raise UserError(
            f"{address}: a phone has no Python; give the path of LiteRT's benchmark_model for it by --benchmark-model"
        )
    return found


def place_at(where: Where) -> Place | Phone:
    """The machine to measure on, which is a phone where one is named."""
    found = _reached(where)
    if found.shell is None:
        return ThisMachine(where.backends, where.results)
    if found.is_phone and where.benchmark_model is not None:
        return Phone(found.shell, where.benchmark_model, _only_delegate(where))
    return ReachedDevice(Device(found.shell, found.python, where.note), where.backends)


def _only_delegate(where: Where) -> str:
    if len(where.backends) > 1:
        raise UserError(f"{where.target}: benchmark_model measures one delegate at a time; give a single one")
    return where.backends[0].delegate


def finding_at(where: Where) -> Finding:
    """What finds landmarks with a bundle on the machine to measure on."""
    place = place_at(where)
    return partial(_finding_on, place) if isinstance(place, Phone) else place.finding


@contextmanager
def _finding_on(phone: Phone, bundle: Bundle) -> Iterator[Finder]:
    phone.check_runs(bundle)
    with LiteRtSession(bundle, 1) as session:
        yield PhoneFinder(phone, bundle, session)
