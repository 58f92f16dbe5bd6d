"""Drawn faces by seed: the same seed gives the same bytes, whatever else is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.background import random_background
from slimalign.compress.data.drawn.finish import finished
from slimalign.compress.data.drawn.landmarks import scheme_points
from slimalign.compress.data.drawn.paint import painted
from slimalign.compress.data.drawn.plan import FacePlan, random_plan
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

SMALLEST = 32
"""The smallest picture that is drawn, in pixels a side."""


@dataclass(frozen=True)
class DrawnFace:
    """A drawn face and where its landmarks are.

    ``image`` is (size, size, 3) uint8 RGB; ``points`` (K, 2) float64 and ``box`` (x0, y0, x1, y1), the
    smallest box around them, are in its pixels, the centre of the first pixel at (0, 0). ``occluded`` (K,)
    says which points are out of sight: under hair, glasses, a hand ..., turned away, or off the picture.
    """

    image: Image
    points: Floats
    occluded: NDArray[np.bool_]
    box: Floats


def draw_face(seed: int, scheme: LandmarkScheme, size: int = 256) -> DrawnFace:
    """Draw the face of ``seed`` in a picture of ``size`` x ``size`` pixels.

    The picture is the same for every scheme, byte for byte on every call. Raises UserError for a negative
    seed, a size under 32 pixels or a scheme that is not one of the four that can be drawn.
    """
    shape, pixels = _streams(seed, size)
    plan = random_plan(shape, size)
    points, occluded = scheme_points(plan.wflw, plan.hidden, scheme)
    return DrawnFace(_picture(plan, pixels, size), points, occluded, tight_box(points))


def drawn_samples(count: int, scheme: LandmarkScheme, seed: int, size: int = 256) -> list[Sample]:
    """``count`` faces named ``drawn-<seed>-<number>``; each is drawn when it is loaded.

    Face number i of a seed is the same whatever ``count`` is. The subsets are ``frontal``, ``large-pose``
    (yaw beyond 30 degrees), ``expression`` and ``occluded`` (by a thing in front of the face). Raises
    UserError as ``draw_face`` does, and where ``count`` is negative.
    """
    if count < 0:
        raise UserError(f"{count} drawn faces asked for; the count must be 0 or more")
    return [_sample(number, scheme, seed, size) for number in range(count)]


def face_seed(seed: int, number: int) -> int:
    """The seed for ``draw_face`` of face ``number`` in the set of ``seed``."""
    _check_seed(seed)
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def _sample(number: int, scheme: LandmarkScheme, seed: int, size: int) -> Sample:
    own = face_seed(seed, number)
    plan = random_plan(_streams(own, size)[0], size)
    points, occluded = scheme_points(plan.wflw, plan.hidden, scheme)
    return Sample(
        name=f"drawn-{seed}-{number:05d}",
        load=partial(_image, own, size),
        box=tight_box(points),
        points=points,
        occluded=occluded,
        subsets=plan.subsets,
    )


def _image(seed: int, size: int) -> Image:
    shape, pixels = _streams(seed, size)
    return _picture(random_plan(shape, size), pixels, size)


def _picture(plan: FacePlan, rng: np.random.Generator, size: int) -> Image:
    return finished(rng, painted(plan, random_background(rng, size)))


def _streams(seed: int, size: int) -> tuple[np.random.Generator, np.random.Generator]:
    """One stream for the face and what it wears, one for the pixels around and over it."""
    _check_seed(seed)
    if size < SMALLEST:
        raise UserError(f"size {size}: a drawn face needs at least {SMALLEST} pixels a side")
    shape, pixels = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(shape), np.random.default_rng(pixels)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError(f"seed {seed}: the seed of drawn faces must be 0 or more")
