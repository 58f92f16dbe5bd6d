"""What is wrong with a split, found before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import ImageError
from slimalign.runtimes.schemes import LandmarkScheme

MIN_INSIDE = 0.5
"""Share of a face box's area that must lie inside the image.

Faces cut by the border are real and stay; a box more than half outside is nearly always a mix-up (x and y
swapped, points of another image or of another size of it)."""

MAX_LISTED = 20
"""How many problems an error lists by name before it only counts them."""

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

    The faces are as annotated: pass them through ``usable_samples`` before use.
    """

    scheme: LandmarkScheme
    samples: list[Sample]
    problems: list[Problem]


def check_samples(
    samples: Sequence[Sample], scheme: LandmarkScheme, progress: Progress | None = None
) -> list[Problem]:
    """At most one problem a face, in the order of ``samples``; every image is decoded once.

    Looked for: another number of points than the scheme's, points or boxes that are not finite, a box
    without width or height, an image that is missing, cut short or cannot be decoded, a box more than half
    outside its image (``MIN_INSIDE``), and a face listed twice.
    """
    return [problem for _, problem in _find_problems(samples, scheme, progress)]


def usable_samples(
    split: Split, skip_bad: bool, progress: Progress | None = None
) -> tuple[list[Sample], list[Problem]]:
    """The faces of ``split`` fit for use, and everything that is wrong with the rest.

    Raises one UserError that lists the problems, unless ``skip_bad`` is true; raises it all the same where no
    face is left.
    """
    found = list(_find_problems(split.samples, split.scheme, progress))
    bad = {index for index, _ in found}
    usable = [sample for index, sample in enumerate(split.samples) if index not in bad]
    problems = [*split.problems, *(problem for _, problem in found)]
    if not split.samples and not problems:
        raise UserError("the split is empty; choose another")
    if not usable:
        raise UserError(_listing(problems, "no usable face is left; mend these"))
    if problems and not skip_bad:
        raise UserError(_listing(problems, "mend them, or go on without them with --skip-bad"))
    return usable, problems


def _listing(problems: Sequence[Problem], way_out: str) -> str:
    faces = f"{len(problems)} bad {'face' if len(problems) == 1 else 'faces'}: {way_out}"
    lines = [faces, *(f"  {problem}" for problem in problems[:MAX_LISTED])]
    if len(problems) > MAX_LISTED:
        lines.append(f"  and {len(problems) - MAX_LISTED} more")
    return "\n".join(lines)


def _find_problems(
    samples: Sequence[Sample], scheme: LandmarkScheme, progress: Progress | None
) -> Iterator[tuple[int, Problem]]:
    seen: set[tuple[str, bytes]] = set()
    for index, sample in enumerate(samples):
        # One image may hold several faces: only the same points on the same image are a repetition.
        face = (sample.name, sample.points.tobytes())
        fault = "listed twice" if face in seen else _fault(sample, scheme)
        seen.add(face)
        if fault is not None:
            yield index, Problem(sample.name, fault)
        if progress is not None:
            progress(index + 1, len(samples))


def _fault(sample: Sample, scheme: LandmarkScheme) -> str | None:
    return _points_fault(sample, scheme) or _box_fault(sample) or _image_fault(sample)


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
