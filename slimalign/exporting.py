"""The verb that exports: a run's student, or a PyTorch bundle, to files that devices run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.torch_files import read_network
from slimalign.export.formats import Format, check_imports, format_named
from slimalign.export.lint.lint import lint
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, GraphOptions, Workbench
from slimalign.export_jobs import ExportJob, RescueBy, Rescuer, raise_all, write_bundles
from slimalign.faces import read_split, recipe_faces
from slimalign.run_folder import check_faces, recipe_of
from slimalign.run_names import BUNDLES, PARITY_CROPS_NAME, RUN_NAME, WATERFALL_NAME
from slimalign.runtimes.bundle import Bundle, is_bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.engine_builder import EngineError, Settings, check_batches, engine_for, library_for
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.schemes import scheme_named
from slimalign.targets.target import Target
from slimalign.waterfall import PARITY_CROPS, student_name


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
    fail; every file is linted for ``target``, where there is one. With ``zipped`` a zip of each bundle is put beside
    it. ``name`` is that of the bundles, by default the source's own.
    """

    graph: GraphOptions = field(default_factory=GraphOptions)
    engine: Settings | None = None
    rescue: RescueBy = field(default_factory=RescueBy)
    target: Target | None = None
    zipped: bool = False
    name: str | None = None


def export(
    source: Path,
    formats: Sequence[str],
    out: Path | None,
    data: FacesFolder,
    options: ExportOptions,
    progress: Progress,
) -> list[Bundle]:
    """Export a run's student, or a PyTorch bundle, in each of ``formats`` into ``out``/<name>-<format>.

    ``out`` is ``exported``/<name of the source> by default.

    Each file is checked before it counts as exported: one in float32 against PyTorch, on the run's own faces, or on
    drawn ones where ``source`` is a bundle; one of fewer bits by its NME on the validation faces of ``data``. Where
    there are such faces, every file is given the score that tells faces from others. Raises CheckError for those that
    do not hold, or would not run on the target, once all are written.
    """
    kinds = [format_named(format_name) for format_name in formats]
    check_imports(formats)
    if options.engine is not None:
        _check_engine(kinds, options.engine)
    if options.target is not None:
        _check_runs(formats, options.target, options.engine)
    if out is None:
        out = Path("exported") / (source.stem if source.is_file() else source.resolve().name)
    place = out.resolve()
    if place.name == BUNDLES and (place.parent / RUN_NAME).is_file():
        raise UserError(
            f"--out {out}: a run's own bundles, with what was measured of them; give another folder"
        )
    subject = _named(_subject_from(source), options.name)
    if options.rescue.training and isinstance(subject.network, Cascade):
        raise UserError(f"--qat: {source} is a cascade, which is not trained for int8; use --rescue")
    needless = data.folder is None and all(kind.exact for kind in kinds)
    faces = None if needless else _export_faces(source, subject, data, progress)
    bench = Workbench(subject, parity_crops(source, subject), faces, options.graph)
    jobs = [ExportJob(out, bench, format_name) for format_name in dict.fromkeys(formats)]
    rescuer = Rescuer(bench, out / f"{subject.name}-qat", options.rescue, progress)
    bundles, failures = write_bundles(jobs, progress, rescuer)
    if options.engine is not None:
        engines = [bundle for bundle in bundles if bundle.manifest.format == "tensorrt"]
        failures += _build_engines(engines, options.engine, progress)
    if options.target is not None:
        failures += _lint(bundles, options.target, progress)
    if options.zipped:
        for bundle in bundles:
            bundle.write_zip(bundle.folder.with_name(f"{bundle.folder.name}.zip"))
    raise_all(failures)
    return bundles


def _named(subject: ExportSubject, name: str | None) -> ExportSubject:
    """``subject`` under ``name``, which becomes part of folders' names."""
    if name is None:
        return subject
    if not name or name.startswith(".") or {"/", "\\", "\0"} & set(name):
        raise UserError(
            f"--name {name!r}: it becomes a folder's name; leave out slashes, and a dot at the start"
        )
    return replace(subject, name=name)


def _check_runs(formats: Sequence[str], target: Target, engine: Settings | None) -> None:
    """Raise UserError for what ``target`` does not run; a TensorRT engine may be built of any ONNX file."""
    if engine is not None and engine.capability != target.compute_capability:
        raise UserError(
            f"--compute-capability {engine.capability}: {target.name} has {target.compute_capability}; leave it "
            "out and run the bundle's build_engine.py on the device"
        )
    runs = {*target.runtimes, "torch"} | ({"onnx"} if "tensorrt" in target.runtimes else set())
    for name in formats:
        if format_named(name).kind not in runs:
            raise UserError(f"--formats {name}: {target.name} runs {', '.join(target.formats)}")


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
    """Print what lint finds in each bundle for ``target``; the failures of those that would not run there."""
    failures = []
    for bundle in bundles:
        if bundle.manifest.format == "torch":
            continue
        report = lint(bundle.model_path, target)
        told = f"{bundle.folder} on {report.target}"
        if report.errors:
            failures.append(
                CheckError(f"{told} does not run, or computes something else; see slimalign lint")
            )
        progress.console.print(f"{told}: lint found {'this' if report.findings else 'nothing'}")
        for found in report.findings:
            progress.console.print(f"  {found.told}")
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
    given = is_bundle(source)
    if not given and not (source / WATERFALL_NAME).is_file():
        raise UserError(
            f"{source}: neither a finished run nor a PyTorch bundle; give one made by 'slimalign run'"
        )
    bundle = read_bundle(source if given else source / BUNDLES / f"{student_name(recipe_of(source))}-torch")
    if bundle.manifest.format != "torch":
        raise UserError(
            f"{source}: a bundle of format {bundle.manifest.format}; export starts from a torch bundle"
        )
    manifest = bundle.manifest
    return ExportSubject(
        name=manifest.name,
        network=read_network(bundle.folder),
        input_size=manifest.input_size,
        box_scale=manifest.box_scale,
        scheme=manifest.scheme,
        decoder=manifest.decoder,
        stride=manifest.stride,
    )


def parity_crops(source: Path, subject: ExportSubject) -> NDArray[np.uint8]:
    """The run's own crops, or those of drawn faces where ``source`` is no run that kept some: (N, S, S, 3)."""
    kept = source / PARITY_CROPS_NAME
    if kept.is_file():
        crops: NDArray[np.uint8] = np.load(kept)
        return crops
    faces = drawn_samples(PARITY_CROPS, scheme_named(subject.scheme), seed=0)
    return cut_crops(faces, CropRule(subject.input_size, subject.box_scale))
