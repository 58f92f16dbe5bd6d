"""300W: images with 68-point ``.pts`` files beside them, or an HRNet-style CSV list.

``<split>.txt`` lists the images by their paths from the root, one a line, for example
``lfpw/testset/image_0001.jpg`` with ``lfpw/testset/image_0001.pts`` beside it. Where there is no such list,
``face_landmarks_300w_<split>.csv`` is read (see ``hrnet_csv``).

A ``.pts`` file holds one ``x y`` a line, between braces and below ``version`` and ``n_points``, or without
any of these. The pixels count from 1 and are brought to 0.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import hrnet_csv
from slimalign.compress.data.readers.annotations import (
    AnnotationError,
    Floats,
    find_list,
    image_sample,
    numbered_lines,
    parse_numbers,
    read_text,
    split_from,
)
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.schemes import W300

SCHEME = W300

LISTS = ("{split}.txt", hrnet_csv.W300.file)

_SOURCES = ("afw", "helen", "lfpw", "ibug")
_HEADER = re.compile(r"(version|n_points)\s*:\s*(\S+)")


def read_split(root: Path, split: str) -> Split:
    """The split listed in ``<split>.txt`` or in the CSV list of that name."""
    path = find_list(root, LISTS, split)
    if path.suffix == ".csv":
        return hrnet_csv.read_list(path, hrnet_csv.W300, subsets_of)
    rows = [(line.strip(), line.strip()) for _, line in numbered_lines(path)]
    return split_from(rows, lambda name: _read_face(root, name), SCHEME)


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
