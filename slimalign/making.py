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
from torch import nn

from slimalign.chain import Chain, supernet_of
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.distil import ABLATION
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.recipe import Recipe, SlimRecipe
from slimalign.compress.slim import slimmed_architecture, student_from
from slimalign.compress.torch_files import read_network
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.formats import check_imports, format_named
from slimalign.export.subject import ExportSubject
from slimalign.faces import recipe_faces
from slimalign.pictures import draw_run
from slimalign.run_folder import claim_folder
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.waterfall import (
    BUNDLES,
    PARITY_CROPS,
    PARITY_CROPS_NAME,
    STUDENT,
    WATERFALL_NAME,
    Waterfall,
    export_steps,
    measure,
    subject_of,
    waterfall_of,
)

OWN_NAMES = frozenset(
    ["teacher", "supernet", "slimmed", *(f"{row.name}{peer}" for row in ABLATION for peer in ("", "-other"))]
)
"""The steps of a run, under whose names its bundles lie."""


@dataclass(frozen=True)
class RunResult:
    """What a run made: its folder and the waterfall that is saved there."""

    folder: Path
    waterfall: Waterfall


def run(
    recipe: Recipe,
    folder: Path,
    data: Path | None,
    progress: Progress,
    skip_bad: bool = False,
    retrain: bool = False,
    devices: int = 1,
    nodes: int = 1,
) -> RunResult | None:
    """Train, search, slim, distil, export and measure by ``recipe`` in ``folder``.

    A run that was broken off goes on where it stood; a finished one is measured again. ``retrain`` trains the
    stages anew whose part of the recipe has changed. With several processes only the first exports and measures;
    in the others the answer is None. A file that fails its check raises CheckError after all else is done.
    """
    _check_counts(devices, nodes)
    check_imports(recipe.export.formats)
    faces = recipe_faces(recipe.data, data, skip_bad, progress)
    claim_folder(folder, recipe, faces, retrain)
    chain = Chain(recipe, faces, folder, _launched(recipe, devices, nodes, progress), progress)
    teacher = chain.teacher()
    supernet = chain.supernet()
    slimmed = chain.student(supernet)
    # Drawn before the long training that follows, because there may be no architectures of that cost.
    rivals = chain.rivals(slimmed.architecture)
    rows = chain.distilled(slimmed, teacher)
    baselines = chain.baselines(rivals)
    if not chain.fabric.is_global_zero:
        return None
    networks: dict[str, nn.Module] = {"teacher": teacher, "supernet": supernet, "slimmed": slimmed}
    for row in rows:
        networks |= row.named
    bundles, failures = export_steps(chain, networks, networks[STUDENT], progress)
    waterfall = waterfall_of(chain, measure(chain, bundles, progress), baselines)
    write_text(folder / WATERFALL_NAME, waterfall.to_json())
    student = next(bundle for bundle in reversed(bundles) if bundle.manifest.name == STUDENT)
    draw_run(chain, supernet, slimmed.architecture, student)
    if failures:
        raise failures[0]
    return RunResult(folder, waterfall)


def _check_counts(devices: int, nodes: int) -> None:
    for name, number in (("devices", devices), ("nodes", nodes)):
        if number < 1:
            raise UserError(f"--{name} {number}: give a whole number of at least 1")


def _launched(recipe: Recipe, devices: int, nodes: int, progress: Progress) -> Fabric:
    """The processes of a run; all but the first keep silent."""
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
    return fabric


@dataclass(frozen=True)
class SlimResult:
    """A new cut of a run's supernet: its architecture, and the bundle of the student before fine-tuning."""

    architecture: Architecture
    bundle: Bundle


def slim(folder: Path, cut: SlimRecipe, name: str) -> SlimResult:
    """Cut the supernet of the run in ``folder`` again and write the student's PyTorch bundle there.

    What an operation's importance is, the run's own recipe says.
    """
    _check_name(name)
    recipe, supernet = supernet_of(folder)
    importance = recipe.slim.importance
    architecture = slimmed_architecture(supernet, cut.model_copy(update={"importance": importance}))
    subject = subject_of(recipe, name, student_from(supernet, architecture))
    bundle = write_bundle(
        folder / BUNDLES / f"{name}-torch", subject, "torch", _parity_crops(folder, subject)
    )
    return SlimResult(architecture, bundle)


def _check_name(name: str) -> None:
    """Raise UserError for a name that is no folder's, or under which a run keeps a network of its own."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"--name '{name}': give a name without folders")
    if name in OWN_NAMES:
        raise UserError(f"--name '{name}': the run's own bundle has that name; give another")


def export(source: Path, formats: Sequence[str], out: Path | None, progress: Progress) -> list[Bundle]:
    """Export a run's student, or a PyTorch bundle, in each of ``formats`` into ``out``/<name>-<format>.

    ``out`` is ``exported``/<name of the source's folder> by default, so that two runs do not write over each other.

    Each file is checked against PyTorch before it counts as exported: on the run's own faces, or on drawn ones
    where ``source`` is a bundle.
    """
    for format_name in formats:
        format_named(format_name)
    out = Path("exported") / source.resolve().name if out is None else out
    subject = _subject_from(source)
    crops = _parity_crops(source, subject)
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


def _parity_crops(source: Path, subject: ExportSubject) -> NDArray[np.uint8]:
    """The run's own crops, or those of drawn faces where ``source`` is no run that kept some: (N, S, S, 3)."""
    kept = source / PARITY_CROPS_NAME
    if kept.is_file():
        crops: NDArray[np.uint8] = np.load(kept)
        return crops
    faces = drawn_samples(PARITY_CROPS, scheme_named(subject.scheme), seed=0)
    return cut_crops(faces, CropRule(subject.input_size, subject.box_scale))
