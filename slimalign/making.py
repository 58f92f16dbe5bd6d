"""The verbs that make things: run a recipe, slim a run again, export a student."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.chain import STRIDE, Chain, claim_folder, supernet_of
from slimalign.compress.cost import Cost, count
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.recipe import Recipe, SlimRecipe
from slimalign.compress.slim import slimmed_architecture, student_from
from slimalign.compress.torch_files import read_network
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.subject import ExportSubject
from slimalign.faces import recipe_faces
from slimalign.pictures import draw_run
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import scheme_named
from slimalign.waterfall import BUNDLES, STUDENT, Step, export_steps, measure, write_waterfall

PARITY_FACES = 8


@dataclass(frozen=True)
class RunResult:
    """What a run made: its folder, the waterfall, the validation NME of the search's baselines (or None)."""

    folder: Path
    steps: list[Step]
    baselines: dict[str, float] | None


def run(
    recipe: Recipe,
    folder: Path,
    data: Path | None,
    progress: Progress,
    skip_bad: bool = False,
    devices: int = 1,
    nodes: int = 1,
) -> RunResult | None:
    """Train, search, slim, distil, export and measure by ``recipe`` in ``folder``.

    A run that was broken off goes on where it stood; a finished one is measured again. With several
    processes only the first exports and measures; in the others the answer is None.
    """
    faces = recipe_faces(recipe.data, data, skip_bad, progress)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        precision=recipe.precision,
        # Algorithm 1 trains the factors and the weights in turn, so that some parameters have no gradient.
        strategy="auto" if devices * nodes == 1 else "ddp_find_unused_parameters_true",
    )
    fabric.launch()
    progress.console.quiet = not fabric.is_global_zero
    with fabric.rank_zero_first():
        claim_folder(folder, recipe, faces)
    chain = Chain(recipe, faces, folder, fabric, progress)
    teacher = chain.teacher()
    supernet = chain.supernet()
    slimmed = chain.student(supernet)
    rows = chain.distilled(slimmed, teacher)
    baselines = chain.baselines(slimmed.architecture)
    if not fabric.is_global_zero:
        return None
    bundles = export_steps(chain, teacher, supernet, slimmed, rows, progress)
    steps = measure(bundles, faces, folder, progress)
    write_waterfall(folder, steps)
    draw_run(chain, supernet, slimmed.architecture, bundles[-1])
    return RunResult(folder, steps, baselines)


@dataclass(frozen=True)
class SlimResult:
    """A new cut of a run's supernet: its architecture, cost, and the bundle of the student before fine-tuning."""

    architecture: Architecture
    cost: Cost
    bundle: Bundle


def slim(folder: Path, cut: SlimRecipe, name: str) -> SlimResult:
    """Cut the supernet of the run in ``folder`` again and write the student's PyTorch bundle there."""
    recipe, supernet = supernet_of(folder)
    architecture = slimmed_architecture(supernet, cut)
    student = student_from(supernet, architecture)
    cost = count(student, recipe.input.size)
    subject = ExportSubject(
        name=name,
        network=student,
        input_size=recipe.input.size,
        box_scale=recipe.input.box_scale,
        scheme=recipe.data.scheme,
        decoder=recipe.decoder,
        stride=STRIDE,
        cost=cost.totals(),
    )
    bundle = write_bundle(folder / BUNDLES / f"{name}-torch", subject, "torch", drawn_crops(subject))
    return SlimResult(architecture, cost, bundle)


def export(source: Path, formats: Sequence[str], out: Path, progress: Progress) -> list[Bundle]:
    """Export a run's student, or a PyTorch bundle, in each of ``formats`` into ``out``/<name>-<format>.

    Each file is checked against PyTorch on drawn faces before it counts as exported.
    """
    subject = _subject_from(source)
    crops = drawn_crops(subject)
    task = progress.add_task("exporting", total=len(formats))
    bundles = []
    for format_name in formats:
        bundles.append(write_bundle(out / f"{subject.name}-{format_name}", subject, format_name, crops))
        progress.advance(task)
    progress.remove_task(task)
    return bundles


def _subject_from(source: Path) -> ExportSubject:
    folder = source if (source / MANIFEST_NAME).is_file() else source / BUNDLES / f"{STUDENT}-torch"
    if not (folder / MANIFEST_NAME).is_file():
        raise UserError(
            f"{source}: neither a finished run nor a PyTorch bundle; give one made by 'slimalign run'"
        )
    bundle = read_bundle(folder)
    if bundle.manifest.format != "torch":
        raise UserError(
            f"{source}: a bundle of format {bundle.manifest.format}; export starts from a torch bundle"
        )
    manifest = bundle.manifest
    return ExportSubject(
        name=manifest.name,
        network=read_network(folder),
        input_size=manifest.input_size,
        box_scale=manifest.box_scale,
        scheme=manifest.scheme,
        decoder=manifest.decoder,
        stride=manifest.stride,
        cost=manifest.cost,
    )


def drawn_crops(subject: ExportSubject) -> NDArray[np.uint8]:
    """Crops (N, S, S, 3) of drawn faces, cut by the subject's rule."""
    rule = CropRule(subject.input_size, subject.box_scale)
    samples = drawn_samples(PARITY_FACES, scheme_named(subject.scheme), seed=0)
    return np.stack([rule.crop(sample.load(), sample.box) for sample in samples])
