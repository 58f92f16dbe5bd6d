"""What a face and its picture look like, drawn by lot: colours, light, hair, beard, glasses, hat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.canvas import Colour

Floats = NDArray[np.float64]
Name = TypeVar("Name", bound=str)

HairStyle = Literal["bald", "short", "parted", "fringe", "long", "long-fringe", "volume"]
Glasses = Literal["none", "clear", "dark"]
Hat = Literal["none", "beanie", "cap", "band"]

_SKINS = np.array(
    [
        (255, 224, 203),
        (244, 208, 180),
        (233, 190, 158),
        (222, 174, 134),
        (200, 148, 108),
        (172, 120, 82),
        (140, 94, 64),
        (112, 74, 52),
        (84, 56, 42),
    ],
    dtype=np.float64,
)
_HAIRS = np.array(
    [
        (28, 22, 20),
        (45, 32, 26),
        (70, 46, 32),
        (98, 64, 40),
        (140, 92, 54),
        (196, 152, 96),
        (226, 194, 140),
        (150, 62, 34),
        (150, 148, 146),
        (214, 212, 208),
    ],
    dtype=np.float64,
)
_IRISES = np.array(
    [(60, 38, 24), (88, 58, 34), (112, 96, 60), (84, 116, 84), (90, 122, 156), (120, 130, 140)]
)

_STYLES: tuple[HairStyle, ...] = ("bald", "short", "parted", "fringe", "long", "long-fringe", "volume")
_GLASSES: tuple[Glasses, ...] = ("none", "clear", "dark")
_HATS: tuple[Hat, ...] = ("none", "beanie", "cap", "band")
_STYLE_ODDS = (0.09, 0.25, 0.2, 0.12, 0.16, 0.08, 0.1)


@dataclass(frozen=True)
class Look:
    """Colours are RGB in 0 ... 255; ``light`` points from the face to the lamp in camera axes (unit length)."""

    skin: Colour
    lips: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    cloth: Colour
    hair_style: HairStyle
    hair_volume: float
    hairline: float
    parting: float
    beard: float
    moustache: bool
    glasses: Glasses
    glasses_shape: tuple[float, float, float]
    frame: Colour
    hat: Hat
    hat_colour: Colour
    light: tuple[float, float, float]
    light_colour: Colour
    contrast: float
    blush: float
    makeup: float


def random_look(rng: np.random.Generator) -> Look:
    """A look by lot."""
    skin = _between(rng, _SKINS) + rng.normal(0.0, 7.0, 3)
    hair = _between(rng, _HAIRS) if rng.random() < 0.92 else rng.uniform(20.0, 230.0, 3)
    makeup = rng.random() if rng.random() < 0.35 else 0.0
    rouge = np.array([170.0, 45.0, 60.0]) + rng.normal(0.0, 25.0, 3)
    lip_share = 0.28 + 0.14 * rng.random() + 0.35 * makeup
    yaw, pitch = rng.normal(0.0, 0.7), rng.uniform(-0.2, 0.9)
    light = (np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch))
    style = _STYLES[int(rng.choice(len(_STYLES), p=_STYLE_ODDS))]
    return Look(
        skin=colour(skin),
        lips=colour(skin * (1.0 - lip_share) * 0.95 + rouge * lip_share),
        hair=colour(hair),
        brow=colour(0.72 * hair + 0.12 * skin),
        iris=colour(_between(rng, _IRISES) + rng.normal(0.0, 8.0, 3)),
        cloth=colour(rng.uniform(15.0, 240.0, 3)),
        hair_style=style,
        hair_volume=rng.uniform(1.3, 1.55) if style == "volume" else rng.uniform(1.04, 1.16),
        hairline=rng.uniform(-0.62, -0.38) if "fringe" in style else rng.uniform(-1.15, -0.82),
        parting=float(rng.uniform(0.15, 0.45) * rng.choice((-1.0, 1.0))) if style == "parted" else 0.0,
        beard=float(rng.uniform(0.25, 0.97)) if rng.random() < 0.22 else 0.0,
        moustache=bool(rng.random() < 0.8),
        glasses=_one_of(rng, _GLASSES, (0.76, 0.18, 0.06)),
        glasses_shape=(rng.uniform(0.25, 0.31), rng.uniform(0.17, 0.25), rng.uniform(0.5, 1.0)),
        frame=colour(rng.uniform(5.0, 90.0, 3))
        if rng.random() < 0.75
        else colour(rng.uniform(90.0, 230.0, 3)),
        hat=_one_of(rng, _HATS, (0.84, 0.07, 0.06, 0.03)),
        hat_colour=colour(rng.uniform(20.0, 235.0, 3)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        light_colour=colour(np.clip(rng.normal(1.0, 0.05, 3), 0.85, 1.15)),
        contrast=rng.uniform(0.15, 0.75),
        blush=rng.uniform(0.0, 0.25),
        makeup=makeup,
    )


def _one_of(rng: np.random.Generator, names: Sequence[Name], odds: Sequence[float]) -> Name:
    return names[int(rng.choice(len(names), p=odds))]


def _between(rng: np.random.Generator, palette: NDArray[np.generic]) -> Floats:
    """A colour between two neighbours of the palette."""
    place = rng.uniform(0.0, len(palette) - 1.0)
    low = int(place)
    share = place - low
    return np.asarray(palette[low] * (1.0 - share) + palette[min(low + 1, len(palette) - 1)] * share)


def colour(rgb: Floats) -> Colour:
    """Three numbers as a colour, kept within a byte."""
    r, g, b = np.clip(rgb, 0.0, 255.0)
    return float(r), float(g), float(b)


def shaded(rgb: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter (factor > 1)."""
    return min(rgb[0] * factor, 255.0), min(rgb[1] * factor, 255.0), min(rgb[2] * factor, 255.0)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """``a`` with a ``share`` of ``b``."""
    return (
        a[0] + share * (b[0] - a[0]),
        a[1] + share * (b[1] - a[1]),
        a[2] + share * (b[2] - a[2]),
    )
