"""Things between the camera and the face: hands, masks, blobs, bars. Landmarks under them are occluded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.canvas import Mark, ellipse
from slimalign.compress.data.drawn.look import colour, shaded

Floats = NDArray[np.float64]


def random_objects(rng: np.random.Generator, wflw: Floats, skin: tuple[float, float, float]) -> list[Mark]:
    """None for most faces, one thing for some; ``wflw`` (98, 2) are the face's points in pixels."""
    if rng.random() > 0.26:
        return []
    kind = rng.choice(5, p=(0.28, 0.2, 0.22, 0.2, 0.1))
    span = float(np.ptp(wflw, axis=0).max())
    at = wflw[int(rng.integers(98))] + rng.normal(0.0, 0.05 * span, 2)
    if kind == 0:
        return _hand(rng, at, span, colour(np.array(skin) * rng.uniform(0.85, 1.1)))
    if kind == 1:
        return _mask(rng, wflw)
    if kind == 2:
        return _blob(rng, at, span)
    if kind == 3:
        return _card(rng, at, span)
    return _bar(rng, at, span)


def _paint(rng: np.random.Generator) -> tuple[float, float, float]:
    return colour(rng.uniform(10.0, 245.0, 3))


def _capsule(start: Floats, end: Floats, radius: float) -> Floats:
    """A finger: the outline of a thick line with round ends."""
    along = end - start
    angle = float(np.arctan2(along[1], along[0]))
    far, near = angle + np.linspace(-0.5, 0.5, 7) * np.pi, angle + np.linspace(0.5, 1.5, 7) * np.pi
    cap = np.column_stack([np.cos(far), np.sin(far)]) * radius + end
    return np.concatenate([cap, np.column_stack([np.cos(near), np.sin(near)]) * radius + start])


def _hand(rng: np.random.Generator, at: Floats, span: float, skin: tuple[float, float, float]) -> list[Mark]:
    """A palm with an arm and four fingers that spread towards the face's middle."""
    pointing = rng.uniform(0.0, 2.0 * np.pi)
    palm_size = span * rng.uniform(0.11, 0.17)
    forward = np.array([np.cos(pointing), np.sin(pointing)])
    marks = []
    arm = _capsule(at - forward * palm_size * 0.5, at - forward * palm_size * 6.0, 0.75 * palm_size)
    parts = [arm, ellipse(at, (1.1 * palm_size, palm_size), pointing)]
    for finger in range(4):
        lean = pointing + (finger - 1.5) * rng.uniform(0.16, 0.3)
        reach = palm_size * (2.3 - 0.2 * abs(finger - 1.3)) * rng.uniform(0.8, 1.05)
        tip = at + reach * np.array([np.cos(lean), np.sin(lean)])
        parts.append(_capsule(at + 0.5 * (tip - at) * 0.6, tip, 0.25 * palm_size))
    for number, part in enumerate(parts):
        tone = (0.96, 1.0, 0.97, 1.03, 0.99, 1.02)[number]
        marks.append(Mark(part, shaded(skin, tone), hides=True))
        if number >= 2:
            marks.append(Mark(part[:8], shaded(skin, 0.72), thickness=1.0))
    return marks


def _mask(rng: np.random.Generator, wflw: Floats) -> list[Mark]:
    """A cloth over the lower face, held by the ears, from the nose's bridge to below the chin."""
    low, top = 5, wflw[51] + rng.uniform(0.35, 1.1) * (wflw[54] - wflw[51])
    contour = wflw[low : 33 - low]
    grown = contour + 0.06 * (contour - wflw[54])
    inner_left, inner_right = 0.45 * wflw[low] + 0.55 * top, 0.45 * wflw[32 - low] + 0.55 * top
    shape = np.concatenate([grown, inner_right[None], top[None], inner_left[None]])
    cloth = _paint(rng)
    marks = [Mark(shape, cloth, hides=True)]
    for share in rng.uniform(0.25, 0.9, 3):
        middle = top + share * (wflw[16] - top)
        fold = np.stack([wflw[low + 2], middle, wflw[30 - low]])
        marks.append(
            Mark(0.85 * fold + 0.15 * middle, shaded(cloth, 0.8), thickness=max(span_of(wflw) / 90.0, 1.0))
        )
    return marks


def span_of(points: Floats) -> float:
    """The longer side of the box around ``points``."""
    return float(np.ptp(points, axis=0).max())


def _blob(rng: np.random.Generator, at: Floats, span: float) -> list[Mark]:
    """A lumpy closed shape: a ball of wool, food, foliage."""
    t = np.linspace(0.0, 2.0 * np.pi, 30, endpoint=False)
    radius = span * rng.uniform(0.1, 0.24) * np.ones(30)
    for wave in (2, 3, 5):
        radius = radius * (1.0 + rng.uniform(0.0, 0.18) * np.sin(wave * t + rng.uniform(0.0, 6.28)))
    edge = np.column_stack([np.cos(t), np.sin(t)]) * radius[:, None]
    paint = _paint(rng)
    return [
        Mark(at + edge, paint, hides=True),
        Mark(
            at + 0.6 * edge + 0.12 * span * rng.uniform(-0.5, 0.5, 2), shaded(paint, rng.uniform(0.7, 1.35))
        ),
    ]


def _card(rng: np.random.Generator, at: Floats, span: float) -> list[Mark]:
    """A turned rectangle: a phone, a sheet, a cup."""
    half = span * rng.uniform(0.1, 0.26, 2)
    turn = rng.uniform(0.0, np.pi)
    c, s = np.cos(turn), np.sin(turn)
    corners = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]) * half
    corners = corners @ np.array([[c, s], [-s, c]]) + at
    middle = corners.mean(axis=0)
    return [
        Mark(corners, _paint(rng), hides=True),
        Mark(middle + rng.uniform(0.5, 0.85) * (corners - middle), _paint(rng)),
    ]


def _bar(rng: np.random.Generator, at: Floats, span: float) -> list[Mark]:
    """A long pole through the picture: a rail, a branch, a microphone stand."""
    turn = rng.uniform(0.0, np.pi)
    along = 6.0 * span * np.array([np.cos(turn), np.sin(turn)])
    paint = _paint(rng)
    width = span * rng.uniform(0.03, 0.08)
    return [
        Mark(_capsule(at - along, at + along, width), paint, hides=True),
        Mark(np.stack([at - along, at + along]), shaded(paint, 1.35), thickness=max(0.5 * width, 1.0)),
    ]
