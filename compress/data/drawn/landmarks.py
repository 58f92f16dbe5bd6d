"""From the drawn curves to the landmarks of each scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WFLW_OF_300W: tuple[int, ...] = (
    *range(0, 33, 2),
    *range(33, 38),
    *range(42, 47),
    *range(51, 60),
    *(60, 61, 63, 64, 65, 67),
    *(68, 69, 71, 72, 73, 75),
    *range(76, 96),
)
"""The WFLW point at the place of each 300W point."""

_INNER_BROWS = ((37, 38), (42, 50))

# Each landmark as the mean of WFLW points.
_COFW: tuple[tuple[int, ...], ...] = (
    *((33,), (46,), *_INNER_BROWS, (35,), (40,), (44,), (48,)),
    *((60,), (72,), (64,), (68,), (62,), (66,), (70,), (74,), (96,), (97,)),
    *((55,), (59,), (54,), (57,)),
    *((76,), (82,), (79,), (90,), (94,), (85,), (16,)),
)
_AFLW: tuple[tuple[int, ...], ...] = (
    *((33,), (35, 40), _INNER_BROWS[0], _INNER_BROWS[1], (44, 48), (46,)),
    *((60,), (62, 66), (64,), (68,), (70, 74), (72,)),
    *((55,), (54,), (59,), (76,), (90, 94), (82,), (16,)),
)

MEANS_OF_WFLW: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "300w-68": tuple((index,) for index in WFLW_OF_300W),
    "wflw-98": tuple((index,) for index in range(98)),
    "cofw-29": _COFW,
    "aflw-19": _AFLW,
}
"""By scheme, each landmark as the mean of one or two of the 98 WFLW points."""


def wflw_samples(curves: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The 98 WFLW samples out of the drawn curves, whatever the curves hold: (N, 2) points or (N,) flags.

    The left brow, eye and the upper lip are drawn in the order of the scheme; the right brow and eye are
    drawn as mirror images, from the outer end inwards, and are taken backwards.
    """
    return np.concatenate(
        [
            curves["contour"][::2],
            curves["left-brow-upper"][::4],
            curves["left-brow-lower"][0:16:4],
            curves["right-brow-upper"][::-4],
            curves["right-brow-lower"][12::-4],
            curves["nose-bridge"][::4],
            curves["nose-base"][::4],
            curves["left-eye-upper"][::4],
            curves["left-eye-lower"][4:16:4],
            curves["right-eye-upper"][::-4],
            curves["right-eye-lower"][12:0:-4],
            curves["lips-upper"][::4],
            curves["lips-lower"][4:24:4],
            curves["mouth-upper"][::4],
            curves["mouth-lower"][4:16:4],
            curves["left-pupil"],
            curves["right-pupil"],
        ]
    )


def scheme_points(wflw: Floats, hidden: Bools, scheme: LandmarkScheme) -> tuple[Floats, Bools]:
    """Points (98, 2) and flags (98,) of WFLW -> those (K, 2), (K,) of ``scheme``.

    A landmark between two points is hidden where one of them is. Raises UserError for another scheme.
    """
    try:
        means = MEANS_OF_WFLW[scheme.name]
    except KeyError:
        known = ", ".join(MEANS_OF_WFLW)
        raise UserError(f"landmark scheme '{scheme.name}' cannot be drawn; choose one of {known}") from None
    first = np.array([group[0] for group in means])
    last = np.array([group[-1] for group in means])
    return (wflw[first] + wflw[last]) / 2.0, hidden[first] | hidden[last]
