"""The waterfall: every step of a run, from the teacher to the exported files, as bundles that are measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table
from torch import nn

from slimalign.benchmarks.accuracy import evaluate
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.results import AccuracyRecord, CostRecord, append
from slimalign.chain import STRIDE, Chain, Distilled
from slimalign.compress.cost import count
from slimalign.compress.data.sample import Sample
from slimalign.compress.distil import Switches
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import with_nme, write_bundle
from slimalign.export.parity import ParityReport
from slimalign.export.subject import ExportSubject
from slimalign.faces import Faces
from slimalign.measuring import bench
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.files import write_text
from slimalign.runtimes.timing import Record

BUNDLES = "bundles"
STUDENT = Switches().name
"""The student that a run ends with: its bundles are distilled-torch, distilled-onnx and distilled-litert."""

WATERFALL_NAME = "waterfall.json"
RESULTS_NAME = "results.jsonl"
PARITY_CROPS = 8


@dataclass(frozen=True)
class Step:
    """One row: NME in percent on two splits, cost of one image, median latency at batch 1 on one thread."""

    step: str
    runtime: str
    val_nme: float
    test_nme: float
    test_failure_rate: float
    params: int
    macs: int
    size_bytes: int
    p50_ms: float


def subject_of(chain: Chain, name: str, network: nn.Module) -> ExportSubject:
    """What the exporters need to know of one of the chain's networks."""
    recipe = chain.recipe
    cost = count(network, recipe.input.size)
    return ExportSubject(
        name=name,
        network=network,
        input_size=recipe.input.size,
        box_scale=recipe.input.box_scale,
        scheme=chain.faces.scheme.name,
        decoder=recipe.decoder,
        stride=STRIDE,
        cost=cost.totals(),
    )


def export_steps(
    chain: Chain,
    teacher: nn.Module,
    supernet: HRSuperNet,
    slimmed: HRSuperNet,
    rows: Sequence[Distilled],
    progress: Progress,
) -> list[Bundle]:
    """A PyTorch bundle for every network of the run, and the deployed formats for the best student."""
    networks: dict[str, nn.Module] = {"teacher": teacher, "supernet": supernet, "slimmed": slimmed}
    for row in rows:
        networks |= row.named
    crops = parity_crops(chain, chain.faces.val)
    jobs = [(subject_of(chain, name, network), "torch") for name, network in networks.items()]
    student = subject_of(chain, STUDENT, rows[-1].best)
    jobs += [(student, format_name) for format_name in chain.recipe.export.formats]
    task = progress.add_task("exporting", total=len(jobs))
    bundles = []
    for subject, format_name in jobs:
        folder = chain.folder / BUNDLES / f"{subject.name}-{format_name}"
        report = partial(_tell_parity, progress, subject.name, format_name)
        bundles.append(write_bundle(folder, subject, format_name, crops, report))
        progress.advance(task)
    progress.remove_task(task)
    return bundles


def _tell_parity(progress: Progress, name: str, format_name: str, parity: ParityReport) -> None:
    if format_name != "torch":
        progress.console.print(
            f"{name} as {format_name}: differs from PyTorch by {parity.heatmap_difference:.1e} in the heatmaps "
            f"(largest value {parity.heatmap_scale:.1f}), {parity.point_difference_px:.1e} px in the points"
        )


def parity_crops(chain: Chain, samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """Real crops (N, S, S, 3) on which files are compared with PyTorch."""
    return np.stack([chain.rule.crop(sample.load(), sample.box) for sample in samples[:PARITY_CROPS]])


def measure(bundles: Sequence[Bundle], faces: Faces, folder: Path, progress: Progress) -> list[Step]:
    """NME of every bundle through its session, and latency in one sweep; all records go to the results file."""
    records: list[AccuracyRecord | CostRecord | Record] = []
    val_nmes, tests = {}, {}
    task = progress.add_task("measuring NME", total=len(bundles))
    for bundle in bundles:
        with open_bundle(bundle, threads=None) as session:
            aligner = Aligner(session)
            val = evaluate(aligner, faces.val, faces.scheme, "inter-ocular")
            test = evaluate(aligner, faces.test, faces.scheme, "inter-ocular")
        name = bundle.folder.name
        val_nmes[name], tests[name] = val.whole.nme, test.whole
        records += [AccuracyRecord.of(bundle, session.runtime, "val", val)]
        records += [AccuracyRecord.of(bundle, session.runtime, "test", test), CostRecord.of(bundle)]
        with_nme(with_nme(bundle, "val", val.whole.nme), "test", test.whole.nme)
        progress.advance(task)
    progress.remove_task(task)
    latencies = bench(bundles, (1,), (1,), progress, faces.test)
    append(folder / RESULTS_NAME, [*records, *latencies])
    return [
        Step(
            step=bundle.manifest.name,
            runtime=latency.runtime,
            val_nme=val_nmes[bundle.folder.name],
            test_nme=tests[bundle.folder.name].nme,
            test_failure_rate=tests[bundle.folder.name].failure_rate,
            params=bundle.manifest.cost["params"],
            macs=bundle.manifest.cost["macs"],
            size_bytes=bundle.model_path.stat().st_size,
            p50_ms=latency.p50_ms,
        )
        for bundle, latency in zip(bundles, latencies, strict=True)
    ]


def write_waterfall(folder: Path, steps: Sequence[Step]) -> None:
    """The steps as JSON in the run folder."""
    write_text(folder / WATERFALL_NAME, json.dumps([asdict(step) for step in steps], indent=1) + "\n")


def waterfall_table(steps: Sequence[Step]) -> Table:
    """The steps as people read them."""
    table = Table(title="NME waterfall (inter-ocular, p50 at batch 1 on one thread)")
    for heading in (
        "step",
        "runtime",
        "val %",
        "test %",
        "failures %",
        "params M",
        "G mult-adds",
        "MB",
        "p50 ms",
    ):
        table.add_column(heading, justify="left" if heading in ("step", "runtime") else "right")
    for step in steps:
        table.add_row(
            step.step,
            step.runtime,
            f"{step.val_nme:.2f}",
            f"{step.test_nme:.2f}",
            f"{step.test_failure_rate:.1f}",
            f"{step.params / 1e6:.3f}",
            f"{step.macs / 1e9:.3f}",
            f"{step.size_bytes / 1e6:.2f}",
            f"{step.p50_ms:.1f}",
        )
    return table
