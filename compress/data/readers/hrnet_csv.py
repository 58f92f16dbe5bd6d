"""The CSV lists that HRNet's face alignment made common: ``face_landmarks_<set>_<split>.csv``.

A line of names, then a line a face: the image's path below ``images/`` (or below the list's own folder),
the scale (longest side of the face / 200), the centre's x and y, and x,y of every point. AFLW has the size of
the face's box between scale and centre, by which its published NMEs are normalised. Scale and centre are not
used: the box is the tight one around the landmarks.

In 300W and COFW the numbers are those of the sets' own files, whose pixels count from 1; they are brought to
0. WFLW and AFLW are taken as published. A split may be any list there is: ``valid_common``, ``test_blur`` ...
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers.annotations import (
    AnnotationError,
    find_list,
    image_folder,
    image_sample,
    numbered_lines,
    parse_numbers,
    split_from,
)
from slimalign.compress.data.sample import Sample
from slimalign.runtimes import schemes
from slimalign.runtimes.schemes import LandmarkScheme


@dataclass(frozen=True)
class ListFormat:
    """A list's file name, scheme, columns before the points, and the coordinates of the first pixel."""

    file: str
    scheme: LandmarkScheme
    leading: int
    first_pixel: float
    box_size: int | None = None
    """The column of the face box's size, where the list has one."""


W300 = ListFormat("face_landmarks_300w_{split}.csv", schemes.W300, leading=4, first_pixel=1.0)
WFLW = ListFormat("face_landmarks_wflw_{split}.csv", schemes.WFLW, leading=4, first_pixel=0.0)
COFW = ListFormat("face_landmarks_cofw_{split}.csv", schemes.COFW, leading=4, first_pixel=1.0)
AFLW = ListFormat("face_landmarks_aflw_{split}.csv", schemes.AFLW, leading=5, first_pixel=0.0, box_size=2)


def no_subsets(name: str) -> tuple[str, ...]:
    """For sets whose lists say nothing about subsets."""
    return ()


def read_split(root: Path, split: str, form: ListFormat) -> Split:
    """The split in the list that ``form`` names."""
    return read_list(find_list(root, (form.file,), split), form)


def read_list(
    path: Path, form: ListFormat, subsets_of: Callable[[str], tuple[str, ...]] = no_subsets
) -> Split:
    """The faces of one list; ``subsets_of`` gives an image's labels from its path."""
    images = image_folder(path.parent)
    lines = [(number, next(csv.reader([line]))) for number, line in numbered_lines(path)]
    # A list cut out of a longer one may lack the names: then its first line holds a face.
    faces = lines[1:] if lines and _is_header(lines[0][1]) else lines
    rows = [(f"{path.name} line {number}", fields) for number, fields in faces]
    return split_from(rows, lambda fields: _read_face(images, fields, form, subsets_of), form.scheme)


def _is_header(fields: list[str]) -> bool:
    try:
        return len(parse_numbers(fields[1:2])) == 0
    except AnnotationError:
        return True


def _read_face(
    images: Path, fields: list[str], form: ListFormat, subsets_of: Callable[[str], tuple[str, ...]]
) -> Sample:
    expected = form.leading + 2 * form.scheme.count
    if len(fields) != expected:
        raise AnnotationError(f"{len(fields)} columns, {form.scheme.name} needs {expected}")
    name = fields[0].strip()
    points = parse_numbers(fields[form.leading :]).reshape(-1, 2) - form.first_pixel
    sample = image_sample(images / name, name, points, subsets=subsets_of(name))
    if form.box_size is None:
        return sample
    (size,) = parse_numbers(fields[form.box_size : form.box_size + 1])
    if not (np.isfinite(size) and size > 0):
        raise AnnotationError(f"the size of its face box is {size:g}, must be above 0")
    return replace(sample, box_size=float(size))
