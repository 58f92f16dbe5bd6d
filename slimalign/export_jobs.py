"""Bundles written one after another; a file that fails its check does not keep the others from being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from rich.progress import Progress

from slimalign.export.bundle_writer import Report, write_bundle
from slimalign.export.formats import format_named
from slimalign.export.gate import GateError, GateReport
from slimalign.export.parity import ParityReport
from slimalign.export.qat import retrained, training_of
from slimalign.export.rescue import Judged, Rescue
from slimalign.export.sensitivity import rescue_by_blocks
from slimalign.export.workbench import Workbench
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import CheckError


@dataclass(frozen=True)
class ExportJob:
    """One bundle to be written: the subject of ``bench`` in a format, as ``parent``/<name>-<format>."""

    parent: Path
    bench: Workbench
    format_name: str

    @property
    def folder(self) -> Path:
        """Where it goes; files that decode their heatmaps stand beside those that do not."""
        points = "-points" if self.bench.decodes_inside(self.format_name) else ""
        return self.parent / f"{self.bench.subject.name}-{self.format_name}{points}"

    def write(
        self, progress: Progress, bench: Workbench | None = None, rescue: Rescue | None = None
    ) -> Bundle:
        """Write it, of another ``bench`` or with a ``rescue`` where one is given."""
        bench = bench or self.bench
        report = partial(tell, progress, bench.subject.name, self.format_name)
        return write_bundle(self.folder, bench, self.format_name, report, rescue)


@dataclass(frozen=True)
class RescueBy:
    """What may be done with a calibrated file that does not pass the gate.

    With ``blocks`` its worst blocks stay in float; where that is not wanted or does not do, with ``training`` its
    network is trained for int8.
    """

    blocks: bool = False
    training: bool = False


class Rescuer:
    """Rescues files of the subject on ``bench``; the training's checkpoints lie in ``folder``."""

    def __init__(self, bench: Workbench, folder: Path, by: RescueBy, progress: Progress) -> None:
        self._bench = bench
        self._folder = folder
        self._by = by
        self._progress = progress

    def write(self, job: ExportJob, failure: GateError) -> Bundle:
        """The bundle of ``job``, rescued from its ``failure``; raises GateError where nothing does."""
        report = failure.report
        if report is None or format_named(job.format_name).blocks is None:
            raise failure
        if self._by == RescueBy():
            raise GateError(
                f"{failure}; --rescue keeps its worst blocks in float, --qat trains its network for int8"
            )
        if self._by.blocks:
            self._progress.console.print(f"{failure}; looking for blocks that must stay in float")
            try:
                return job.write(self._progress, rescue=self._found_blocks(job, report))
            except GateError as error:
                failure = GateError(f"{failure}; {error}")
        if not self._by.training:
            raise failure
        self._progress.console.print(f"{failure}; training the network for int8")
        training = training_of(self._bench.faces)
        rescue = Rescue(report.network_nme, Judged.of(report), training=training)
        bundle = job.write(self._progress, self._trained_bench, rescue)
        self._progress.console.print(f"{job.folder.name}: {rescue.told}")
        return bundle

    def _found_blocks(self, job: ExportJob, report: GateReport) -> Rescue:
        task = self._progress.add_task(f"{job.folder.name}: one block after another in float", total=None)
        try:
            found = rescue_by_blocks(
                job.bench,
                job.format_name,
                report,
                lambda done, total: self._progress.update(task, completed=done, total=total),
            )
        finally:
            self._progress.remove_task(task)
        self._progress.console.print(f"{job.folder.name}: {found.told}")
        return found

    @cached_property
    def _trained_bench(self) -> Workbench:
        bench = self._bench
        inputs = torch.from_numpy(bench.calibration_inputs("NCHW"))
        return bench.with_network(retrained(bench.subject, inputs, bench.faces, self._folder, self._progress))


def write_bundles(
    jobs: Sequence[ExportJob], progress: Progress, rescuer: Rescuer | None = None
) -> tuple[list[Bundle], list[CheckError]]:
    """The bundles of ``jobs`` that pass their check, by ``rescuer`` if need be; what is wrong with the others."""
    task = progress.add_task("exporting", total=len(jobs))
    bundles, failures = [], []
    for job in jobs:
        progress.update(task, description=f"exporting {job.bench.subject.name} as {job.format_name}")
        try:
            bundles.append(_write(job, progress, rescuer))
        except CheckError as error:
            failures.append(error)
        progress.advance(task)
    progress.remove_task(task)
    return bundles, failures


def _write(job: ExportJob, progress: Progress, rescuer: Rescuer | None) -> Bundle:
    try:
        return job.write(progress)
    except GateError as failure:
        if rescuer is None:
            raise
        return rescuer.write(job, failure)


def tell(progress: Progress, name: str, format_name: str, report: Report) -> None:
    """Print what the check of a file found; of a PyTorch bundle only what it lacks."""
    if format_name != "torch":
        progress.console.print(f"{name} as {format_name}: {report.told}")
    elif isinstance(report, ParityReport) and report.flat:
        progress.console.print(f"{name}: its heatmaps are flat, it finds no points until it is trained")


def raise_all(failures: Sequence[CheckError]) -> None:
    """Raise one CheckError that tells all ``failures`` in its line; nothing where there are none."""
    if failures:
        raise CheckError("; ".join(str(failure) for failure in failures))
