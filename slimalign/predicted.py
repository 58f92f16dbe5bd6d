"""What the latency table of a run says of its student, beside what is measured of the student's bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slimalign.compress.latency_table import parts_of
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.recipe import SlimRecipe
from slimalign.compress.slim import table_of
from slimalign.runtimes.timing import Record


@dataclass(frozen=True)
class Prediction:
    """A student's time as predicted by the table that it was slimmed by, and as measured.

    Both are ``percentile``-th percentiles of calls at batch 1, in milliseconds. ``format``, ``threads``, ``target`` and
    ``cpu`` are the table's; the run's bundle in that format was measured on one thread of this machine. ``measured_ms``
    is None where the run has none.
    """

    predicted_ms: float
    percentile: float
    format: str
    threads: int
    target: str
    cpu: str
    measured_ms: float | None = None

    @property
    def told(self) -> str:
        """A line for people."""
        measured = (
            "not measured"
            if self.measured_ms is None
            else f"measured {self.measured_ms:.2f} ms here on 1 thread"
        )
        return (
            f"student in {self.format}, {self.percentile:g}th percentile: predicted {self.predicted_ms:.2f} ms on"
            f" {self.target} ({self.cpu}), threads {self.threads}; {measured}"
        )


def prediction_of(
    recipe: SlimRecipe, full: Architecture, student: Architecture, measured: Mapping[str, Record]
) -> Prediction | None:
    """What the recipe's latency table says of ``student``, a cut of ``full``; None where it names none.

    ``measured`` holds records of the student's bundles by their format.
    """
    table = table_of(recipe, full)
    if table is None:
        return None
    record = measured.get(table.format)
    return Prediction(
        predicted_ms=table.predicted_ms(parts_of(student)),
        percentile=table.percentile,
        format=table.format,
        threads=table.threads,
        target=table.target,
        cpu=table.cpu,
        measured_ms=None if record is None else float(np.percentile(record.samples_ms, table.percentile)),
    )
