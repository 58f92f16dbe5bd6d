"""The verbs that measure and choose: eval, bench, and the points for pick and report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.benching import DRAWN
from slimalign.benchmarks.accuracy import evaluate_normalisers
from slimalign.benchmarks.gathering import Aside
from slimalign.benchmarks.latency import Wanted, crops_of, faces_of
from slimalign.benchmarks.opening import check_names
from slimalign.benchmarks.phone import Phone
from slimalign.benchmarks.points import Point, join
from slimalign.benchmarks.results import (
    AccuracyRecord,
    CostRecord,
    Results,
    append,
    check_results,
    read,
    without_held,
)
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.evaluation import Evaluation
from slimalign.compress.data.sample import Sample, fingerprint_of, normalising_distances
from slimalign.faces import read_split
from slimalign.places import THIS_MACHINE, Finding, Place
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.metrics import FAILURE_THRESHOLD
from slimalign.runtimes.schemes import NORMALISERS, LandmarkScheme
from slimalign.runtimes.sweep import FACES, KERNEL
from slimalign.runtimes.timing import DRAFT, SUSTAINED_MODE, Protocol, Record
from slimalign.targets.address import LOCAL, is_address
from slimalign.targets.profile import target_named
from slimalign.targets.shell import cores_of

Floats = NDArray[np.floating]


def eval_bundle(
    bundle: Bundle,
    data: Path,
    split: str,
    format_name: str,
    progress: Progress,
    normaliser: str = "inter-ocular",
    threshold: float = FAILURE_THRESHOLD,
    results: Path | None = None,
    skip_bad: bool = False,
    finding: Finding = THIS_MACHINE.finding,
    target: str = LOCAL,
) -> Mapping[str, Evaluation]:
    """Accuracy of a deployed file on a split, by normaliser: ``normaliser`` first, then all others that apply.

    One that some face's distance is zero by does not apply; it is an error for ``normaliser`` alone.
    ``threshold``, an NME in percent, is where images fail and the AUC ends. With ``results`` a record of each
    normaliser, whose threshold is always 10 %, is added to that file.
    """
    if normaliser not in NORMALISERS:
        raise UserError(f"normaliser '{normaliser}' is unknown; choose one of {', '.join(NORMALISERS)}")
    if not (math.isfinite(threshold) and threshold > 0):
        raise UserError(f"threshold {threshold:g}; give an NME in percent above 0")
    if results is not None:
        check_results(results)
    scheme = bundle.manifest.landmark_scheme
    samples = read_split(format_name, scheme, data, split, skip_bad, progress, normaliser)
    task = progress.add_task(f"evaluating {bundle.manifest.name}", total=len(samples))
    with finding(bundle) as finder:
        judged = evaluate_normalisers(
            finder,
            samples,
            scheme,
            _applicable(samples, scheme, normaliser),
            lambda done, total: progress.update(task, completed=done, total=total),
            threshold,
        )
    progress.remove_task(task)
    if results is not None:
        faces = fingerprint_of(samples)
        records = [
            AccuracyRecord.of(bundle, finder.runtime, split, faces, found, target)
            for found in judged.values()
        ]
        append(results, [*records, CostRecord.of(bundle)], _teller(progress))
    return judged


def _teller(progress: Progress) -> Callable[[str], None]:
    return lambda text: progress.console.print(text, markup=False, highlight=False)


def _applicable(samples: Sequence[Sample], scheme: LandmarkScheme, first: str) -> list[str]:
    others = [
        name
        for name in NORMALISERS
        if name != first and (normalising_distances(samples, scheme, name) > 0).all()
    ]
    return [first, *others]


def write_ced(path: Path, found: Evaluation) -> None:
    """Write the cumulative error distribution as CSV: errors and shares of images, all in percent."""
    names, rows = found.ced_table()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([f"{value:g}" for value in row] for row in rows.tolist())
    write_text(path, text.getvalue())


def bench(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    progress: Progress,
    samples: Sequence[Sample] | None = None,
    protocol: Protocol = DRAFT,
    results: Path | None = None,
    place: Place = THIS_MACHINE,
    inputs: str = DRAWN,
    note: Callable[[str], None] = lambda text: None,
    timed: Sequence[str] = (KERNEL,),
) -> list[Record]:
    """Latency of all bundles at ``place`` in one sweep, on ``samples`` or else on drawn faces.

    ``threads`` None stands for all cores, ``inputs`` is what records say of the faces, ``note`` is told what the user
    had better know; ``timed`` are those of ``kernel`` and ``end-to-end`` that are measured. Raises UserError for two
    bundles that records could not tell apart.
    """
    if not bundles:
        raise UserError("no bundles to measure; give at least one folder made by 'slimalign export'")
    check_names(bundles)
    if results is not None:
        check_results(results)

    def keep(records: Sequence[Record]) -> None:
        """Nothing is added where a sweep was killed between this and its clearing up: then all of it is there."""
        if results is not None and without_held(results, records):
            append(results, [*records, *(CostRecord.of(bundle) for bundle in bundles)], note)

    faces = samples or drawn_samples(FACES, bundles[0].manifest.landmark_scheme, seed=0)
    task = progress.add_task("measuring latency", total=None)
    records = place.sweep(
        Wanted(bundles, batches, threads, crops_of(faces), protocol, timed, faces_of(faces)),
        lambda done, total: progress.update(task, completed=done, total=total),
        Aside(inputs, note, keep),
    )
    progress.remove_task(task)
    return records


def bench_phone(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    progress: Progress,
    phone: Phone,
    protocol: Protocol = DRAFT,
    results: Path | None = None,
) -> list[ToldLatency]:
    """What benchmark_model tells of all bundles on a phone; ``results`` gets each record as soon as it is there.

    ``threads`` None stands for all its cores. Raises UserError for a sustained measurement, of which it tells nothing.
    """
    if protocol.mode == SUSTAINED_MODE:
        raise UserError(
            "--sustained: benchmark_model tells no single calls; measure a draft or a reference instead"
        )
    check_names(bundles)
    if results is not None:
        check_results(results)
    counts = list(dict.fromkeys(cores_of(phone.shell) if count is None else count for count in threads))
    records = []
    task = progress.add_task("measuring latency", total=len(bundles) * len(batches) * len(counts))
    for record in phone.latencies(bundles, batches, counts, protocol):
        records.append(record)
        if results is not None:
            append(results, [record], _teller(progress))
        progress.advance(task)
    progress.remove_task(task)
    if results is not None:
        append(results, [CostRecord.of(bundle) for bundle in bundles])
    return records


def points(
    results: Path,
    split: str | None = None,
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
) -> list[Point]:
    """The points of a results file, for the picker and the report.

    ``split`` None takes the only one that there is; ``batch`` and ``threads`` None take every setting. A bundle
    that was not timed as asked is a point without latency. Raises UserError where the file holds accuracy, but
    none on ``split`` by ``normaliser``, or no latency by ``protocol`` on ``target``, or latency, but none at
    ``batch`` and ``threads``.
    """
    found = held_records(results, split, normaliser, protocol, target)
    return join(found, split, normaliser, batch=batch, threads=threads)


def held_records(
    results: Path, split: str | None, normaliser: str, protocol: str | None = None, target: str | None = None
) -> Results:
    """What a results file holds, of its latencies those by ``protocol`` on ``target``; raises as ``points``."""
    found = read(results)
    check_held(results, found, split, normaliser)
    target = None if target is None else _measured_as(target)
    for option, asked, held in (
        ("protocol", protocol, {record.protocol for record in found.latencies}),
        ("target", target, {record.target for record in found.latencies}),
    ):
        if asked is not None and asked not in held:
            raise UserError(
                f"{results}: no latency with --{option} {asked}; it holds {', '.join(sorted(held)) or 'none'}"
            )
    return replace(
        found,
        latency=tuple(
            r for r in found.latency if protocol in (None, r.protocol) and target in (None, r.target)
        ),
        told=tuple(r for r in found.told if protocol in (None, r.protocol) and target in (None, r.target)),
    )


def _measured_as(target: str) -> str:
    """The address by which records know ``target``: its own, or that of the profile that it names."""
    if not is_address(target):
        with suppress(UserError):
            return target_named(target).address or target
    return target


def check_held(path: Path, results: Results, split: str | None, normaliser: str) -> None:
    """Raise UserError where ``results`` from ``path`` hold accuracy, but none on ``split`` by ``normaliser``."""
    if normaliser not in NORMALISERS:
        raise UserError(f"normaliser '{normaliser}' is unknown; choose one of {', '.join(NORMALISERS)}")
    held = {(record.split, record.normaliser) for record in results.accuracy}
    if held and not any(split in (None, one) and name == normaliser for one, name in held):
        listed = ", ".join(f"--split {one} --normaliser {name}" for one, name in sorted(held))
        raise UserError(f"{path}: no NME of the split '{split}' by {normaliser}; choose among {listed}")
