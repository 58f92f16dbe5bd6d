"""The verbs that make things: run a recipe, slim a run again, export a student."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray
from rich.progress import Progress
from torch import nn

from slimalign.chain import Chain, searched
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.distil import ABLATION
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.processes import failing_together
from slimalign.compress.recipe import Recipe, SlimRecipe
from slimalign.compress.slim import check_budget, slimmed_architecture, student_from
from slimalign.compress.torch_files import read_network
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.calibration import check_enough
from slimalign.export.formats import Format, check_imports, format_named
from slimalign.export.lint.lint import lint
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, GraphOptions, Workbench
from slimalign.exporting import ExportJob, RescueBy, Rescuer, raise_all, tell, write_bundles
from slimalign.faces import Faces, read_split, recipe_faces
from slimalign.pictures import draw_run
from slimalign.run_folder import (
    PARITY_CROPS_NAME,
    RUN_NAME,
    WATERFALL_NAME,
    Claim,
    check_faces,
    claim,
    recipe_of,
)
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.engine_builder import EngineError, Settings, check_batches, engine_for, library_for
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.targets.target import Target
from slimalign.waterfall import (
    BUNDLES,
    OWN_NAMES,
    PARITY_CROPS,
    STUDENT,
    Waterfall,
    export_steps,
    measure,
    subject_of,
    waterfall_of,
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
    in the others the answer is None.
    """
    _check_counts(devices, nodes)
    check_imports(recipe.export.formats)
    _check_budget(recipe)
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
    chain = Chain(recipe, faces, folder, fabric, progress)
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
    draw_run(chain, slimmed.architecture, bundles, student)
    return RunResult(folder, waterfall, failures)


def _opening(recipe: Recipe, faces: Faces, folder: Path, fabric: Fabric) -> str:
    rows = len(ABLATION) if recipe.distil.ablation else 1
    stages = [
        f"teacher ({recipe.teacher.epochs} epochs)",
        f"supernet ({recipe.search.epochs} epochs)",
        f"{'' if rows == 1 else f'{rows} times '}distillation ({recipe.distil.epochs} epochs)",
    ]
    if recipe.baseline is not None:
        stages.append(
            f"the student and {recipe.baseline.count} random architectures from scratch "
            f"({recipe.baseline.epochs} epochs each)"
        )
    return (
        f"{folder}: {len(faces.train)} faces to train on, {len(faces.val)} to choose by, {len(faces.test)} to test; "
        f"{', '.join(stages)}; on {fabric.device.type}"
    )


def _take(claimed: Claim, progress: Progress) -> None:
    if claimed.stale:
        names = ", ".join(stage.name for stage in claimed.stale)
        progress.console.print(f"{claimed.folder}: removing {names}, to be trained anew")
    claimed.take()


def _check_budget(recipe: Recipe) -> None:
    landmarks = scheme_named(recipe.data.scheme).count
    check_budget(recipe.search.supernet(landmarks, recipe.input.size), recipe.slim)


def _check_counts(devices: int, nodes: int) -> None:
    for name, number in (("devices", devices), ("nodes", nodes)):
        if number < 1:
            raise UserError(f"--{name} {number}: give a whole number of at least 1")


def _launched(recipe: Recipe, devices: int, nodes: int, progress: Progress) -> Fabric:
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
    """A new cut of a run's supernet: its architecture, and the bundle of the student before fine-tuning."""

    architecture: Architecture
    bundle: Bundle


def slim(folder: Path, cut: SlimRecipe, name: str, progress: Progress) -> SlimResult:
    """Cut the supernet of the run in ``folder`` again and write the student's PyTorch bundle there.

    What an operation's importance is, the run's own recipe says.
    """
    place = _slim_place(folder, name)
    found = searched(folder)
    architecture = slimmed_architecture(found.supernet.architecture, found.importances, cut)
    subject = subject_of(found.recipe, name, student_from(found.supernet, architecture))
    bench = Workbench(subject, _parity_crops(folder, subject))
    bundle = write_bundle(place, bench, "torch", partial(tell, progress, name, "torch"))
    return SlimResult(architecture, bundle)


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


@dataclass(frozen=True)
class FacesFolder:
    """A data set for exports: ``folder`` in ``format_name``; a run reads it by its recipe, a bundle takes the splits
    ``train`` and ``val``.
    """

    folder: Path | None
    format_name: str
    normaliser: str
    skip_bad: bool


@dataclass(frozen=True)
class ExportOptions:
    """What may be asked of an export beside its formats.

    With ``engine`` the engines of TensorRT bundles are built too, ahead of time; ``rescue`` is for int8 files that
    fail; every file is linted for ``target``, where there is one.
    """

    graph: GraphOptions = field(default_factory=GraphOptions)
    engine: Settings | None = None
    rescue: RescueBy = field(default_factory=RescueBy)
    target: Target | None = None


def export(
    source: Path,
    formats: Sequence[str],
    out: Path | None,
    data: FacesFolder,
    options: ExportOptions,
    progress: Progress,
) -> list[Bundle]:
    """Export a run's student, or a PyTorch bundle, in each of ``formats`` into ``out``/<name>-<format>.

    ``out`` is ``exported``/<name of the source's folder> by default.

    Each file is checked before it counts as exported: one in float32 against PyTorch, on the run's own faces, or on
    drawn ones where ``source`` is a bundle; one of fewer bits by its NME on the validation faces of ``data``. Raises
    CheckError for those that do not hold, or would not run on the target, once all are written.
    """
    kinds = [format_named(format_name) for format_name in formats]
    check_imports(formats)
    if options.engine is not None:
        _check_engine(kinds, options.engine)
    out = Path("exported") / source.resolve().name if out is None else out
    place = out.resolve()
    if place.name == BUNDLES and (place.parent / RUN_NAME).is_file():
        raise UserError(
            f"--out {out}: a run's own bundles, with what was measured of them; give another folder"
        )
    subject = _subject_from(source)
    faces = None if all(kind.exact for kind in kinds) else _export_faces(source, subject, data, progress)
    bench = Workbench(subject, _parity_crops(source, subject), faces, options.graph)
    jobs = [ExportJob(out, bench, format_name) for format_name in dict.fromkeys(formats)]
    rescuer = Rescuer(bench, out / f"{subject.name}-qat", options.rescue, progress)
    bundles, failures = write_bundles(jobs, progress, rescuer)
    if options.engine is not None:
        engines = [bundle for bundle in bundles if bundle.manifest.format == "tensorrt"]
        failures += _build_engines(engines, options.engine, progress)
    if options.target is not None:
        failures += _lint(bundles, options.target, progress)
    raise_all(failures)
    return bundles


def _check_engine(kinds: Sequence[Format], settings: Settings) -> None:
    """Before anything is written: whether there is an engine to build, and what builds it."""
    if all(kind.kind != "tensorrt" for kind in kinds):
        raise UserError(
            f"--compute-capability {settings.capability}: no engine is asked for; add tensorrt-fp16 or tensorrt-int8 "
            "to --formats"
        )
    try:
        check_batches(settings.batches)
        library_for(settings.capability)
    except EngineError as error:
        raise UserError(str(error)) from None


def _build_engines(bundles: Sequence[Bundle], settings: Settings, progress: Progress) -> list[CheckError]:
    """Build the engines of ``bundles``; what is wrong with those that cannot be built."""
    failures = []
    for bundle in bundles:
        task = progress.add_task(f"building the engine of {bundle.folder.name}", total=None)
        try:
            path = engine_for(str(bundle.folder), settings)
        except EngineError as error:
            failures.append(CheckError(str(error)))
        else:
            progress.console.print(
                f"{path}: {Path(path).stat().st_size:,} bytes, for compute capability {settings.capability}; it was "
                "not run"
            )
        progress.remove_task(task)
    return failures


def _lint(bundles: Sequence[Bundle], target: Target, progress: Progress) -> list[CheckError]:
    """Print how many findings there are in each bundle for ``target``; what would not run there."""
    failures = []
    for bundle in bundles:
        if bundle.manifest.format == "torch":
            continue
        report = lint(bundle.model_path, target)
        told = (
            f"{bundle.folder} on {report.target}: {report.errors} errors in {len(report.findings)} findings"
        )
        if report.errors:
            failures.append(CheckError(f"{told}; see slimalign lint"))
        progress.console.print(told)
    return failures


def _export_faces(source: Path, subject: ExportSubject, data: FacesFolder, progress: Progress) -> ExportFaces:
    """Training and validation faces: those of the run's recipe, or the splits ``train`` and ``val`` of ``data``."""
    if (source / RUN_NAME).is_file():
        recipe = recipe_of(source)
        faces = recipe_faces(recipe.data, data.folder, data.skip_bad, progress)
        check_faces(source, faces)
        return ExportFaces(faces.train, faces.val, recipe.data.normaliser)
    if data.folder is None:
        raise UserError(
            f"{source}: files of fewer bits are calibrated and judged on faces; give them with --data path/to/faces"
        )
    scheme = scheme_named(subject.scheme)
    training, validation = (
        read_split(data.format_name, scheme, data.folder, split, data.skip_bad, progress, normaliser)
        for split, normaliser in (("train", None), ("val", data.normaliser))
    )
    return ExportFaces(training, validation, data.normaliser)


def _subject_from(source: Path) -> ExportSubject:
    is_bundle = (source / MANIFEST_NAME).is_file()
    folder = source if is_bundle else source / BUNDLES / f"{STUDENT}-torch"
    if not is_bundle and not (source / WATERFALL_NAME).is_file():
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
    )


def _parity_crops(source: Path, subject: ExportSubject) -> NDArray[np.uint8]:
    """The run's own crops, or those of drawn faces where ``source`` is no run that kept some: (N, S, S, 3)."""
    kept = source / PARITY_CROPS_NAME
    if kept.is_file():
        crops: NDArray[np.uint8] = np.load(kept)
        return crops
    faces = drawn_samples(PARITY_CROPS, scheme_named(subject.scheme), seed=0)
    return cut_crops(faces, CropRule(subject.input_size, subject.box_scale))
