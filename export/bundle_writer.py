"""Writing bundles: the model file, checked against its network, and the manifest beside it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from slimalign.compress.cost import count
from slimalign.export.face_scores import ScoreReport, score_report
from slimalign.export.file_cost import count_file
from slimalign.export.formats import Format, format_named
from slimalign.export.gate import GateError, GateReport
from slimalign.export.golden import write_golden
from slimalign.export.int8_share import LEAST_SHARE
from slimalign.export.parity import (
    ParityError,
    ParityReport,
    PointsReport,
    compare,
    compare_points,
)
from slimalign.export.rescue import RESCUE_NAME, Rescue
from slimalign.export.workbench import Workbench
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, Manifest, file_sha256, read_bundle
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import cannot_be_written, write_text
from slimalign.runtimes.session import Session

CALIBRATION_NAME = "calibration.json"
"""The faces of the calibration, each with its hash."""

Report = ParityReport | PointsReport | GateReport | ScoreReport
"""What a file's check found, and then what its scores tell."""


def write_bundle(
    folder: str | Path,
    bench: Workbench,
    format_name: str,
    report: Callable[[Report], None] | None = None,
    rescue: Rescue | None = None,
) -> Bundle:
    """Export the subject on ``bench`` as the bundle ``folder``; a bundle that lies there is replaced.

    A file in float32 counts as exported once its heatmaps and points on the bench's parity crops agree with
    PyTorch's (its points alone where it decodes them itself), one of fewer bits once it has passed the bench's gate.
    Where the bench has faces, the score below which something is no face is worked out on them for formats of devices.
    Bundles of those get a golden face, see slimalign.runtimes.golden.
    ``report`` is told what was found. Blocks that ``rescue`` names stay in float, and the bundle keeps why. Until
    it has passed the file lies in ``folder`` + ``.part``; one that does not ends as ``.failed-parity`` or
    ``.failed-gate``, which the next one that does pass clears away.

    Raises ParityError or GateError where it does not pass, CheckError where the network finds no points and the
    format is one for devices, and UserError where the network, the faces or the place do not fit or the format's
    packages are missing.
    """
    folder = Path(folder)
    kind = format_named(format_name)
    _check_replaceable(folder)
    # Training may start from a PyTorch bundle; what a device runs has to find points.
    if kind.kind != "torch" and bench.flat:
        raise CheckError(
            f"bundle '{bench.subject.name}': its network's heatmaps are flat, so it finds no points; train it first"
        )
    check = _check_of(bench, kind)
    part = _beside(folder, "part")
    try:
        bundle = write_unjudged(part, bench, kind, rescue.float_blocks if rescue else ())
        if rescue is not None:
            write_text(part / RESCUE_NAME, rescue.to_json())
            bundle = _with_files(bundle, RESCUE_NAME)
        bundle = _scored(_checked(bundle, kind, check, report), bench, kind, report)
        _move(part, folder)
        for failed in CHECKS:
            shutil.rmtree(_beside(folder, f"failed-{failed}"), ignore_errors=True)
    except (ParityError, GateError) as error:
        place = _beside(folder, f"failed-{error.check}")
        _move(part, place)
        message = f"{place}: the {format_name} file {FAULTS[error.check]}: {error}"
        if isinstance(error, GateError):
            raise GateError(message, error.report) from None
        raise ParityError(message) from None
    except OSError as error:
        raise UserError(f"{folder}: {cannot_be_written(error)}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Bundle(folder, bundle.manifest)


CHECKS = (ParityError.check, GateError.check)
FAULTS = {
    ParityError.check: "does not compute what PyTorch does",
    GateError.check: "does not pass the gate",
}


Check = Callable[[Session], ParityReport | PointsReport | GateReport]


def _check_of(bench: Workbench, kind: Format) -> Check:
    """The check of a file; a network or faces that will not do for it are told of before anything is written."""
    if kind.exact:
        crops = bench.parity_crops
        if bench.gives_points(kind.kind):
            points = bench.points
            return lambda session: compare_points(points, session, crops)
        heatmaps = bench.heatmaps
        return lambda session: compare(heatmaps, session, crops)
    return partial(bench.gate.judge, faces=kind.gate_faces)


def _checked(bundle: Bundle, kind: Format, check: Check, report: Callable[[Report], None] | None) -> Bundle:
    """``bundle``, once it has passed; with a golden face, which the same session finds, where a device is to run it."""
    # Exact files are compared on few crops, summed in one order; those of fewer bits are judged on many faces.
    with kind.opener(bundle, 1 if kind.exact else None) as session:
        found = check(session)
        if report is not None:
            report(found)
        passed = _passed(bundle, found)
        if kind.kind == "torch":
            return passed
        return _with_files(passed, *write_golden(bundle.folder, session))


def _passed(bundle: Bundle, found: ParityReport | PointsReport | GateReport) -> Bundle:
    """``bundle``, whose check found no fault; its manifest then tells what a gate found."""
    name = bundle.manifest.name
    if isinstance(found, GateReport):
        if found.fault:
            raise GateError(f"bundle '{name}': {found.fault}", found)
        return _with_manifest(bundle, dataclasses.replace(bundle.manifest, gate=found.to_dict()))
    if found.fault:
        raise ParityError(f"bundle '{name}': {found.fault}")
    return bundle


def _scored(
    bundle: Bundle, bench: Workbench, kind: Format, report: Callable[[Report], None] | None
) -> Bundle:
    """``bundle`` with a threshold of its scores, where the bench has the faces for one."""
    if kind.kind == "torch" or not bench.has_faces:
        return bundle
    with kind.opener(bundle, None) as session:
        found = score_report(session, bench.faces.validation, bench.faces.normaliser, kind.gate_faces)
    if found is None:
        return bundle
    if report is not None:
        report(found)
    return _with_manifest(bundle, dataclasses.replace(bundle.manifest, score_threshold=found.threshold))


def with_nme(bundle: Bundle, split: str, nme: float) -> Bundle:
    """Write into the manifest of ``bundle`` that its file has an NME of ``nme`` percent on ``split``."""
    if not math.isfinite(nme):
        raise UserError(
            f"{bundle.folder}: nme of '{split}' = {nme}, must be finite; measure the bundle again"
        )
    return _with_manifest(
        bundle, dataclasses.replace(bundle.manifest, nme={**bundle.manifest.nme, split: nme})
    )


def _with_files(bundle: Bundle, *names: str) -> Bundle:
    """``bundle`` with the files ``names`` too, which are in its folder."""
    files = {**bundle.manifest.files, **{name: file_sha256(bundle.folder / name) for name in names}}
    return _with_manifest(bundle, dataclasses.replace(bundle.manifest, files=files))


def _with_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    write_text(bundle.folder / MANIFEST_NAME, manifest.to_json())
    return Bundle(bundle.folder, manifest)


def write_unjudged(part: Path, bench: Workbench, kind: Format, float_blocks: Collection[str] = ()) -> Bundle:
    """Write model, calibration and manifest into the folder ``part`` and read them back as a bundle.

    Of a quantised file ``float_blocks`` stay in float. Raises GateError where one that is to be called int8 has too
    little in int8.
    """
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = kind.write(bench, part, float_blocks)
    share = _int8_share(part / names[0], kind)
    if kind.calibrated:
        write_text(part / CALIBRATION_NAME, bench.calibration.to_json())
        names = (*names, CALIBRATION_NAME)
    manifest = dataclasses.replace(
        bench.manifest(kind.kind, kind.precision, kind.layout),
        model=names[0],
        files={name: file_sha256(part / name) for name in names},
        cost=_cost(part / names[0], kind, bench),
        tools={tool: importlib.metadata.version(tool) for tool in ("slimalign", *kind.tools)},
        calibration=bench.calibration.sha256 if kind.calibrated else None,
        int8_share=share,
    )
    write_text(part / MANIFEST_NAME, manifest.to_json())
    return read_bundle(part)


def _cost(model: Path, kind: Format, bench: Workbench) -> dict[str, int]:
    """Of the network, and of a file for devices also the bytes that its operators move."""
    cost = count(kind.computed(bench.subject.network), bench.subject.input_size).totals()
    if kind.kind != "torch":
        cost["bytes_moved"] = count_file(model).totals()["bytes_moved"]
    return cost


def _int8_share(model: Path, kind: Format) -> float | None:
    if kind.int8_share is None:
        return None
    share = kind.int8_share(model)
    if share < LEAST_SHARE:
        raise GateError(
            f"{100 * share:.1f} % of its multiply-adds outside the head are in int8, at least "
            f"{100 * LEAST_SHARE:.0f} % are needed"
        )
    return share


def _check_replaceable(folder: Path) -> None:
    """Raise UserError where something other than a bundle lies at ``folder``; an empty folder is nothing."""
    if not folder.exists() or (folder / MANIFEST_NAME).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder}: holds something other than a bundle; give another place or remove it")


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")


def _move(source: Path, target: Path) -> None:
    """Rename the folder ``source`` to ``target``, in place of what lies there."""
    old = _beside(target, "old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(source, target)
    except OSError:
        with suppress(OSError):  # there may be nothing to bring back
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
