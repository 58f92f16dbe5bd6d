"""What is wrong with a split, found before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slimalign.compress.data.sample import Sample, normalising_distances
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import ImageError
from slimalign.runtimes.schemes import LandmarkScheme

MIN_INSIDE = 0.5
"""Share of a face box's area that must lie inside the image.

Faces cut by the border are real and stay; a box more than half outside is nearly always a mix-up (x and y
swapped, points of another image or of another size of it)."""

MAX_LISTED = 100
"""How many problems of a split are listed by name before they are only counted."""

Progress = Callable[[int, int], None]
"""Called with the number of faces done and the number of faces in all."""


@dataclass(frozen=True)
class Problem:
    """What is wrong (``fault``, one line) with the face, file or list row called ``name``."""

    name: str
    fault: str

    def __str__(self) -> str:
        return f"{self.name}: {self.fault}"


@dataclass(frozen=True)
class Split:
    """A split as a reader found it: the faces it could read, and the problems of those it could not.

    ``incomplete`` are folders or lists that hold other than they should, whose faces are good. The faces are as
    annotated: pass them through ``usable_samples`` before use.
    """

    scheme: LandmarkScheme
    samples: list[Sample]
    problems: list[Problem]
    incomplete: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class UsableSplit:
    """The faces of a split that are fit for use, everything that is wrong with the rest, and what is incomplete."""

    samples: list[Sample]
    problems: list[Problem]
    incomplete: tuple[Problem, ...] = ()


def check_samples(
    samples: Sequence[Sample],
    scheme: LandmarkScheme,
    normaliser: str | None = None,
    progress: Progress | None = None,
) -> dict[int, Problem]:
    """What is wrong with faces, by their index in ``samples``: one problem a face; every image is decoded once.

    Looked for: another number of points than the scheme's, points or boxes that are not finite, a box
    without width or height, an image that is missing, cut short or cannot be decoded, a box more than half
    outside its image (``MIN_INSIDE``), a face listed twice, and one whose errors ``normaliser``, where it is given,
    would divide by zero.
    """
    problems = {}
    seen: set[tuple[str, bytes]] = set()
    for index, sample in enumerate(samples):
        # One image may hold several faces: only the same points on the same image are a repetition.
        face = (sample.name, sample.points.tobytes())
        fault = "listed twice" if face in seen else _fault(sample, scheme, normaliser)
        seen.add(face)
        if fault is not None:
            problems[index] = Problem(sample.name, fault)
        if progress is not None:
            progress(index + 1, len(samples))
    return problems


def usable_samples(
    split: Split, normaliser: str | None = None, progress: Progress | None = None
) -> UsableSplit:
    """The faces of ``split`` fit for use; ``refuse_bad`` decides whether the others may be left out."""
    found = check_samples(split.samples, split.scheme, normaliser, progress)
    usable = [sample for index, sample in enumerate(split.samples) if index not in found]
    return UsableSplit(usable, [*split.problems, *found.values()], split.incomplete)


def refuse_bad(splits: Mapping[str, UsableSplit], skip_bad: bool) -> None:
    """Raise one UserError that lists the problems of all ``splits``, each under its name, if there are any.

    With ``skip_bad`` it is raised only where a split has no face left, and what is incomplete is taken as it is.
    """
    without_face = [name for name, split in splits.items() if not split.samples]
    if without_face:
        raise UserError(_listing(splits, f"no usable face is left in {', '.join(without_face)}; mend these"))
    bad, incomplete = (any(getattr(s, kind) for s in splits.values()) for kind in ("problems", "incomplete"))
    if not skip_bad and (bad or incomplete):
        how = ["without bad faces"] * bad + ["with what is there of incomplete splits"] * incomplete
        raise UserError(_listing(splits, f"mend them, or go on {' and '.join(how)} with --skip-bad"))


def _listing(splits: Mapping[str, UsableSplit], way_out: str) -> str:
    faces = sum(len(split.problems) for split in splits.values())
    parts = sum(len(split.incomplete) for split in splits.values())
    counted = [_bad_faces(faces)] * (faces > 0) + [f"{parts} incomplete"] * (parts > 0)
    lines = [f"{', '.join(counted)}: {way_out}"]
    for name, split in splits.items():
        lines += problem_lines(name, split)
    return "\n".join(lines)


def _bad_faces(count: int) -> str:
    return f"{count} bad {'face' if count == 1 else 'faces'}"


def problem_lines(name: str, split: UsableSplit) -> list[str]:
    """What is wrong with the split called ``name``, as lines: none where nothing is."""
    lines = []
    if split.problems:
        lines += [f"{name}: {_bad_faces(len(split.problems))}", *_indented(split.problems)]
    if split.incomplete:
        lines += [f"{name}: incomplete", *_indented(split.incomplete)]
    return lines


def _indented(problems: Sequence[Problem]) -> list[str]:
    """A line for each of the first ``MAX_LISTED`` problems, and one that counts the rest."""
    lines = [f"  {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"  and {len(problems) - MAX_LISTED} more")
    return lines


def _fault(sample: Sample, scheme: LandmarkScheme, normaliser: str | None) -> str | None:
    fault = _points_fault(sample, scheme) or _box_fault(sample)
    if fault is None and normaliser is not None:
        fault = _distance_fault(sample, scheme, normaliser)
    return fault or _image_fault(sample)


def _points_fault(sample: Sample, scheme: LandmarkScheme) -> str | None:
    if sample.points.shape != (scheme.count, 2):
        return f"{len(sample.points)} points, {scheme.name} has {scheme.count}"
    infinite = np.flatnonzero(~np.isfinite(sample.points).all(axis=1))
    if len(infinite):
        return f"point {infinite[0]} is not finite (NaN or infinite), of {len(infinite)} such"
    return None


def _box_fault(sample: Sample) -> str | None:
    if not np.isfinite(sample.box).all():
        return "its box is not finite (NaN or infinite)"
    x0, y0, x1, y1 = sample.box
    if not (x1 > x0 and y1 > y0):
        return f"its box {_corners(sample)} has no width or no height"
    return None


def _distance_fault(sample: Sample, scheme: LandmarkScheme, normaliser: str) -> str | None:
    if normalising_distances([sample], scheme, normaliser)[0] > 0:
        return None
    return f"its {normaliser} distance is 0; choose another normaliser"


def _image_fault(sample: Sample) -> str | None:
    try:
        height, width = sample.load().shape[:2]
    except ImageError as error:
        return error.fault
    except UserError as error:
        return str(error)
    inside = _share_inside(sample, width, height)
    if inside >= MIN_INSIDE:
        return None
    outside = f"{100 * (1 - inside):.0f} % outside"
    return f"its box {_corners(sample)} is {outside} the image of {width}x{height} pixels"


def _share_inside(sample: Sample, width: int, height: int) -> float:
    """Share of the box's area on the image; its edges are at -0.5 and size - 0.5."""
    x0, y0, x1, y1 = (float(value) for value in sample.box)
    across = max(0.0, min(x1, width - 0.5) - max(x0, -0.5)) / (x1 - x0)
    down = max(0.0, min(y1, height - 0.5) - max(y0, -0.5)) / (y1 - y0)
    return across * down


def _corners(sample: Sample) -> str:
    return ",".join(f"{float(value):g}" for value in sample.box)
