"""The waterfall: every step of a run, from its first network to the exported files, as bundles that are measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.progress import Progress
from rich.table import Table
from torch import nn

from slimalign.benchmarks.accuracy import evaluate
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.report import narrow_table, short_count
from slimalign.benchmarks.results import AccuracyRecord, CostRecord, append, forget, read
from slimalign.cascade_chain import CascadeChain
from slimalign.chain import Chain
from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.data.evaluation import Evaluation
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.distil import Switches
from slimalign.compress.networks.architecture import STRIDE, Architecture
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.cascade_shape import MOST_STAGES
from slimalign.compress.recipe import CommonRecipe
from slimalign.compress.recipe_file import AnyRecipe
from slimalign.export.bundle_writer import with_nme
from slimalign.export.formats import FORMATS, format_named
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.export_jobs import ExportJob, write_bundles
from slimalign.measuring import bench
from slimalign.predicted import Prediction, prediction_of
from slimalign.run_names import BUNDLES, PARITY_CROPS_NAME, RESULTS_NAME
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.device_state import cpu_model
from slimalign.runtimes.errors import CheckError
from slimalign.runtimes.files import replacing
from slimalign.runtimes.session import available_cores
from slimalign.runtimes.timing import Record

CASCADE = "cascade"
OWN_NAMES = frozenset(
    [
        "teacher",
        "supernet",
        "slimmed",
        *(f"{one.name}{peer}" for one in Switches.every() for peer in ("", "-other")),
        "alone",
        CASCADE,
        *(f"{CASCADE}-{stages}" for stages in range(MOST_STAGES + 1)),
    ]
)
"""The steps of a run, under whose names its bundles lie."""

PARITY_CROPS = 8

AnyChain = Chain | CascadeChain


def student_name(recipe: AnyRecipe) -> str:
    """The name of the network that a run ends with, as in ``distilled``, ``fine-tuned`` or ``cascade``; its bundles are
    ``<name>-torch`` and one for each of the recipe's formats.
    """
    return CASCADE if isinstance(recipe, CascadeRecipe) else Switches.of(recipe.distil).name


@dataclass(frozen=True)
class Step:
    """One row: NME in percent on two splits, cost of one image, median latency at batch 1 on one thread.

    ``val_nme`` is None where there are no faces to validate by.
    """

    step: str
    runtime: str
    precision: str
    val_nme: float | None
    test_nme: float
    test_failure_rate: float
    params: int
    macs: int
    size_bytes: int
    p50_ms: float


@dataclass(frozen=True)
class Waterfall:
    """All steps of a run and what made their figures.

    ``faces`` counts those of each split; ``cpu`` and ``cores`` are those of the machine that measured. ``baselines``
    holds NMEs by network, all trained alike from scratch, on the faces that choices are made by; it is empty where
    the recipe asks for none. NMEs are divided by what ``normaliser`` names. ``prediction`` is None for a run that was
    not slimmed by a latency table.
    """

    recipe: str
    seed: int
    normaliser: str
    faces: dict[str, int]
    cpu: str
    cores: int
    steps: list[Step]
    baselines: dict[str, float]
    prediction: Prediction | None = None

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(asdict(self), indent=1) + "\n"


def waterfall_of(
    chain: AnyChain, steps: list[Step], baselines: dict[str, float], prediction: Prediction | None = None
) -> Waterfall:
    """The waterfall of ``chain``, whose steps were measured on this machine."""
    faces = chain.faces
    return Waterfall(
        recipe=chain.recipe.name,
        seed=chain.recipe.seed,
        normaliser=chain.recipe.data.normaliser,
        faces={"train": len(faces.train), "val": len(faces.val), "test": len(faces.test)},
        cpu=cpu_model(),
        cores=available_cores(),
        steps=steps,
        baselines=baselines,
        prediction=prediction,
    )


def subject_of(recipe: CommonRecipe, name: str, network: nn.Module) -> ExportSubject:
    """What the exporters need to know of one of a run's networks."""
    return ExportSubject(
        name=name,
        network=network,
        input_size=recipe.input.size,
        box_scale=recipe.input.box_scale,
        scheme=recipe.data.scheme,
        decoder=recipe.decoder,
        stride=STRIDE,
    )


def export_steps(
    chain: AnyChain,
    networks: Mapping[str, nn.Module],
    student: nn.Module,
    progress: Progress,
) -> tuple[list[Bundle], list[CheckError]]:
    """A PyTorch bundle for each of ``networks`` by name, and ``student`` in the recipe's formats.

    A file that fails its check is left out, so that the others are measured all the same, and told. Bundles that
    an earlier training left under the run's own names are removed, with their records, where they are not replaced.
    """
    crops = cut_crops(chain.faces.val[:PARITY_CROPS], chain.rule)
    with replacing(chain.folder / PARITY_CROPS_NAME) as beside:
        np.save(beside, crops)
    parent = chain.folder / BUNDLES
    jobs = [
        ExportJob(parent, Workbench(subject_of(chain.recipe, name, network), crops), format_name)
        for name, network in networks.items()
        for format_name in _formats_of(network, network is student, chain.recipe)
    ]
    faces = ExportFaces(chain.faces.train, chain.faces.val, chain.recipe.data.normaliser)
    bench = Workbench(subject_of(chain.recipe, student_name(chain.recipe), student), crops, faces)
    jobs += [ExportJob(parent, bench, format_name) for format_name in chain.recipe.export.formats]
    bundles, failures = write_bundles(jobs, progress)
    _remove_stale(chain.folder, bundles)
    return bundles, failures


def _formats_of(network: nn.Module, is_student: bool, recipe: CommonRecipe) -> list[str]:
    """Beside the student's own formats: PyTorch's, and of each cut of a cascade the first in float32, to be timed."""
    exact = [name for name in recipe.export.formats if format_named(name).exact]
    return ["torch", *(exact[:1] if isinstance(network, Cascade) and not is_student else ())]


def _remove_stale(folder: Path, bundles: Sequence[Bundle]) -> None:
    written = {bundle.folder for bundle in bundles}
    for name, format_name in product(OWN_NAMES, FORMATS):
        place = folder / BUNDLES / f"{name}-{format_name}"
        if place not in written:
            shutil.rmtree(place, ignore_errors=True)
    kept = {bundle.sha256 for bundle in bundles}
    forget(folder / RESULTS_NAME, lambda record: record.bundle in OWN_NAMES and record.sha256 not in kept)


def measure(chain: AnyChain, bundles: Sequence[Bundle], progress: Progress) -> list[Step]:
    """NME of every bundle through its session, and latency in one sweep; all records go to the results file."""
    faces = chain.faces
    fingerprints = faces.fingerprint()
    splits = {"val": faces.val, "test": faces.test} if faces.has_validation else {"test": faces.test}
    records: list[AccuracyRecord | CostRecord] = []
    found = []
    progress.console.print(f"measuring {len(bundles)} bundles: NME on {' and '.join(splits)}, then latency")
    task = progress.add_task("measuring NME", total=len(bundles))
    for bundle in bundles:
        with open_bundle(bundle, threads=None) as session:
            aligner = Aligner(session)
            accuracy = {
                split: evaluate(aligner, samples, faces.scheme, chain.recipe.data.normaliser)
                for split, samples in splits.items()
            }
        for split, evaluation in accuracy.items():
            records.append(AccuracyRecord.of(bundle, session.runtime, split, fingerprints[split], evaluation))
            bundle = with_nme(bundle, split, evaluation.whole.nme)
        records.append(CostRecord.of(bundle))
        found.append(accuracy)
        progress.advance(task)
    progress.remove_task(task)
    latencies = bench(bundles, (1,), (1,), progress, faces.test)
    _replace_records(chain.folder / RESULTS_NAME, records, latencies)
    return [_step(*measured) for measured in zip(bundles, found, latencies, strict=True)]


def predicted(chain: Chain, student: Architecture, bundles: Sequence[Bundle]) -> Prediction | None:
    """What the run's latency table said of ``student``, beside what ``measure`` found of its ``bundles``."""
    recipe = chain.recipe
    latest = {record.sha256: record for record in read(chain.folder / RESULTS_NAME).latency}
    name = student_name(recipe)
    measured = {
        bundle.folder.name.removeprefix(f"{name}-"): latest[bundle.sha256]
        for bundle in bundles
        if bundle.manifest.name == name
    }
    full = recipe.search.supernet(chain.faces.scheme.count, recipe.input.size)
    return prediction_of(recipe.slim, full, student, measured)


def _replace_records(
    results: Path, judged: Sequence[AccuracyRecord | CostRecord], latencies: Sequence[Record]
) -> None:
    """Add what was measured, in place of latencies of the same files and settings: another machine may have measured
    them, and figures of two processors do not compare.
    """
    measured = {record.setting for record in latencies}
    forget(results, lambda record: isinstance(record, Record) and record.setting in measured)
    append(results, [*judged, *latencies])


def _step(bundle: Bundle, accuracy: Mapping[str, Evaluation], latency: Record) -> Step:
    test = accuracy["test"].whole
    return Step(
        step=bundle.manifest.name,
        runtime=latency.runtime,
        precision=latency.precision,
        val_nme=accuracy["val"].whole.nme if "val" in accuracy else None,
        test_nme=test.nme,
        test_failure_rate=test.failure_rate,
        params=bundle.manifest.cost["params"],
        macs=bundle.manifest.cost["macs"],
        size_bytes=bundle.model_path.stat().st_size,
        p50_ms=latency.p50_ms,
    )


def waterfall_table(waterfall: Waterfall) -> Table:
    """The steps as people read them."""
    table = narrow_table(
        f"NME waterfall: {waterfall.normaliser}, p50 at batch 1 on one thread",
        {
            "step": True,
            "runtime": True,
            "val\n%": False,
            "test\n%": False,
            "fails\n%": False,
            "params": False,
            "mult-\nadds": False,
            "bytes": False,
            "p50\nms": False,
        },
    )
    table.caption = None if waterfall.prediction is None else waterfall.prediction.told
    for step in waterfall.steps:
        table.add_row(
            step.step,
            step.runtime if step.precision == "fp32" else f"{step.runtime} {step.precision}",
            "-" if step.val_nme is None else f"{step.val_nme:.2f}",
            f"{step.test_nme:.2f}",
            f"{step.test_failure_rate:.1f}",
            short_count(step.params),
            short_count(step.macs),
            short_count(step.size_bytes),
            f"{step.p50_ms:.1f}",
        )
    return table
