"""The verbs that make things: run a recipe, slim a run again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.progress import Progress
from torch import nn

from slimalign.cascade_chain import CascadeChain, student_of, teacher_of_cascade
from slimalign.chain import Chain, searched, teacher_of
from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.distil import ABLATION, Switches
from slimalign.compress.latency_table import LatencyTable, parts_of
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.processes import failing_together
from slimalign.compress.recipe import Recipe, TeacherRecipe, slim_recipe
from slimalign.compress.recipe_file import AnyRecipe
from slimalign.compress.slim import check_budget, slimmed_architecture, student_from, table_of
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.calibration import check_enough
from slimalign.export.formats import check_imports, format_named
from slimalign.export.workbench import Workbench
from slimalign.export_jobs import tell
from slimalign.exporting import parity_crops
from slimalign.faces import Faces, recipe_faces
from slimalign.pictures import draw_run
from slimalign.run_folder import Claim, claim, recipe_of
from slimalign.run_names import BUNDLES, WATERFALL_NAME
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.stage_cutting import CutWish, StageCut, cut_stages
from slimalign.waterfall import (
    CASCADE,
    OWN_NAMES,
    Waterfall,
    export_steps,
    measure,
    predicted,
    student_name,
    subject_of,
    waterfall_of,
)

SLOW_BF16 = (
    "precision = bf16-mixed: this processor has no instructions for bfloat16, training takes many times longer than "
    "with precision = '32-true' in the recipe"
)


@dataclass(frozen=True)
class RunResult:
    """What a run made: its folder and the waterfall that is saved there.

    ``failures`` tell of exported files that do not compute what PyTorch does; they are not in the waterfall.
    """

    folder: Path
    waterfall: Waterfall
    failures: list[CheckError]


def run(
    recipe: AnyRecipe,
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
    in the others the answer is None.
    """
    _check_counts(devices, nodes)
    check_imports(recipe.export.formats)
    _check_given(recipe)
    faces = recipe_faces(recipe.data, data, skip_bad, progress)
    if any(format_named(name).calibrated for name in recipe.export.formats):
        check_enough(faces.train)
    # Looked at before other processes start; taken by the first one.
    claim(folder, recipe, faces, retrain)
    fabric = _launched(recipe, devices, nodes, progress)
    with failing_together(fabric):
        if fabric.is_global_zero:
            _take(claim(folder, recipe, faces, retrain), progress)
    progress.console.print(_opening(recipe, faces, folder, fabric))
    if _is_slow_in_bf16(recipe, fabric.device):
        progress.console.print(SLOW_BF16)
    if isinstance(recipe, CascadeRecipe):
        chain: Chain | CascadeChain = CascadeChain(recipe, faces, folder, fabric, progress)
    else:
        chain = Chain(recipe, faces, folder, fabric, progress)
    trained = trained_by(chain)
    if not fabric.is_global_zero:
        return None
    name = student_name(recipe)
    bundles, failures = export_steps(chain, trained.networks, trained.networks[name], progress)
    steps = measure(chain, bundles, progress)
    told = None
    if isinstance(chain, Chain) and trained.architecture is not None:
        told = predicted(chain, trained.architecture, bundles)
    waterfall = waterfall_of(chain, steps, trained.baselines, told)
    write_text(folder / WATERFALL_NAME, waterfall.to_json())
    student = next(bundle for bundle in reversed(bundles) if bundle.manifest.name == name)
    draw_run(chain, trained.architecture, bundles, student)
    return RunResult(folder, waterfall, failures)


@dataclass(frozen=True)
class Trained:
    """What a chain has trained: every network by the name of its step, the last one too.

    ``architecture`` is the found one, None of a cascade; ``baselines`` are NMEs of what was trained to compare with it.
    """

    networks: dict[str, nn.Module]
    architecture: Architecture | None = None
    baselines: dict[str, float] = field(default_factory=dict)


def trained_by(chain: Chain | CascadeChain) -> Trained:
    """Every step of the recipe, each resumed where it stands."""
    if isinstance(chain, CascadeChain):
        return _trained_cascade(chain)
    teacher = chain.teacher()
    supernet = chain.supernet()
    slimmed = chain.student(supernet)
    # Drawn before the long training that follows, because there may be no architectures of that cost.
    rivals = chain.rivals(slimmed.architecture)
    rows = chain.distilled(slimmed, teacher)
    baselines = chain.baselines(rivals)
    # A given teacher was measured where it was made.
    trains_teacher = isinstance(chain.recipe.teacher, TeacherRecipe)
    networks: dict[str, nn.Module] = {"teacher": teacher} if trains_teacher and teacher is not None else {}
    networks |= {"supernet": supernet, "slimmed": slimmed}
    for row in rows:
        networks |= row.named
    return Trained(networks, slimmed.architecture, baselines)


def _trained_cascade(chain: CascadeChain) -> Trained:
    """The cascade cut to each number of stages; as many as earn their cost are the run's own."""
    alone = chain.alone()
    cascade = chain.cascade()
    figures = chain.stages(cascade)
    kept = chain.kept(figures)
    networks: dict[str, nn.Module] = {} if alone is None else {"alone": alone}
    for one in figures:
        if one.stages != kept:
            networks[f"{CASCADE}-{one.stages}"] = cascade.keeping(one.stages)
    networks[CASCADE] = cascade.keeping(kept)
    why = "up to the last one that surely lowers the NME"
    if not chain.faces.has_validation:
        why = "all: there are no faces to choose by but those of the test"
    chain.progress.console.print(f"cascade: {kept} of {len(figures) - 1} stages kept, {why}")
    return Trained(networks)


def _is_slow_in_bf16(recipe: AnyRecipe, device: torch.device) -> bool:
    """Whether the recipe trains in bfloat16 on an x86 processor that has no instructions for it.

    On an AMD EPYC with AVX2 alone a student's step took 10 times as long as in float32.
    """
    # Older versions of PyTorch cannot tell.
    if recipe.precision != "bf16-mixed" or device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    known = torch.cpu.get_capabilities()
    is_x86 = known.get("architecture") == "x86_64"
    return is_x86 and not any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _opening(recipe: AnyRecipe, faces: Faces, folder: Path, fabric: Fabric) -> str:
    return (
        f"{folder}: {len(faces.train)} faces to train on, {len(faces.val)} to choose by, {len(faces.test)} to test; "
        f"{', '.join(_stages_told(recipe))}; on {fabric.device.type}"
    )


def _stages_told(recipe: AnyRecipe) -> list[str]:
    if isinstance(recipe, CascadeRecipe):
        epochs = f"({recipe.training.epochs} epochs)"
        alone = [f"the heatmap network alone {epochs}"] if recipe.alone else []
        return [*alone, f"cascade of {recipe.regression.stages} stages {epochs}"]
    rows = f"{len(ABLATION)} times " if recipe.distil.ablation else ""
    learning = "distillation" if Switches.of(recipe.distil).distils else "fine-tuning"
    stages = (
        [f"teacher ({recipe.teacher.epochs} epochs)"] if isinstance(recipe.teacher, TeacherRecipe) else []
    )
    stages += [
        f"supernet ({recipe.search.epochs} epochs)",
        f"{rows}{learning} ({recipe.distil.epochs} epochs)",
    ]
    if recipe.baseline is not None:
        stages.append(
            f"the student and {recipe.baseline.count} random architectures from scratch "
            f"({recipe.baseline.epochs} epochs each)"
        )
    return stages


def _take(claimed: Claim, progress: Progress) -> None:
    if claimed.stale:
        names = ", ".join(stage.name for stage in claimed.stale)
        progress.console.print(f"{claimed.folder}: removing {names}, to be trained anew")
    claimed.take()


def _check_given(recipe: AnyRecipe) -> None:
    """Raise UserError, before any face is read, for a budget that cannot be met and bundles that will not do."""
    if isinstance(recipe, CascadeRecipe):
        student_of(recipe)
        teacher_of_cascade(recipe)
    else:
        teacher_of(recipe)
        _check_budget(recipe)


def _check_budget(recipe: Recipe) -> None:
    landmarks = scheme_named(recipe.data.scheme).count
    check_budget(recipe.search.supernet(landmarks, recipe.input.size), recipe.slim)


def _check_counts(devices: int, nodes: int) -> None:
    for name, number in (("devices", devices), ("nodes", nodes)):
        if number < 1:
            raise UserError(f"--{name} {number}: give a whole number of at least 1")


def _launched(recipe: AnyRecipe, devices: int, nodes: int, progress: Progress) -> Fabric:
    """The processes of a run; all but the first keep silent."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            precision=recipe.precision,
            # Algorithm 1 trains the factors and the weights in turn, so that some parameters have no gradient.
            strategy="auto" if devices * nodes == 1 else "ddp_find_unused_parameters_true",
        )
    except MisconfigurationException as error:  # more GPUs than there are
        reason = " ".join(str(error).split())
        raise UserError(f"--devices {devices}: {reason}; give fewer") from None
    fabric.launch()
    if not fabric.is_global_zero:
        progress.console.quiet = True
    return fabric


@dataclass(frozen=True)
class SlimResult:
    """A new cut of a run's supernet: its architecture, and the bundle of the student before fine-tuning.

    ``predicted_ms`` is its time by the latency ``table``, None without one.
    """

    architecture: Architecture
    bundle: Bundle
    predicted_ms: float | None = None
    table: LatencyTable | None = None


def slim(folder: Path, wish: CutWish, name: str, progress: Progress) -> SlimResult | StageCut:
    """Cut the network of the run in ``folder`` again and write its PyTorch bundle there.

    What an operation's importance is, a supernet's own recipe says; a cascade is cut to its first stages.
    """
    place = _slim_place(folder, name)
    recipe = recipe_of(folder)
    if isinstance(recipe, CascadeRecipe):
        return cut_stages(folder, recipe, wish, place, progress)
    if wish.keep_stages is not None:
        raise UserError(
            f"--keep-stages {wish.keep_stages}: {folder} has no cascade; give a budget or a threshold"
        )
    cut = slim_recipe(wish.threshold, wish.max_gmacs, wish.max_params, wish.max_ms, wish.latency_table)
    found = searched(folder)
    architecture = slimmed_architecture(found.supernet.architecture, found.importances, cut)
    subject = subject_of(found.recipe, name, student_from(found.supernet, architecture))
    bench = Workbench(subject, parity_crops(folder, subject))
    bundle = write_bundle(place, bench, "torch", partial(tell, progress, name, "torch"))
    table = table_of(cut, found.supernet.architecture)
    ms = None if table is None else table.predicted_ms(parts_of(architecture))
    return SlimResult(architecture, bundle, ms, table)


def _slim_place(run_folder: Path, name: str) -> Path:
    """Where a new cut goes; raises UserError for a name that is no folder's, or that is taken."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"--name '{name}': give a name without folders")
    if name in OWN_NAMES:
        raise UserError(f"--name '{name}': the run's own bundle has that name; give another")
    place = run_folder / BUNDLES / f"{name}-torch"
    if place.exists():
        raise UserError(f"--name '{name}': {place} is there already; give another")
    return place
