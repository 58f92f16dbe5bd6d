"""Where bundles are measured: on this machine, or on a device that is reached by ssh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from slimalign.benchmarks.accuracy import Finder
from slimalign.benchmarks.device_latency import check_runs_on_devices, sweep_on
from slimalign.benchmarks.latency import Crops, Progress, sweep
from slimalign.benchmarks.opening import open_bundle
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.timing import Protocol as LatencyProtocol
from slimalign.runtimes.timing import Record
from slimalign.targets.address import is_address, shell_of
from slimalign.targets.device_aligner import DeviceAligner
from slimalign.targets.device_job import Device
from slimalign.targets.profile import target_named
from slimalign.targets.target import PYTHON


class Place(Protocol):
    """A machine on which bundles are measured."""

    def sweep(
        self,
        bundles: Sequence[Bundle],
        batches: Sequence[int],
        threads: Sequence[int | None],
        crops: Crops,
        protocol: LatencyProtocol,
        progress: Progress,
    ) -> list[Record]:
        """Latency of all combinations, see slimalign.benchmarks.latency."""
        ...

    def finding(self, bundle: Bundle) -> AbstractContextManager[Finder]:
        """What finds landmarks with ``bundle`` there."""
        ...


@dataclass(frozen=True)
class ThisMachine:
    """The machine that slimalign runs on."""

    backend: Backend = DEFAULT_BACKEND

    def sweep(
        self,
        bundles: Sequence[Bundle],
        batches: Sequence[int],
        threads: Sequence[int | None],
        crops: Crops,
        protocol: LatencyProtocol,
        progress: Progress,
    ) -> list[Record]:
        """Latency of all combinations, see slimalign.benchmarks.latency."""
        return sweep(bundles, batches, threads, crops, protocol, self.backend, progress=progress)

    @contextmanager
    def finding(self, bundle: Bundle) -> Iterator[Finder]:
        """What finds landmarks with ``bundle`` here, on all cores."""
        with open_bundle(bundle, None, self.backend) as session:
            yield Aligner(session)


THIS_MACHINE = ThisMachine()


@dataclass(frozen=True)
class ReachedDevice:
    """A device on which the agent works."""

    device: Device
    backend: Backend = DEFAULT_BACKEND

    def sweep(
        self,
        bundles: Sequence[Bundle],
        batches: Sequence[int],
        threads: Sequence[int | None],
        crops: Crops,
        protocol: LatencyProtocol,
        progress: Progress,
    ) -> list[Record]:
        """Latency of all combinations, see slimalign.benchmarks.device_latency."""
        return sweep_on(self.device, bundles, batches, threads, crops, protocol, self.backend, progress)

    @contextmanager
    def finding(self, bundle: Bundle) -> Iterator[Finder]:
        """What finds landmarks with ``bundle`` there, on all cores."""
        check_runs_on_devices(bundle)
        yield DeviceAligner(self.device, bundle, None, self.backend)


def place_at(target: str, backend: Backend = DEFAULT_BACKEND, python: str | None = None) -> Place:
    """The machine that ``target`` names: ``local``, ``ssh://user@host``, or a profile that says how it is reached.

    ``python`` is the interpreter there, by default the one that the profile names, or ``python3``.
    """
    address, own = (target, PYTHON) if is_address(target) else _way_to(target)
    shell = shell_of(address)
    if shell is None:
        return ThisMachine(backend)
    return ReachedDevice(Device(shell, (python or own).removeprefix("~/")), backend)


def _way_to(name: str) -> tuple[str, str]:
    """The address and the Python of a profile."""
    profile = target_named(name)
    if profile.address is None:
        raise UserError(
            f"target {profile.name}: its profile says not how to reach it; give ssh://user@host, or a profile of your"
            " own with an address"
        )
    return profile.address, profile.python
