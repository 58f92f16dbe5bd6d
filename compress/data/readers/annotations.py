"""What every reader of annotations needs: finding a split's list, reading numbers, gathering faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.checks import Problem, Split
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import load_image
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]
Row = TypeVar("Row")


class AnnotationError(Exception):
    """What is wrong with the annotation of one face, in one line without its name."""


def split_from(
    rows: Iterable[tuple[str, Row]], read_face: Callable[[Row], Sample], scheme: LandmarkScheme
) -> Split:
    """Read each named row; one that raises AnnotationError becomes a Problem and the rest goes on."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    for name, row in rows:
        outcome = _sample_or_problem(name, row, read_face)
        if isinstance(outcome, Sample):
            samples.append(outcome)
        else:
            problems.append(outcome)
    return Split(scheme, samples, problems)


def _sample_or_problem(name: str, row: Row, read_face: Callable[[Row], Sample]) -> Sample | Problem:
    try:
        return read_face(row)
    except AnnotationError as error:
        return Problem(name, str(error))


def image_sample(
    image: Path,
    name: str,
    points: Floats,
    box: Floats | None = None,
    subsets: tuple[str, ...] = (),
    upright: bool = False,
) -> Sample:
    """A face in an image file, none of its points marked as hidden; the box is the tight one unless given."""
    return Sample(
        name=name,
        load=partial(load_image, str(image), upright),
        box=tight_box(points) if box is None else box,
        points=points,
        occluded=np.zeros(len(points), dtype=np.bool_),
        subsets=subsets,
    )


def parse_numbers(fields: Sequence[str]) -> Floats:
    """The fields as float64; raises AnnotationError that shows the first that is no number.

    ``nan`` and ``inf`` pass here and are found by ``check_samples``.
    """
    return np.array([_number(field) for field in fields], dtype=np.float64)


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        raise AnnotationError(f"'{field.strip()}' is not a number") from None


def read_text(path: Path) -> str:
    """The text of an annotation file; raises AnnotationError where it is missing or not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path.name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise AnnotationError(f"{path.name} is not a text file") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers from 1; raises UserError."""
    try:
        text = read_text(path)
    except AnnotationError as fault:
        raise UserError(f"{path}: {fault}") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def existing_list(root: Path, patterns: Sequence[str], split: str) -> Path | None:
    """The first file of ``patterns`` (with ``{split}`` in them) below ``root``, if there is one."""
    places = (root / pattern.format(split=split) for pattern in patterns)
    return next((place for place in places if place.is_file()), None)


def find_list(root: Path, patterns: Sequence[str], split: str) -> Path:
    """The first file of ``patterns`` (with ``{split}`` in them) below ``root``; raises UserError."""
    found = existing_list(root, patterns, split)
    if found is not None:
        return found
    names = [pattern.format(split=split) for pattern in patterns]
    there = sorted({split for pattern in patterns for split in _splits_there(root, pattern)})
    hint = f"the splits there are {', '.join(there)}" if there else "is it the folder of another format?"
    raise UserError(f"{root}: no list of the split '{split}', looked for {' and '.join(names)}; {hint}")


def _splits_there(root: Path, pattern: str) -> list[str]:
    before, after = pattern.split("{split}")
    files = (path.relative_to(root).as_posix() for path in root.glob(f"{before}*{after}"))
    return [file[len(before) : -len(after)] for file in files]


def image_folder(root: Path, name: str = "images") -> Path:
    """Where the paths of a list start: ``root/name`` where there is such a folder, else ``root``."""
    return root / name if (root / name).is_dir() else root
