"""Latency of bundles on a device: the sweep runs there, in the agent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cache

from slimalign.benchmarks.gathering import Aside, Gathering, Progress, Swept
from slimalign.benchmarks.latency import Wanted, plan_of, settings_of
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.end_to_end import packed_faces
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import OPENERS
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.sweep import END_TO_END
from slimalign.runtimes.timing import Record
from slimalign.targets.device_job import Device, Job, Subject, clear, device_results
from slimalign.targets.shell import cores_of


def sweep_on(
    device: Device,
    wanted: Wanted,
    backends: Sequence[Backend] = (DEFAULT_BACKEND,),
    progress: Progress | None = None,
    aside: Aside | None = None,
) -> list[Record]:
    """Latency on ``device`` as ``slimalign.benchmarks.latency.sweep_here`` measures it here.

    What was measured before a line dropped is not measured again by the same call. Raises LineDroppedError, and
    UserError for a bundle that no device runs.
    """
    for bundle in wanted.bundles:
        check_runs_on_devices(bundle)
    counts = [cores_of(device.shell) if count is None else count for count in wanted.threads]
    settings = settings_of(wanted, counts, backends)
    packed = cache(lambda rule: packed_faces(wanted.faces(rule)) if END_TO_END in wanted.timed else b"")
    subjects = []
    for bundle in wanted.bundles:
        rule = bundle.manifest.crop_rule
        subjects.append(Subject(bundle, wanted.crops(rule), packed(rule)))
    entries = {
        "settings": settings,
        "plan": plan_of(wanted.protocol)._asdict(),
        "backends": [backend._asdict() for backend in backends],
        "landmarks": [bundle.manifest.landmark_scheme.count for bundle in wanted.bundles],
        "memory": wanted.measures_memory,
    }
    job = Job("bench", subjects, entries)
    aside = aside or Aside()
    swept = Swept(wanted.bundles, backends, settings, wanted.protocol, device.address)
    gathered = Gathering(swept, aside, progress)
    with closing(device_results(device, job)) as results:
        for entry in results:
            gathered.add(entry)
    records = gathered.records()
    aside.keep(records)
    clear(device, job)
    return records


def check_runs_on_devices(bundle: Bundle) -> None:
    """Raise UserError for a bundle of a format that no device runs."""
    if bundle.manifest.format not in OPENERS:
        raise UserError(
            f"{bundle.folder}: format = '{bundle.manifest.format}' does not run on a device; export it as one of"
            f" {', '.join(OPENERS)}"
        )
