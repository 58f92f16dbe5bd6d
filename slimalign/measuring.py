"""The verbs that measure and choose: profile, eval, bench, and the points for pick and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from slimalign.benchmarks.accuracy import evaluate
from slimalign.benchmarks.frontier import Point, join
from slimalign.benchmarks.latency import crops_of, sweep
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.results import AccuracyRecord, CostRecord, append, read
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.evaluation import Evaluation
from slimalign.compress.data.sample import Sample
from slimalign.faces import read_split
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.session import Session
from slimalign.runtimes.timing import DRAFT, REFERENCE, Record

LATENCY_FACES = 32


@dataclass(frozen=True)
class Profile:
    """A network's cost, with its layers where the network itself could be counted."""

    network: str
    landmarks: int
    input_size: int
    totals: dict[str, int]
    layers: tuple[tuple[str, str, int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """What ``profile --json`` prints."""
        return {
            "network": self.network,
            "landmarks": self.landmarks,
            "input": [self.input_size, self.input_size],
            **self.totals,
        }


def profile(name: str, landmarks: int | None = None, input_size: int | None = None) -> Profile:
    """Count a network given by name, by the path of an architecture's JSON, or by a bundle's folder."""
    from slimalign.compress.cost import count
    from slimalign.compress.networks.catalogue import build_network

    if (Path(name) / MANIFEST_NAME).is_file():
        return _bundle_profile(read_bundle(name))
    built = build_network(name, landmarks, input_size)
    cost = count(built.network, built.input_size)
    layers = tuple((layer.name, layer.kind, layer.params, layer.macs) for layer in cost.layers)
    return Profile(name, built.landmarks, built.input_size, cost.totals(), layers)


def _bundle_profile(bundle: Bundle) -> Profile:
    manifest = bundle.manifest
    return Profile(
        manifest.name, manifest.landmark_scheme.count, manifest.input_size, dict(manifest.cost), ()
    )


def eval_bundle(
    bundle: Bundle,
    data: Path,
    split: str,
    format_name: str,
    normaliser: str,
    progress: Progress,
    results: Path | None = None,
    skip_bad: bool = False,
) -> Evaluation:
    """Accuracy of a deployed file on a split; with ``results``, records are added to that file."""
    scheme = bundle.manifest.landmark_scheme
    samples = read_split(format_name, scheme, data, split, skip_bad, progress)
    task = progress.add_task(f"evaluating {bundle.manifest.name}", total=len(samples))
    with open_bundle(bundle, threads=None) as session:
        found = evaluate(
            Aligner(session),
            samples,
            scheme,
            normaliser,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    progress.remove_task(task)
    if results is not None:
        append(results, [AccuracyRecord.of(bundle, session.runtime, split, found), CostRecord.of(bundle)])
    return found


def bench(
    bundles: Sequence[Bundle],
    batches: Sequence[int],
    threads: Sequence[int | None],
    progress: Progress,
    samples: Sequence[Sample] | None = None,
    reference: bool = False,
    results: Path | None = None,
) -> list[Record]:
    """Kernel latency of all bundles in one interleaved sweep, on ``samples`` or else on drawn faces.

    ``threads`` None stands for all cores.
    """
    faces = samples or drawn_samples(LATENCY_FACES, bundles[0].manifest.landmark_scheme, seed=0)
    task = progress.add_task("measuring latency", total=None)
    openers: list[Callable[[int], Session]] = [partial(open_bundle, bundle) for bundle in bundles]
    records = sweep(
        openers,
        batches,
        threads,
        crops_of(faces[:LATENCY_FACES]),
        REFERENCE if reference else DRAFT,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
    )
    progress.remove_task(task)
    if results is not None:
        append(results, [*records, *(CostRecord.of(bundle) for bundle in bundles)])
    return records


def points(
    results: Path,
    split: str | None = None,
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
) -> list[Point]:
    """The points of a results file, for the picker and the report."""
    return join(read(results), split, normaliser, protocol, target)
