"""WFLW: 98 points, ``list_98pt_rect_attr_<split>.txt``.

A line a face: 196 coordinates, 4 of the face's box, 6 flags (0 or 1), the image's path below
``WFLW_images/``. The list is looked for in the root and where the archive ``WFLW_annotations`` puts it; where
there is none, ``face_landmarks_wflw_<split>.csv`` is read (see ``hrnet_csv``). Coordinates are taken as
published, from 0. The box is the tight landmark box, as in the published evaluations, not the list's own.
"""

from __future__ import annotations

from pathlib import Path

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import hrnet_csv
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
from slimalign.runtimes.schemes import WFLW

SCHEME = WFLW

FLAGS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
"""The six subsets, in the order of the list's flags; a face may be in several or in none."""

_LIST = "list_98pt_rect_attr_{split}.txt"
LISTS = (
    _LIST,
    f"WFLW_annotations/list_98pt_rect_attr_train_test/{_LIST}",
    f"list_98pt_rect_attr_train_test/{_LIST}",
    hrnet_csv.WFLW.file,
)

_COORDINATES = 2 * SCHEME.count
_BOX = 4


def read_split(root: Path, split: str) -> Split:
    """The split in the list of 98 points, box and flags, or in the CSV list of that name."""
    path = find_list(root, LISTS, split)
    if path.suffix == ".csv":
        return hrnet_csv.read_list(path, hrnet_csv.WFLW)
    images = image_folder(root, "WFLW_images")
    rows = [(f"{path.name} line {number}", line) for number, line in numbered_lines(path)]
    return split_from(rows, lambda line: _read_face(images, line), SCHEME)


def _read_face(images: Path, line: str) -> Sample:
    expected = _COORDINATES + _BOX + len(FLAGS) + 1
    fields = line.split()
    if len(fields) != expected:
        raise AnnotationError(
            f"{len(fields)} fields, {expected} are needed ({_COORDINATES} coordinates, box, flags, name)"
        )
    points = parse_numbers(fields[:_COORDINATES]).reshape(-1, 2)
    flags = fields[_COORDINATES + _BOX : -1]
    if not set(flags) <= {"0", "1"}:
        raise AnnotationError(f"its flags are {' '.join(flags)}, each must be 0 or 1")
    subsets = tuple(name for name, flag in zip(FLAGS, flags, strict=True) if flag == "1")
    return image_sample(images / fields[-1], fields[-1], points, subsets=subsets)
