"""Bundles written one after another; a file that fails its check does not keep the others from being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import Progress

from slimalign.export.bundle_writer import Report, write_bundle
from slimalign.export.parity import ParityReport
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
        points = "-points" if self.bench.gives_points(self.format_name) else ""
        return self.parent / f"{self.bench.subject.name}-{self.format_name}{points}"


def write_bundles(jobs: Sequence[ExportJob], progress: Progress) -> tuple[list[Bundle], list[CheckError]]:
    """The bundles of ``jobs`` that pass their check, and what is wrong with the others."""
    task = progress.add_task("exporting", total=len(jobs))
    bundles, failures = [], []
    for job in jobs:
        name, format_name = job.bench.subject.name, job.format_name
        progress.update(task, description=f"exporting {name} as {format_name}")
        report = partial(tell, progress, name, format_name)
        try:
            bundles.append(write_bundle(job.folder, job.bench, format_name, report))
        except CheckError as error:
            failures.append(error)
        progress.advance(task)
    progress.remove_task(task)
    return bundles, failures


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
