"""Landmark schemes: names, flip pairs, the distances that normalise errors, the facial boundaries.

Indices are 0-based. "Left" is the left side of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]

NormaliserName = Literal["inter-ocular", "inter-pupil", "box", "diagonal"]
NORMALISERS: tuple[str, ...] = get_args(NormaliserName)


@dataclass(frozen=True)
class Region:
    """A named run of landmarks along one facial boundary, in drawing order; ``closed`` joins last to first."""

    name: str
    indices: tuple[int, ...]
    closed: bool = False


@dataclass(frozen=True)
class LandmarkScheme:
    """A set of facial points: what each index means and how errors on it are normalised.

    ``eye_corners`` are the outer corners (left, right) for the inter-ocular distance; ``pupils`` the index
    groups whose means are the pupils (left, right) for the inter-pupil distance.
    """

    name: str
    regions: tuple[Region, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    eye_corners: tuple[int, int]
    pupils: tuple[tuple[int, ...], tuple[int, ...]]
    count: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name a landmark: the first region that holds it, and its place there."""
        named: dict[int, str] = {}
        for region in self.regions:
            for place, index in enumerate(region.indices):
                named.setdefault(index, f"{region.name}-{place}" if len(region.indices) > 1 else region.name)
        return tuple(named[index] for index in range(self.count))

    @cached_property
    def flip_indices(self) -> NDArray[np.intp]:
        """(K,): after a mirroring, landmark i of the mirrored face is the old landmark ``flip_indices[i]``."""
        order = np.arange(self.count)
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    def distances(self, points: Floats, normaliser: str) -> Floats:
        """The normalising distance of each face, ``points`` (N, K, 2) -> (N,), in the same unit.

        ``inter-ocular``: between the outer eye corners; ``inter-pupil``: between the eyes' centres;
        ``box``: geometric mean of the landmark box's sides; ``diagonal``: the landmark box's diagonal.
        """
        if normaliser == "inter-ocular":
            left, right = self.eye_corners
            return _norm(points[:, right] - points[:, left])
        if normaliser == "inter-pupil":
            left_eye, right_eye = (points[:, list(group)].mean(axis=1) for group in self.pupils)
            return _norm(right_eye - left_eye)
        sides = points.max(axis=1) - points.min(axis=1)
        if normaliser == "box":
            area: Floats = sides[:, 0] * sides[:, 1]
            return np.asarray(np.sqrt(area))
        if normaliser == "diagonal":
            return _norm(sides)
        raise UserError(f"normaliser '{normaliser}' is unknown; choose one of {', '.join(NORMALISERS)}")


def _norm(vectors: Floats) -> Floats:
    result: Floats = np.linalg.norm(vectors, axis=1)
    return result


def _run(name: str, first: int, last: int, closed: bool = False) -> Region:
    return Region(name, tuple(range(first, last + 1)), closed)


def _mirror(first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Pairs of a run that is its own mirror image: first with last, second with last but one ..."""
    return tuple((first + i, last - i) for i in range((last - first + 1) // 2))


def _opposite(left: Sequence[int], right: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(left, right, strict=True))


def _one_based(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((a - 1, b - 1) for a, b in pairs)


W300 = LandmarkScheme(
    name="300w-68",
    count=68,
    regions=(
        _run("contour", 0, 16),
        _run("left-brow", 17, 21),
        _run("right-brow", 22, 26),
        _run("nose-bridge", 27, 30),
        _run("nose-base", 31, 35),
        _run("left-eye", 36, 41, closed=True),
        _run("right-eye", 42, 47, closed=True),
        _run("outer-lips", 48, 59, closed=True),
        _run("inner-lips", 60, 67, closed=True),
    ),
    flip_pairs=(
        *_mirror(0, 16),
        *_mirror(17, 26),
        *_mirror(31, 35),
        *_opposite((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)),
        *_mirror(48, 54),
        *_mirror(55, 59),
        *_mirror(60, 64),
        *_mirror(65, 67),
    ),
    eye_corners=(36, 45),
    pupils=(tuple(range(36, 42)), tuple(range(42, 48))),
)

WFLW = LandmarkScheme(
    name="wflw-98",
    count=98,
    regions=(
        _run("contour", 0, 32),
        _run("left-brow", 33, 41, closed=True),
        _run("right-brow", 42, 50, closed=True),
        _run("nose-bridge", 51, 54),
        _run("nose-base", 55, 59),
        _run("left-eye", 60, 67, closed=True),
        _run("right-eye", 68, 75, closed=True),
        _run("outer-lips", 76, 87, closed=True),
        _run("inner-lips", 88, 95, closed=True),
        Region("left-pupil", (96,)),
        Region("right-pupil", (97,)),
    ),
    flip_pairs=(
        *_mirror(0, 32),
        *_opposite(range(33, 38), (46, 45, 44, 43, 42)),
        *_opposite(range(38, 42), (50, 49, 48, 47)),
        *_mirror(55, 59),
        *_opposite(range(60, 65), (72, 71, 70, 69, 68)),
        *_opposite((65, 66, 67), (75, 74, 73)),
        *_mirror(76, 82),
        *_mirror(83, 87),
        *_mirror(88, 92),
        *_mirror(93, 95),
        (96, 97),
    ),
    eye_corners=(60, 72),
    pupils=((96,), (97,)),
)

COFW = LandmarkScheme(
    name="cofw-29",
    count=29,
    regions=(
        Region("left-brow", (0, 4, 2, 5), closed=True),
        Region("right-brow", (1, 6, 3, 7), closed=True),
        Region("left-eye", (8, 12, 10, 13), closed=True),
        Region("right-eye", (9, 14, 11, 15), closed=True),
        Region("left-pupil", (16,)),
        Region("right-pupil", (17,)),
        Region("nose", (18, 20, 19, 21), closed=True),
        Region("outer-lips", (22, 24, 23, 27), closed=True),
        Region("inner-lips", (22, 25, 23, 26), closed=True),
        Region("chin", (28,)),
    ),
    flip_pairs=_one_based(
        [(1, 2), (3, 4), (5, 7), (6, 8), (9, 10), (11, 12), (13, 15), (14, 16), (17, 18), (19, 20), (23, 24)]
    ),
    eye_corners=(8, 9),
    pupils=((16,), (17,)),
)

AFLW = LandmarkScheme(
    name="aflw-19",
    count=19,
    regions=(
        _run("left-brow", 0, 2),
        _run("right-brow", 3, 5),
        _run("left-eye", 6, 8),
        _run("right-eye", 9, 11),
        _run("nose", 12, 14),
        _run("lips", 15, 17),
        Region("chin", (18,)),
    ),
    flip_pairs=_one_based([(1, 6), (2, 5), (3, 4), (7, 12), (8, 11), (9, 10), (13, 15), (16, 18)]),
    eye_corners=(6, 11),
    pupils=((7,), (10,)),
)

SCHEMES: Mapping[str, LandmarkScheme] = MappingProxyType({s.name: s for s in (W300, WFLW, COFW, AFLW)})


def scheme_named(name: str) -> LandmarkScheme:
    """The scheme called ``name``; raises UserError that lists the known ones."""
    try:
        return SCHEMES[name]
    except KeyError:
        raise UserError(f"landmark scheme '{name}' is unknown; choose one of {', '.join(SCHEMES)}") from None


def scheme_with(count: int) -> LandmarkScheme:
    """The scheme with ``count`` landmarks."""
    for scheme in SCHEMES.values():
        if scheme.count == count:
            return scheme
    known = ", ".join(str(scheme.count) for scheme in SCHEMES.values())
    raise UserError(f"no landmark scheme has {count} points; the known ones have {known}")
