"""Writing bundles: the model file, checked against PyTorch, and the manifest beside it."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.batches import MEAN, STD
from slimalign.compress.cost import count
from slimalign.export.formats import Format, format_named
from slimalign.export.parity import ParityError, ParityReport, compare, torch_heatmaps
from slimalign.export.subject import ExportSubject
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, Manifest, file_sha256, read_bundle
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import cannot_be_written, write_text

Image = NDArray[np.uint8]


def write_bundle(
    folder: str | Path,
    subject: ExportSubject,
    format_name: str,
    parity_crops: Image,
    report: Callable[[ParityReport], None] | None = None,
) -> Bundle:
    """Export ``subject`` as the bundle ``folder``; a bundle that lies there is replaced.

    ``parity_crops`` (N, S, S, 3) uint8 RGB are faces cut by the subject's crop rule: the file counts as
    exported once its heatmaps and points on them agree with PyTorch's. ``report`` is told how well they do.
    Until then it lies in ``folder`` + ``.part``; a file that does not agree ends as ``.failed-parity``,
    which the next one that does agree clears away.

    Raises ParityError where it does not agree, CheckError where the network finds no points and the format is
    one for devices, and UserError where the network, the crops or the place do
    not fit or the format's packages are missing.
    """
    folder = Path(folder)
    kind = format_named(format_name)
    _check_replaceable(folder)
    subject = _for_inference(subject)
    manifest = _manifest(subject, kind)
    reference = torch_heatmaps(subject.network, parity_crops, dataclasses.replace(manifest, layout="NCHW"))
    part = _beside(folder, "part")
    try:
        bundle = _write_files(part, subject, kind, manifest)
        with open_bundle(bundle, threads=1) as session:
            parity = compare(reference, session, parity_crops)
        if report is not None:
            report(parity)
        if parity.fault:
            raise ParityError(f"bundle '{subject.name}': {parity.fault}")
        # Training may start from a PyTorch bundle; what a device runs has to find points.
        if parity.flat and kind.name != "torch":
            raise CheckError(
                f"{folder}: its network's heatmaps are flat, so it finds no points; train it first"
            )
        _move(part, folder)
        shutil.rmtree(_beside(folder, "failed-parity"), ignore_errors=True)
    except ParityError as error:
        failed = _beside(folder, "failed-parity")
        _move(part, failed)
        raise ParityError(
            f"{failed}: the {kind.name} file does not compute what PyTorch does: {error}"
        ) from None
    except OSError as error:
        raise UserError(f"{folder}: {cannot_be_written(error)}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Bundle(folder, bundle.manifest)


def with_nme(bundle: Bundle, split: str, nme: float) -> Bundle:
    """Write into the manifest of ``bundle`` that its file has an NME of ``nme`` percent on ``split``."""
    if not math.isfinite(nme):
        raise UserError(
            f"{bundle.folder}: nme of '{split}' = {nme}, must be finite; measure the bundle again"
        )
    manifest = dataclasses.replace(bundle.manifest, nme={**bundle.manifest.nme, split: nme})
    write_text(bundle.folder / MANIFEST_NAME, manifest.to_json())
    return Bundle(bundle.folder, manifest)


def _for_inference(subject: ExportSubject) -> ExportSubject:
    """The subject with a copy of its network on the CPU, in float32 and for inference."""
    network = copy.deepcopy(subject.network).cpu().float().eval()
    return dataclasses.replace(subject, network=network)


def _manifest(subject: ExportSubject, kind: Format) -> Manifest:
    """What is known before there are files."""
    return Manifest(
        name=subject.name,
        model="",
        format=kind.name,
        precision="fp32",
        input_size=subject.input_size,
        box_scale=subject.box_scale,
        layout=kind.layout,
        mean=MEAN,
        std=STD,
        scheme=subject.scheme,
        decoder=subject.decoder,
        stride=subject.stride,
        batch=None,
        files={},
        cost=count(kind.computed(subject.network), subject.input_size).totals(),
    )


def _write_files(part: Path, subject: ExportSubject, kind: Format, manifest: Manifest) -> Bundle:
    """Write model and manifest into the folder ``part`` and read them back as a bundle."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = kind.write(subject, part)
    files = {name: file_sha256(part / name) for name in names}
    tools = {tool: importlib.metadata.version(tool) for tool in ("slimalign", *kind.tools)}
    manifest = dataclasses.replace(manifest, model=names[0], files=files, tools=tools)
    write_text(part / MANIFEST_NAME, manifest.to_json())
    return read_bundle(part)


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
