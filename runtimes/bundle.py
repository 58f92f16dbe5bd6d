"""The bundle: a folder with one model file and ``bundle.json``, all that a device needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from slimalign.runtimes.bundle_zip import MANIFEST_NAME as MANIFEST_NAME
from slimalign.runtimes.bundle_zip import unpacked, write_zip
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.manifest_kinds import KINDS, check_kinds
from slimalign.runtimes.schemes import SCHEMES, LandmarkScheme, scheme_named

SCHEMA_VERSION = 1
LAYOUTS = ("NCHW", "NHWC")
COORDINATES = ("zero-to-one", "minus-one-to-one", "pixels")
"""Outputs of files from elsewhere: x and y of each point over the crop, see slimalign.runtimes.answers."""
OUTPUTS = ("heatmaps", "points", *COORDINATES)
COLOURS = ("rgb", "bgr")
ORIGINS = ("centre", "edge")
VALUES_PER_POINT = (2, 3)
READING = ("input_size", "box_scale", "mean", "std", "scheme", "decoder", "stride")
"""Entries of the manifest that decide the points beside the model file."""
FOREIGN_READING = ("colour", "output_name", "origin", "values_per_point", "landmarks")
"""The same of files from elsewhere; bundles of older versions have none of them."""


@dataclass(frozen=True)
class Manifest:
    """What ``bundle.json`` says of a model file.

    ``format`` is ``onnx``, ``litert``, ``tensorrt`` or ``torch``; ``layout`` (``NCHW`` or ``NHWC``) holds for the
    input and the heatmaps. Where ``output`` is ``points`` the file decodes its heatmaps itself. The input is RGB:
    (pixel / 255 - mean) / std, float32. ``stride`` is the input size over the heatmap size. ``batch`` is the fixed
    batch size, or None where any batch size can be run.
    A file from elsewhere may take its ``colour`` as ``bgr``, then ``mean`` and ``std`` are in that order too. Where it
    gives coordinates, ``output`` says in what unit, ``origin`` whether 0 stands for the ``centre`` of the first pixel
    or the crop's ``edge``, half a pixel before it, and ``values_per_point`` how many numbers each point has, x and y
    first; their points score 1. ``landmarks`` names for each point of the scheme the file's point, None where they are
    the same; ``output_name`` is that of the output, where the file has others.
    ``files`` maps each file beside the manifest to its sha256. ``cost`` holds params and multiply-adds
    (``macs``), whole and without the head; ``nme`` maps a split to the NME in percent that this file was
    measured to have on it; ``tools`` maps each tool that made the file to its version. ``calibration`` is the hash of
    the faces on which the ranges of activations were taken, ``int8_share`` the share of the multiply-adds outside the
    head that are in int8, ``gate`` what the file's NME was against its network's when it was let out, in percent: both
    NMEs, the loss and that loss's interval. They are None for files that need none of it. What has a mean score over
    its points below ``score_threshold`` is not a face; None where no faces told how high it must be.
    """

    name: str
    model: str
    format: str
    precision: str
    input_size: int
    box_scale: float
    layout: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scheme: str
    decoder: str
    stride: int
    batch: int | None
    files: Mapping[str, str]
    cost: Mapping[str, int] = field(default_factory=dict)
    nme: Mapping[str, float] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    calibration: str | None = None
    output: str = "heatmaps"
    int8_share: float | None = None
    gate: Mapping[str, float] | None = None
    score_threshold: float | None = None
    colour: str = "rgb"
    output_name: str | None = None
    origin: str = "centre"
    values_per_point: int = 2
    landmarks: tuple[int, ...] | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def crop_rule(self) -> CropRule:
        """How a face box becomes this network's input."""
        return CropRule.of(self)

    @property
    def sha256(self) -> str:
        """The hash that keys results: of the model file, and of all by which a photo becomes its input and heatmaps
        become points. Another decoder or crop makes another NME of the same model file.
        """
        reading = {name: getattr(self, name) for name in READING}
        # Only what is not as it always was: the keys of older bundles stay as they are.
        usual = {entry.name: entry.default for entry in fields(self)}
        foreign = {name: getattr(self, name) for name in FOREIGN_READING}
        reading |= {name: value for name, value in foreign.items() if value != usual[name]}
        if self.output in COORDINATES:
            reading["output"] = self.output
        key = json.dumps([self.files[self.model], reading], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()

    @property
    def landmark_scheme(self) -> LandmarkScheme:
        """The scheme whose points the heatmaps stand for."""
        return scheme_named(self.scheme)

    def to_json(self) -> str:
        """The text of ``bundle.json``."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files have been checked against their hashes."""

    folder: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.folder / self.manifest.model

    @property
    def sha256(self) -> str:
        """The hash that keys this bundle's results."""
        return self.manifest.sha256

    def write_zip(self, path: Path) -> None:
        """Put the manifest and its files, and nothing else, into the zip ``path``: the same bundle, the same bytes."""
        write_zip(self.folder, [MANIFEST_NAME, *self.manifest.files], path)


def read_bundle(place: str | Path) -> Bundle:
    """Open the bundle in ``place``, a folder or a zip of one, and check every file against its sha256.

    A zip is unpacked into the user's cache, where its engines are kept too. Raises UserError where the folder, its
    manifest or a file is missing, newer than this version can read, or not what the manifest says, and for a zip that
    holds anything else.
    """
    place = Path(place)
    return unpacked(place, file_sha256(place), _read_folder) if place.is_file() else _read_folder(place)


def is_bundle(place: Path) -> bool:
    """Whether a bundle seems to be at ``place``: a folder with a manifest, or a zip."""
    # A .tflite file's metadata is a zip that is appended to it.
    return (place / MANIFEST_NAME).is_file() or (place.suffix != ".tflite" and is_zipfile(place))


def _read_folder(folder: Path) -> Bundle:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UserError(f"{folder}: {_no_bundle(folder)}")
    manifest = _manifest_from(path)
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file}: missing, but {MANIFEST_NAME} names it; export the bundle again")
        if file_sha256(file) != expected:
            raise UserError(
                f"{file}: changed or cut short since the export (sha256 differs); export it again"
            )
    return Bundle(folder, manifest)


def _no_bundle(folder: Path) -> str:
    if not folder.exists():
        return "no such folder; give a bundle, as 'slimalign export' and 'slimalign run' make them"
    # A run keeps its bundles in bundles/, an export one beside the other.
    inside = sorted(
        path.parent for path in [*folder.glob(f"*/{MANIFEST_NAME}"), *folder.glob(f"*/*/{MANIFEST_NAME}")]
    )
    if inside:
        return f"not a bundle, but holds some; give one of {', '.join(map(str, inside))}"
    if folder.suffix == ".part":
        return "not a bundle: an export that is at work, or one that was broken off; then delete it"
    return f"not a bundle, it holds no {MANIFEST_NAME}; give a folder made by 'slimalign export' or 'slimalign run'"


def _manifest_from(path: Path) -> Manifest:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); export the bundle again") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object; export the bundle again")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version = {version}, this slimalign reads {SCHEMA_VERSION};"
            " update slimalign or export again"
        )
    needed = {entry.name for entry in fields(Manifest) if entry.default is entry.default_factory is MISSING}
    wrong = sorted((needed - set(data)) | (set(data) - set(KINDS)))
    if wrong:
        raise UserError(
            f"{path}: the entries {', '.join(wrong)} are missing or unknown; export the bundle again"
        )
    check_kinds(data, path)
    data["mean"], data["std"] = tuple(data["mean"]), tuple(data["std"])
    if data.get("landmarks") is not None:
        data["landmarks"] = tuple(data["landmarks"])
    manifest = Manifest(**data)
    _check(manifest, path)
    return manifest


def _check(manifest: Manifest, path: Path) -> None:
    """Raise UserError for the first entry that no session could work with."""
    chosen = {
        "layout": LAYOUTS,
        "output": OUTPUTS,
        "decoder": DECODERS,
        "scheme": tuple(SCHEMES),
        "colour": COLOURS,
        "origin": ORIGINS,
        "values_per_point": VALUES_PER_POINT,
    }
    for entry, known in chosen.items():
        value = getattr(manifest, entry)
        if value not in known:
            told = f"'{value}'" if isinstance(value, str) else value
            raise UserError(
                f"{path}: {entry} = {told}, must be one of {', '.join(map(str, known))}; export the bundle again"
            )
    points, landmarks = manifest.landmark_scheme.count, manifest.landmarks
    faults = {
        f"input_size = {manifest.input_size}, must be at least 1": manifest.input_size < 1,
        f"stride = {manifest.stride}, must be at least 1": manifest.stride < 1,
        f"batch = {manifest.batch}, must be at least 1 or null": manifest.batch is not None
        and manifest.batch < 1,
        "std and box_scale must be positive": min(*manifest.std, manifest.box_scale, 1) <= 0,
        f"landmarks names {len(landmarks or ())} points, scheme '{manifest.scheme}' has {points}": landmarks
        is not None
        and len(landmarks) != points,
        f"model = '{manifest.model}' is not among its files": manifest.model not in manifest.files,
        "its files must lie in the bundle's folder": any(Path(name).name != name for name in manifest.files),
    }
    for fault, found in faults.items():
        if found:
            raise UserError(f"{path}: {fault}; export the bundle again")


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
