"""300W: images with 68-point ``.pts`` files beside them, as downloaded or listed, or an HRNet-style CSV list.

``<split>.txt`` lists the images by their paths from the root, one a line, for example
``lfpw/testset/image_0001.jpg`` with ``lfpw/testset/image_0001.pts`` beside it. Where there is no such list,
``face_landmarks_300w_<split>.csv`` is read (see ``hrnet_csv``). Where there is neither, the splits are those of
the benchmark, ``STANDARD_SPLITS``, taken from the folders of the official download: every image with a ``.pts``
beside it, mirrored copies (``*_mirror.*``) left out. The folders lie in the root or one level below. 300W has no
official validation split; what a list ``val*.txt`` sets aside for one is left out of this ``train``.

A ``.pts`` file holds one ``x y`` a line, between braces and below ``version`` and ``n_points``, or without
any of these. The pixels count from 1 and are brought to 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from slimalign.compress.data.checks import Problem, Split
from slimalign.compress.data.readers import hrnet_csv
from slimalign.compress.data.readers.annotations import (
    AnnotationError,
    Floats,
    existing_list,
    find_list,
    image_sample,
    numbered_lines,
    parse_numbers,
    read_text,
    split_from,
)
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import W300

SCHEME = W300

LISTS = ("{split}.txt", hrnet_csv.W300.file)

_TRAIN = ("afw", "helen/trainset", "lfpw/trainset")
_COMMON = ("helen/testset", "lfpw/testset")
_CHALLENGING = ("ibug",)
_FULL = (*_COMMON, *_CHALLENGING)

STANDARD_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": _TRAIN,
        "common": _COMMON,
        "challenging": _CHALLENGING,
        "full": _FULL,
        "test": _FULL,
        "valid": _FULL,
    }
)
"""The folders of the official download that make up each split; HRNet's lists call the full test set ``valid``."""

OFFICIAL_FACES: Mapping[str, int] = MappingProxyType(
    {
        "afw": 337,
        "helen/trainset": 2000,
        "lfpw/trainset": 811,
        "helen/testset": 330,
        "lfpw/testset": 224,
        "ibug": 135,
    }
)
"""How many faces the benchmark has in each folder: 3148 to train on and 689 to test."""

_IMAGES = (".png", ".jpg", ".jpeg")
_SOURCES = ("afw", "helen", "lfpw", "ibug")
_HEADER = re.compile(r"(version|n_points)\s*:\s*(\S+)")


def read_split(root: Path, split: str) -> Split:
    """The split listed in ``<split>.txt`` or in the CSV list of that name, or else that of the folders.

    Raises UserError where there is no such list, and none of the official folders or not all that the split needs; an
    official folder with more or fewer faces than the benchmark's leaves the split incomplete.
    """
    path = existing_list(root, LISTS, split)
    folders = _official_folders(root) if path is None else {}
    if folders:
        found = _read_faces(root, _standard_split(root, split, folders))
        return replace(found, incomplete=_incomplete_folders(split, folders))
    path = path or find_list(root, LISTS, split)
    if path.suffix == ".csv":
        return hrnet_csv.read_list(path, hrnet_csv.W300, subsets_of)
    return _read_faces(root, _listed_names(path))


def _official_folders(root: Path) -> dict[str, list[str]]:
    """The images' paths from ``root`` in each official folder that holds faces."""
    folders = {folder: _names_in(root, folder) for folder in (*_TRAIN, *_FULL)}
    return {folder: names for folder, names in folders.items() if names}


def _names_in(root: Path, folder: str) -> list[str]:
    """The images of the first ``folder`` in the root or one level below that holds faces, sorted by name."""
    for place in (root / folder, *sorted(root.glob(f"*/{folder}"))):
        names = sorted(path.relative_to(root).as_posix() for path in place.glob("*") if _is_face(path))
        if names:
            return names
    return []


def _is_face(path: Path) -> bool:
    mirrored = path.stem.endswith("_mirror")
    return path.suffix.lower() in _IMAGES and not mirrored and path.with_suffix(".pts").is_file()


def _standard_split(root: Path, split: str, folders: Mapping[str, list[str]]) -> list[str]:
    if split not in STANDARD_SPLITS:
        raise UserError(
            f"{root}: 300W has no official split '{split}', its folders give {', '.join(STANDARD_SPLITS)}; "
            f"choose one of these, or name the images of yours in {split}.txt"
        )
    missing = [folder for folder in STANDARD_SPLITS[split] if folder not in folders]
    if missing:
        raise UserError(
            f"{root}: the split '{split}' needs {', '.join(missing)}, with a .pts beside each image; "
            f"copy that there, or name the images you have in {split}.txt"
        )
    aside = _validation_names(root) if split == "train" else set()
    return [name for folder in STANDARD_SPLITS[split] for name in folders[folder] if name not in aside]


def _incomplete_folders(split: str, folders: Mapping[str, list[str]]) -> tuple[Problem, ...]:
    """A part of a test set would otherwise pass for the benchmark's."""
    counts = {folder: (len(folders[folder]), OFFICIAL_FACES[folder]) for folder in STANDARD_SPLITS[split]}
    return tuple(
        Problem(
            folder,
            f"{there} faces, the benchmark has {official}; if these are wanted name them in {split}.txt",
        )
        for folder, (there, official) in counts.items()
        if there != official
    )


def _validation_names(root: Path) -> set[str]:
    # Lists of one's own are cut out of the training folders, and would be trained on too.
    return {name for path in root.glob("val*.txt") for name in _listed_names(path)}


def _listed_names(path: Path) -> list[str]:
    return [line.strip() for _, line in numbered_lines(path)]


def _read_faces(root: Path, names: Iterable[str]) -> Split:
    return split_from(((name, name) for name in names), lambda name: _read_face(root, name), SCHEME)


def _read_face(root: Path, name: str) -> Sample:
    image = root / name
    points = parse_pts(read_text(image.with_suffix(".pts")))
    return image_sample(image, name, points, subsets=subsets_of(name))


def parse_pts(text: str) -> Floats:
    """The points (K, 2) of a ``.pts`` file's text, in pixels from 0; raises AnnotationError."""
    declared: float | None = None
    fields: list[str] = []
    for line in text.splitlines():
        header = _HEADER.match(line.strip())
        if header is None:
            fields += line.replace("{", " ").replace("}", " ").split()
        elif header.group(1) == "n_points":
            declared = float(parse_numbers([header.group(2)])[0])
    if text.count("{") != text.count("}"):
        raise AnnotationError("its .pts file is cut short (a brace is open)")
    if len(fields) == 0 or len(fields) % 2:
        raise AnnotationError(f"its .pts file holds {len(fields)} numbers, pairs are needed")
    if declared is not None and declared != len(fields) // 2:
        raise AnnotationError(
            f"its .pts file says n_points: {declared:g} but holds {len(fields) // 2} points"
        )
    return parse_numbers(fields).reshape(-1, 2) - 1.0


def subsets_of(name: str) -> tuple[str, ...]:
    """The labels of an image, from its path alone.

    The source folder (afw, helen, lfpw, ibug), and the benchmark's subset for what is in its test part:
    ``challenge`` is all of ibug, ``common`` the test folders of helen and lfpw.
    """
    folders = PurePosixPath(name).parts[:-1]
    source = next((folder for folder in folders if folder in _SOURCES), None)
    if source is None:
        return ()
    if source == "ibug":
        return ("challenge", source)
    return ("common", source) if "testset" in folders else (source,)
