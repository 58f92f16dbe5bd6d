"""Landmark models from elsewhere: a short TOML says what an ONNX or .tflite file takes and gives, as a bundle does.

    model = "pfld.onnx"          # beside the TOML, or an absolute path
    scheme = "300w-68"
    box_scale = 1.1              # side of the crop, in sides of the face's box
    colour = "rgb"
    mean = 0                     # grey levels, one or three in the order of the colour:
    std = 255                    # the file takes (grey level - mean) / std
    output = "zero-to-one"

``NEEDED`` and ``OPTIONAL`` list the entries. Layout, input size and batch are read from the file where it fixes them.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from slimalign.foreign_file import MEND, Ends, ends_of
from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.bundle import (
    COLOURS,
    COORDINATES,
    MANIFEST_NAME,
    ORIGINS,
    VALUES_PER_POINT,
    Bundle,
    Manifest,
    file_sha256,
    read_bundle,
)
from slimalign.runtimes.bundle_zip import kept_in_cache
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.inputs import heatmaps_nchw, network_inputs
from slimalign.runtimes.manifest_kinds import Kind
from slimalign.runtimes.onnxruntime_session import open_onnx
from slimalign.runtimes.opening import open_session
from slimalign.runtimes.schemes import SCHEMES
from slimalign.targets.toml_files import read_toml

MAKER = 2
"""Changes with how bundles are made of TOMLs, so that those which are kept are made anew."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _one_or_three(words: str, holds: Callable[[Any], bool]) -> Kind:
    return Kind(
        f"{words}, or a list of three of them, one a channel",
        lambda value: (
            holds(value) or (isinstance(value, list) and len(value) == 3 and all(map(holds, value)))
        ),
    )


def _one_of(*names: Any) -> Kind:
    return Kind(
        f"one of {', '.join(map(str, names))}", lambda value: value in names and type(value) is not bool
    )


NEEDED: Mapping[str, Kind] = MappingProxyType(
    {
        "model": Kind("the path of an .onnx or .tflite file", _text),
        "scheme": _one_of(*SCHEMES),
        "box_scale": Kind("the side of the crop in sides of the face's box, above 0", _positive),
        "colour": _one_of(*COLOURS),
        "mean": _one_or_three("a number in grey levels", _number),
        "std": _one_or_three("a number in grey levels above 0", _positive),
        "output": _one_of(*COORDINATES, "heatmaps"),
    }
)
HEATMAPS: Mapping[str, Kind] = MappingProxyType(
    {
        "decoder": _one_of(*DECODERS),
        "stride": Kind("the input size over the heatmap's, a whole number from 1", partial(_whole, least=1)),
    }
)
"""Needed where ``output`` is ``heatmaps``, and of no use elsewhere."""
PLACES: Mapping[str, Kind] = MappingProxyType(
    {"origin": _one_of(*ORIGINS), "values_per_point": _one_of(*VALUES_PER_POINT)}
)
"""Of use where ``output`` is coordinates: where 0 lies in the crop, and how many numbers each point has."""
OPTIONAL: Mapping[str, Kind] = MappingProxyType(
    {
        "name": Kind("a line of text", _text),
        "precision": Kind("a word, as fp32 or int8", _text),
        "input_size": Kind("a whole number from 1", partial(_whole, least=1)),
        "layout": _one_of("NCHW", "NHWC"),
        "output_name": Kind("the name of one of the file's outputs", _text),
        "landmarks": Kind(
            "a list with the number of the file's point, from 0, for each point of the scheme",
            lambda value: isinstance(value, list) and all(_whole(one, 0) for one in value),
        ),
    }
)


def bundle_at(place: str | Path) -> Bundle:
    """The bundle at ``place``: a folder, a zip, or the TOML of a model from elsewhere; see ``read_bundle``."""
    place = Path(place)
    return foreign_bundle(place) if place.suffix == ".toml" else read_bundle(place)


def foreign_bundle(path: Path) -> Bundle:
    """The bundle of the model that the TOML ``path`` describes, kept in the user's cache as unpacked zips are.

    When it is made, the file is run once, and what it costs is counted where the packages for that are
    installed. Raises UserError with the TOML, the entry, its value and the way out.
    """
    entries = _checked_entries(path)
    model = path.parent / entries["model"]
    if model.suffix not in FORMATS:
        raise UserError(f"{path}: model = {json.dumps(entries['model'])}, must be {NEEDED['model'].words}")
    if not model.is_file():
        raise UserError(f"{path}: model = {json.dumps(entries['model'])}: there is no {model}; put it there")
    counted = importlib.util.find_spec(READERS[model.suffix]) is not None
    parts = [MAKER, path.stem, entries, file_sha256(model), model.name, counted]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return kept_in_cache(path, digest, partial(_fill, entries, model, counted), read_bundle)


FORMATS = {".onnx": "onnx", ".tflite": "litert"}
READERS = {".onnx": "onnx", ".tflite": "ai_edge_litert"}
"""The packages that read the operators of each kind of file."""


def _checked_entries(path: Path) -> dict[str, Any]:
    given = read_toml(path, "a model's TOML")
    wanted = dict(NEEDED)
    wanted |= HEATMAPS if given.get("output") == "heatmaps" else {}
    optional = dict(OPTIONAL) if given.get("output") == "heatmaps" else {**OPTIONAL, **PLACES}
    known = {**wanted, **optional}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"its entries are {', '.join(known)}"
            raise UserError(f"{path}: {name} = {json.dumps(value, default=str)}: no such entry; {hint}")
        if not known[name].holds(value):
            raise UserError(f"{path}: {name} = {json.dumps(value, default=str)}, must be {known[name].words}")
    for name, entry in wanted.items():
        if name not in given:
            raise UserError(f"{path}: {name} is missing, add it as {entry.words}")
    points, listed = SCHEMES[given["scheme"]].count, given.get("landmarks")
    if listed is not None and len(listed) != points:
        raise UserError(
            f"{path}: landmarks lists {len(listed)} points, must list {points}, one for each of {given['scheme']}"
        )
    return given


def _fill(entries: Mapping[str, Any], model: Path, counted: bool, path: Path, folder: Path) -> None:
    """Write the bundle of ``model`` into ``folder``, and try it."""
    ends = ends_of(model, path, entries)
    shutil.copyfile(model, folder / model.name)
    if model.suffix == ".onnx":
        _check_alone(folder / model.name, path)
    manifest = _manifest(entries, model, path, ends, _cost(model) if counted else {})
    write_text(folder / MANIFEST_NAME, manifest.to_json())
    _try(read_bundle(folder), path)


def _check_alone(copy: Path, path: Path) -> None:
    """Raise UserError where the ``copy`` of a file that could be opened cannot be: what it lacks lies beside the first.

    One file is needed, because by its hash results are known.
    """
    try:
        open_onnx(copy, 1, MEND)
    except UserError:
        raise UserError(
            f"{path}: model = {json.dumps(copy.name)} keeps weights in other files (external data); save it as one"
            " file, as Python's onnx.save(onnx.load(FILE), NEW_FILE) does"
        ) from None


def _try(bundle: Bundle, path: Path) -> None:
    """Run the file once, on grey crops; raises UserError where its points cannot be read off."""
    manifest = bundle.manifest
    crops = np.full((manifest.batch or 1, *[manifest.input_size] * 2, 3), 128, dtype=np.uint8)
    with open_session(bundle, 1) as session:
        raw = session.run(network_inputs(crops, manifest))
    if manifest.output == "heatmaps":
        sizes = heatmaps_nchw(raw, manifest).shape[2:] if raw.ndim == 4 else ()
        if sizes != (manifest.input_size // manifest.stride,) * 2:
            raise UserError(
                f"{path}: stride = {manifest.stride}, but the file gives heatmaps of shape {raw.shape} for crops of"
                f" {manifest.input_size} pixels"
            )
    try:
        points_and_scores(raw, manifest, manifest.landmark_scheme.count)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _manifest(
    entries: Mapping[str, Any], model: Path, path: Path, ends: Ends, cost: Mapping[str, int]
) -> Manifest:
    optional = ("output_name", "origin", "values_per_point")
    listed = entries.get("landmarks")
    return Manifest(
        name=entries.get("name", path.stem),
        model=model.name,
        format=FORMATS[model.suffix],
        precision=entries.get("precision", "fp32"),
        input_size=ends.input_size,
        box_scale=entries["box_scale"],
        layout=ends.layout,
        mean=_of_three(entries["mean"]),
        std=_of_three(entries["std"]),
        scheme=entries["scheme"],
        decoder=entries.get("decoder", DECODERS[0]),
        stride=entries.get("stride", 1),
        batch=ends.batch,
        files={model.name: file_sha256(model)},
        cost=cost,
        output=entries["output"],
        colour=entries["colour"],
        landmarks=None if listed is None else tuple(listed),
        **{name: entries[name] for name in optional if name in entries},
    )


def _of_three(levels: Any) -> tuple[float, float, float]:
    """A mean or deviation in grey levels as manifests have it, of 0..1 and for each channel."""
    first, second, third = levels if isinstance(levels, list) else (levels,) * 3
    return first / 255, second / 255, third / 255


def _cost(model: Path) -> dict[str, int]:
    """What the file costs; nothing where it has operators that cannot be counted, which 'slimalign profile' names."""
    from slimalign.export.file_cost import count_file

    with suppress(CheckError):
        return count_file(model).totals()
    return {}
