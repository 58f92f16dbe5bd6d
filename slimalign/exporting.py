"""Bundles written one after another; a file that fails its check does not keep the others from being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.export.bundle_writer import write_bundle
from slimalign.export.parity import ParityReport
from slimalign.export.subject import ExportSubject
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import CheckError


@dataclass(frozen=True)
class ExportJob:
    """One bundle to be written: ``subject`` in a format, as ``parent``/<name>-<format>."""

    parent: Path
    subject: ExportSubject
    format_name: str


def write_bundles(
    jobs: Sequence[ExportJob], crops: NDArray[np.uint8], progress: Progress
) -> tuple[list[Bundle], list[CheckError]]:
    """The bundles of ``jobs`` that agree with PyTorch on ``crops`` (N, S, S, 3), and what is wrong with the others."""
    task = progress.add_task("exporting", total=len(jobs))
    bundles, failures = [], []
    for job in jobs:
        name, format_name = job.subject.name, job.format_name
        report = partial(_tell_parity, progress, name, format_name)
        try:
            bundles.append(
                write_bundle(job.parent / f"{name}-{format_name}", job.subject, format_name, crops, report)
            )
        except CheckError as error:
            failures.append(error)
        progress.advance(task)
    progress.remove_task(task)
    return bundles, failures


def _tell_parity(progress: Progress, name: str, format_name: str, parity: ParityReport) -> None:
    if format_name != "torch":
        progress.console.print(
            f"{name} as {format_name}: differs from PyTorch by {parity.heatmap_difference:.1e} in the heatmaps "
            f"(largest value {parity.heatmap_scale:.1f}), {parity.point_difference_px:.1e} px in the points"
        )


def raise_all(failures: Sequence[CheckError]) -> None:
    """Raise one CheckError that tells all ``failures`` in its line; nothing where there are none."""
    if failures:
        raise CheckError("; ".join(str(failure) for failure in failures))
