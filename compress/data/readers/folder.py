"""A plain folder: images anywhere below it and one CSV a split.

``<split>.csv`` is UTF-8 text with commas. Its first line names the columns, in any order:

- ``image``: path from the folder, for example ``faces/0001.png``;
- ``x0,y0,x1,y1,...``: the points, as many as one of the landmark schemes has (68, 98, 29 or 19) and in its
  order, in pixels of the upright image as a viewer shows it (the orientation in EXIF is applied); the centre
  of the first pixel is at 0,0;
- ``box_x0,box_y0,box_x1,box_y1`` (optional): the face box, same pixels; without it the tight landmark box;
- ``subsets`` (optional): labels under which accuracy is reported apart, with ``;`` between them.

A face a line; an image with several faces has several lines.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers.annotations import (
    AnnotationError,
    find_list,
    image_sample,
    parse_numbers,
    read_text,
    split_from,
)
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme, scheme_with

LISTS = ("{split}.csv",)

_BOX = ("box_x0", "box_y0", "box_x1", "box_y1")


def read_split(root: Path, split: str) -> Split:
    """The split in ``<split>.csv``; the number of its points says which scheme it has."""
    path = find_list(root, LISTS, split)
    header, rows = _read_table(path)
    scheme = _scheme_of(path, header)
    return split_from(rows, lambda fields: _read_face(root, header, fields, scheme), scheme)


def _read_table(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        table = [(f"{path.name} line {reader.line_num}", fields) for fields in reader if any(fields)]
    except (AnnotationError, csv.Error) as fault:
        raise UserError(f"{path}: not a CSV file that can be read ({fault})") from None
    if not table:
        raise UserError(f"{path}: empty; its first line must name the columns image,x0,y0,x1,y1,...")
    return [name.strip() for name in table[0][1]], table[1:]


def _scheme_of(path: Path, header: Sequence[str]) -> LandmarkScheme:
    """The scheme of the columns; raises UserError where one is missing, unknown or there twice."""
    count = sum(re.fullmatch(r"x\d+", name) is not None for name in header)
    boxed = any(name.startswith("box_") for name in header)
    needed = {"image", *_point_columns(count), *(_BOX if boxed else ())}
    missing = sorted(needed - set(header))
    if missing:
        raise UserError(
            f"{path}: column {missing[0]} is missing; the first line must be image,x0,y0,x1,y1,..."
        )
    unknown = sorted(set(header) - needed - {"subsets"})
    if unknown:
        raise UserError(
            f"{path}: column '{unknown[0]}' is unknown; image, x0, y0, ..., box_x0 ... and subsets are known"
        )
    if len(set(header)) != len(header):
        raise UserError(f"{path}: a column is named twice in the first line")
    try:
        return scheme_with(count)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _point_columns(count: int) -> list[str]:
    return [f"{axis}{index}" for index in range(count) for axis in "xy"]


def _read_face(root: Path, header: Sequence[str], fields: Sequence[str], scheme: LandmarkScheme) -> Sample:
    if len(fields) != len(header):
        raise AnnotationError(f"{len(fields)} columns, the first line names {len(header)}")
    row = dict(zip(header, fields, strict=True))
    name = row["image"].strip()
    return image_sample(
        root / name,
        name,
        parse_numbers([row[column] for column in _point_columns(scheme.count)]).reshape(-1, 2),
        box=parse_numbers([row[column] for column in _BOX]) if _BOX[0] in row else None,
        subsets=tuple(label.strip() for label in row.get("subsets", "").split(";") if label.strip()),
        upright=True,
    )
