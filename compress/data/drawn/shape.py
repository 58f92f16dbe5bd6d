"""The parametric head: proportions and expression in, the face's 3-D curves out.

Head coordinates: x to the right of the picture, y down, z towards the viewer; the eyes lie at y = 0 and half
the width of the face at the ears is 1. The face is a stack of half ellipses, one a height y: from the edge
beside the ear or along the jaw (half width W, depth Z) forward to the middle of the face (depth F):
x = W sin(phi), z = Z + (F - Z) cos(phi). "Left" is the left side of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONTOUR_SAMPLES = 65
"""Samples along the jaw from ear to ear; every second one is a WFLW point, every fourth a 300W point."""
CROWN_SAMPLES = 12
"""Steps from an ear to the top of the head."""
CROWN_POWER = 2.2


@dataclass(frozen=True)
class Proportions:
    """What stays the same in a person; lengths in half face widths."""

    chin: float = 1.63
    crown: float = 1.55
    depth: float = 1.08
    jaw_power: float = 2.3
    jaw_fall: float = 2.3
    eye_x: float = 0.435
    eye_width: float = 0.205
    eye_height: float = 0.1
    eye_tilt: float = 0.02
    iris: float = 0.092
    brow_y: float = -0.33
    brow_arch: float = 0.08
    brow_thickness: float = 0.085
    brow_length: float = 0.25
    nose_length: float = 0.57
    nose_width: float = 0.24
    nose_height: float = 0.42
    mouth_y: float = 1.07
    mouth_width: float = 0.37
    upper_lip: float = 0.085
    lower_lip: float = 0.12
    ear: float = 1.0


@dataclass(frozen=True)
class Expression:
    """What moves in a face; pairs are (left, right).

    ``mouth_open`` is the gap between the lips, ``smile`` runs from -1 to 1, ``brow_raise`` is a height,
    ``eye_open`` is 0 for closed and 1 for relaxed eyes, ``gaze`` runs from -1 to 1 in x and y.
    """

    mouth_open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    brow_raise: tuple[float, float] = (0.0, 0.0)
    brow_slant: float = 0.0
    eye_open: tuple[float, float] = (1.0, 1.0)
    gaze: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Head:
    """A person with an expression."""

    shape: Proportions = Proportions()
    expression: Expression = Expression()

    @property
    def chin(self) -> float:
        """The chin's height; it drops as the mouth opens."""
        return self.shape.chin + 0.45 * self.expression.mouth_open

    def half_width(self, y: Floats) -> Floats:
        """W(y): half the width of the face."""
        below = _unit(y / self.chin) ** self.shape.jaw_fall
        above = _unit(-y / self.shape.crown) ** CROWN_POWER
        return np.asarray((1.0 - below) ** (1.0 / self.shape.jaw_power) * (1.0 - above) ** 0.5)

    def edge_depth(self, y: Floats) -> Floats:
        """Z(y): depth of the face's edge, 0 beside the ear and near the front at the chin."""
        jaw = 0.88 * self.shape.depth * (1.0 - self.half_width(y) ** 2) ** 1.3
        return np.where(y > 0.0, jaw, 0.0)

    def front_depth(self, y: Floats) -> Floats:
        """F(y): depth of the middle of the face, without nose and lips."""
        below = 1.0 - 0.07 * _unit(y / self.chin) ** 2
        above = (1.0 - 0.99 * _unit(-y / self.shape.crown) ** CROWN_POWER) ** 0.5
        return np.asarray(self.shape.depth * below * above)


@dataclass(frozen=True)
class SurfaceCurves:
    """Curves over the face's surface: ``xyd`` (N, 3) holds x, y and the height over the surface.

    ``parts`` maps a curve's name to its slice of the N samples.
    """

    xyd: Floats
    parts: Mapping[str, slice]


def _unit(values: Floats) -> Floats:
    """``values`` kept within 0 ... 1."""
    return np.minimum(np.maximum(values, 0.0), 1.0)


def contour_xy(head: Head) -> Floats:
    """(65, 2): the jaw from the left ear over the chin to the right ear, evenly spaced seen from the front."""
    x = _COS_QUARTER ** (2.0 / head.shape.jaw_power)
    y = head.chin * _SIN_QUARTER ** (2.0 / head.shape.jaw_fall)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    even = np.linspace(0.0, length[-1], CONTOUR_SAMPLES // 2 + 1)
    x, y = np.interp(even, length, x), np.interp(even, length, y)
    return np.stack([np.concatenate([-x, x[-2::-1]]), np.concatenate([y, y[-2::-1]])], axis=1)


def crown_xy(head: Head) -> Floats:
    """(23, 2): the head's edge over the ears, from the right ear over the top to the left ear."""
    return _CROWN * (1.0, head.shape.crown)


def face_curves(head: Head) -> SurfaceCurves:
    """Brows, eyes, nose and lips; each curve is sampled evenly enough to be drawn as a polygon."""
    shape, look = head.shape, head.expression
    curves: dict[str, Floats] = {}
    for place, side in enumerate(("left", "right")):
        sign = 2.0 * place - 1.0
        for name, curve in (_brow(shape, look, place) | _eye(shape, look, place, sign)).items():
            curves[f"{side}-{name}"] = curve if side == "left" else curve * _MIRROR
    curves |= _nose(shape) | _mouth(shape, look)
    parts, start = {}, 0
    for name, curve in curves.items():
        parts[name] = slice(start, start + len(curve))
        start += len(curve)
    return SurfaceCurves(np.concatenate(list(curves.values())), parts)


def _curve(x: Floats, y: Floats, height: Floats | float) -> Floats:
    result = np.empty((len(x), 3))
    result[:, 0], result[:, 1], result[:, 2] = x, y, height
    return result


# Samples of a curve's parameter, of its arch 4s(1-s) and of sin(pi s), by the curve's length.
_S17, _S25 = np.linspace(0.0, 1.0, 17), np.linspace(0.0, 1.0, 25)
_ARCH17 = 4.0 * _S17 * (1.0 - _S17)
_SIN17, _SIN25 = np.sin(np.pi * _S17), np.sin(np.pi * _S25)
_THETA = np.linspace(0.0, np.pi / 2, 97)
_COS_QUARTER, _SIN_QUARTER = np.maximum(np.cos(_THETA), 0.0), np.sin(_THETA)
_OVER = np.linspace(0.0, np.pi, 2 * CROWN_SAMPLES + 1)[1:-1]
_CROWN = np.column_stack([np.cos(_OVER), -(np.sin(_OVER) ** (2.0 / CROWN_POWER))])
_MIRROR = np.array([-1.0, 1.0, 1.0])
_CIRCLE = np.linspace(0.0, 2.0 * np.pi, 20, endpoint=False)
_RIM = np.column_stack([np.cos(_CIRCLE), np.sin(_CIRCLE), np.zeros(len(_CIRCLE))])
_KNOTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
# Along the nose's base, from wing to wing: share of the half width, drop below the tip, share of the height.
_BASE_X = np.interp(_S17, _KNOTS, [-1.0, -0.55, 0.0, 0.55, 1.0])
_BASE_Y = np.interp(_S17, _KNOTS, [0.085, 0.165, 0.185, 0.165, 0.085])
_BASE_H = np.interp(_S17, _KNOTS, [0.12, 0.42, 0.55, 0.42, 0.12])
_BRIDGE = np.linspace(0.0, 1.0, 13)
_WING = 0.55 * np.pi * np.linspace(0.0, 1.0, 7)
_LID = _ARCH17**0.75
_TAPER = np.clip(2.2 * _S17, 0.0, 1.0) * (1.0 - 0.15 * _S17)
_BROW_ARCH = np.sin(np.pi * np.clip(0.15 + 0.8 * _S17, 0.0, 1.0)) - np.sin(0.15 * np.pi)
_CUPID = _SIN25**0.75 * (1.0 - 0.22 * np.exp(-(((_S25 - 0.5) / 0.07) ** 2)))
_LOWER = _SIN25**0.7


def _brow(shape: Proportions, look: Expression, place: int) -> dict[str, Floats]:
    """The left brow: upper edge from the outer tip inwards, lower edge back from the inner end to the tip."""
    x = -shape.eye_x - 1.12 * shape.brow_length + 2.1 * shape.brow_length * _S17
    y = shape.brow_y - look.brow_raise[place] - shape.brow_arch * _BROW_ARCH
    y = y + look.brow_slant * (_S17 - 0.5)
    lower = y + shape.brow_thickness * _TAPER
    return {"brow-upper": _curve(x, y, 0.02), "brow-lower": _curve(x[::-1], lower[::-1], 0.02)}


def _eye(shape: Proportions, look: Expression, place: int, sign: float) -> dict[str, Floats]:
    """The left eye: lids from the outer corner inwards (upper) and back (lower), pupil, rims of iris and pupil."""
    x = -shape.eye_x - shape.eye_width + 2.0 * shape.eye_width * _S17
    base = shape.eye_tilt * (2.0 * _S17 - 1.0)
    opened = look.eye_open[place]
    lower = base + 0.55 * shape.eye_height * _LID * (0.9 + 0.2 * (_S17 < 0.5))
    upper = lower - opened * 1.55 * shape.eye_height * _LID
    middle = -0.2 * shape.eye_height
    # The right eye is this one mirrored, the gaze is not.
    pupil = (-shape.eye_x - sign * 0.09 * look.gaze[0], middle + 0.35 * shape.eye_height * look.gaze[1])
    centre = np.array([*pupil, -0.05])
    fold = _curve(x, upper - 0.05 * _SIN17 - 0.012, -0.03)
    return {
        "eye-upper": _curve(x, upper, -0.05 + 0.03 * _SIN17),
        "eye-lower": _curve(x[::-1], lower[::-1], -0.05 + 0.02 * _SIN17),
        "eye-fold": fold,
        "iris": centre + shape.iris * _RIM,
        "pupil-rim": centre + 0.42 * shape.iris * _RIM,
        "pupil": centre[None],
    }


def _nose(shape: Proportions) -> dict[str, Floats]:
    length, height, width = shape.nose_length, shape.nose_height, shape.nose_width
    bridge_y = -0.04 + (length + 0.04) * _BRIDGE
    bridge = _curve(0.0 * _BRIDGE, bridge_y, 0.07 + (height - 0.07) * _BRIDGE**1.25)
    base = _curve(_BASE_X * width, length + _BASE_Y, _BASE_H * height)
    flank_x = np.array([0.09, 0.1, 0.13, 0.75 * width, 0.98 * width, width])
    flank_y = np.array([-0.06, 0.12, 0.6 * length, 0.8 * length, 0.92 * length, length + 0.085])
    flank_h = np.array([0.02, 0.05, 0.3 * height, 0.22 * height, 0.2 * height, 0.12 * height])
    wing_x, wing_y = width * (0.72 + 0.3 * np.sin(_WING)), length + 0.02 - 0.1 * np.cos(_WING)
    hole = _RIM * (0.085, 0.035, 0.0) + (0.5 * width, length + 0.14, 0.4 * height)
    return {
        "nose-bridge": bridge,
        "nose-base": base,
        "left-flank": _curve(-flank_x, flank_y, flank_h),
        "right-flank": _curve(flank_x, flank_y, flank_h),
        "left-wing": _curve(-wing_x, wing_y, 0.15 * height),
        "right-wing": _curve(wing_x, wing_y, 0.15 * height),
        "left-nostril": hole * _MIRROR,
        "right-nostril": hole,
    }


def _mouth(shape: Proportions, look: Expression) -> dict[str, Floats]:
    """Lips: upper edges from the left to the right corner, lower edges back from right to left.

    The heights over the surface are the same read from either end.
    """
    half = shape.mouth_width * (1.0 + 0.18 * look.smile) * (1.0 - 0.4 * look.pucker)
    inner = 0.9 * half
    x25, x17 = half * (2.0 * _S25 - 1.0), inner * (2.0 * _S17 - 1.0)
    line25 = shape.mouth_y - 0.12 * look.smile * (2.0 * _S25 - 1.0) ** 2
    line17 = shape.mouth_y - 0.12 * look.smile * (0.9 * (2.0 * _S17 - 1.0)) ** 2
    up, down = 0.25 * look.mouth_open, 0.75 * look.mouth_open
    thick = 1.0 + 0.35 * look.pucker - 0.2 * max(look.smile, 0.0)
    bow17 = 0.015 * np.cos(2.0 * np.pi * _S17) * _SIN17
    upper_out = line25 - thick * shape.upper_lip * _CUPID - up * _LOWER
    lower_out = line25 + thick * shape.lower_lip * _LOWER + down * _LOWER
    upper_in = line17 + bow17 - up * _SIN17**0.7
    lower_in = line17 + bow17 + down * _SIN17**0.7
    # Where the lips are shut the two inner edges keep a hair's breadth between them, as drawn.
    lower_in = np.maximum(lower_in, upper_in + 0.012 * _SIN17)
    bulge25, bulge17 = 0.02 + 0.1 * _SIN25, 0.02 + 0.09 * _SIN17
    return {
        "lips-upper": _curve(x25, upper_out, bulge25),
        "lips-lower": _curve(x25[::-1], lower_out[::-1], bulge25),
        "mouth-upper": _curve(x17, upper_in, bulge17),
        "mouth-lower": _curve(x17[::-1], lower_in[::-1], bulge17),
    }
