"""Paint a planned face: layer over layer through the same curves as its landmarks are taken from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn import worn
from slimalign.compress.data.drawn.canvas import (
    Image,
    ellipse,
    fill,
    fill_exactly,
    inset,
    stroke,
    through,
)
from slimalign.compress.data.drawn.light import lit
from slimalign.compress.data.drawn.look import mixed, shaded
from slimalign.compress.data.drawn.plan import EYE_SHUT, FacePlan, nose_outline

Floats = NDArray[np.float64]


def painted(plan: FacePlan, background: Image) -> Image:
    """The face over ``background`` (S, S, 3) uint8 RGB, which is painted over in place."""
    image = background
    _body(image, plan)
    _head(image, plan)
    _nose(image, plan)
    for mark in worn.beard(plan.head, plan.camera, plan.look, plan.curves["contour"]):
        mark.draw(image)
    _mouth(image, plan)
    for side in ("left", "right"):
        _eye(image, plan, side)
        _brow(image, plan, side)
    for mark in plan.worn:
        mark.draw(image)
    image = lit(image, plan)
    for mark in plan.objects:
        mark.draw(image)
    return image


def _line(plan: FacePlan, share: float) -> float:
    """A line's thickness in pixels from its share of the half face width."""
    return share * plan.camera.scale


def _body(image: Image, plan: FacePlan) -> None:
    """Long hair, shoulders, neck and the chin's shadow on it."""
    look, camera, scale = plan.look, plan.camera, plan.camera.scale
    for mark in worn.hair_behind(plan.head, camera, look):
        mark.draw(image)
    throat = camera.project(np.array([[0.0, 1.0, -0.25]]))[0]
    lean = 0.4 * camera.roll
    down, across = np.array([-np.sin(lean), np.cos(lean)]), np.array([np.cos(lean), np.sin(lean)])
    base = throat + 1.65 * scale * down

    def at(x: float, y: float) -> Floats:
        return np.asarray(base + scale * (x * across + y * down))

    neck = np.stack(
        [at(-0.58, -1.7), at(0.58, -1.7), at(0.6, -0.4), at(0.8, 0.1), at(-0.8, 0.1), at(-0.6, -0.4)]
    )
    fill(image, neck, shaded(look.skin, 0.86))
    shadow = plan.curves["contour"][10:55] + 0.3 * scale * down
    through(image, neck, 0.5, lambda patch, corner: fill(patch, shadow - corner, shaded(look.skin, 0.45)))
    shoulders = [at(-0.62, -0.3), at(0.0, 0.22), at(0.62, -0.3), at(1.5, 0.05), at(2.3, 0.6), at(2.6, 4.0)]
    fill(image, np.stack([*shoulders, at(-2.6, 4.0), at(-2.3, 0.6), at(-1.5, 0.05)]), look.cloth)
    stroke(image, np.stack(shoulders[:3]), shaded(look.cloth, 0.75), _line(plan, 0.06))


def _head(image: Image, plan: FacePlan) -> None:
    """Skull or hair, ears, and the face within its visible silhouette."""
    look, curves = plan.look, plan.curves
    bald = look.hair_style == "bald"
    behind = shaded(look.skin, 0.93) if bald else shaded(look.hair, 0.85)
    fill(image, worn.skull(plan.head, plan.camera, 1.0 if bald else look.hair_volume), behind)
    if not look.hair_style.startswith("long"):
        for sign in (-1.0, 1.0):
            _ear(image, plan, sign)
    face = np.concatenate([curves["contour"], curves["crown"]])
    fill_exactly(image, face, look.skin)
    stroke(image, curves["contour"], shaded(look.skin, 0.74), _line(plan, 0.014))


def _ear(image: Image, plan: FacePlan, sign: float) -> None:
    size = plan.head.shape.ear
    t = np.linspace(0.0, 2.0 * np.pi, 18, endpoint=False)
    height = 0.27 + 0.31 * size * np.sin(t) * (1.0 - 0.12 * np.sin(t))
    out = 0.5 - 0.5 * np.cos(t)
    x = sign * (0.95 + 0.13 * size * out * (1.0 - 0.35 * np.sin(t)))
    rim = np.column_stack([x, height, -0.02 - 0.27 * size * out])
    outline = plan.camera.project(rim)
    fill(image, outline, shaded(plan.look.skin, 0.95))
    stroke(image, outline, shaded(plan.look.skin, 0.7), _line(plan, 0.012), closed=True)
    hollow = outline.mean(axis=0) + 0.55 * (outline - outline.mean(axis=0))
    fill(image, hollow, shaded(plan.look.skin, 0.72))


def _nose(image: Image, plan: FacePlan) -> None:
    """Two flanks that meet on the bridge, the underside with the nostrils, and the tip's gleam.

    Each flank is as light as it faces the lamp; the one turned away is painted first.
    """
    skin, curves, lamp = plan.look.skin, plan.curves, plan.look.light
    ridge, base = curves["nose-bridge"], curves["nose-base"]
    # In profile the nose stands out over the background.
    fill(image, nose_outline(curves), skin)
    fill(image, np.concatenate([ridge, base[8:9], base[8:9]]), skin)
    flanks = [("left", -1.0, base[8::-1]), ("right", 1.0, base[8:])]
    if plan.camera.yaw < 0.0:
        flanks.reverse()
    # The head turned to the right shows its left side; the right flank is then the far one.
    for side, sign, rim in reversed(flanks):
        bright = 1.0 + 0.16 * float(np.clip(sign * lamp[0], -1.0, 0.5)) - 0.05
        flank = curves[f"{side}-flank"]
        shape = np.concatenate([ridge, rim[:7], flank[::-1]])
        fill_exactly(image, shape, shaded(skin, 0.15 + 0.85 * bright))
    under = np.concatenate(
        [ridge[-1:], curves["right-flank"][-2:-1], base[::-1], curves["left-flank"][-2:-1]]
    )
    fill_exactly(image, under, shaded(skin, 0.84))
    dark = mixed(shaded(skin, 0.3), (60.0, 15.0, 10.0), 0.3)
    far = "right" if plan.camera.yaw > 0.0 else "left"
    for side in ("left", "right"):
        # A far nostril is out of sight once the head has turned.
        if side != far or abs(plan.camera.yaw) < 0.75:
            fill(image, curves[f"{side}-nostril"], dark)
        if side != far or abs(plan.camera.yaw) < 0.45:
            stroke(image, curves[f"{side}-wing"], shaded(skin, 0.66), _line(plan, 0.02))
    stroke(image, base, shaded(skin, 0.62), _line(plan, 0.022))
    gleam = _line(plan, 0.06)
    fill(image, ellipse(ridge[-1], (gleam, gleam)), mixed(skin, (255.0, 255.0, 255.0), 0.24))


def _mouth(image: Image, plan: FacePlan) -> None:
    """Lips, and between them the teeth and the dark where the mouth is open."""
    look, curves = plan.look, plan.curves
    upper, lower = curves["mouth-upper"], curves["mouth-lower"]
    gap = np.concatenate([upper, lower[1:-1]])
    lower_lip = np.concatenate([curves["lips-lower"], lower[::-1]])
    fill_exactly(image, lower_lip, look.lips)
    upper_lip = np.concatenate([curves["lips-upper"], upper[::-1]])
    fill_exactly(image, upper_lip, shaded(look.lips, 0.84))
    gleam = 0.55 * curves["lips-lower"][8:17] + 0.45 * lower[5:12].mean(axis=0)
    stroke(
        image, gleam, mixed(look.lips, (255.0, 235.0, 230.0), 0.25 + 0.3 * look.makeup), _line(plan, 0.025)
    )
    if plan.head.expression.mouth_open > 0.02:
        through(image, gap, 1.0, lambda patch, corner: _inner_mouth(patch, upper - corner, lower - corner))
    else:
        stroke(image, 0.5 * (upper + lower[::-1]), shaded(look.lips, 0.4), _line(plan, 0.02))
    outer = curves["lips-upper"]
    corners = np.stack([outer[0], upper[0]]), np.stack([outer[-1], upper[-1]])
    for corner in corners:
        stroke(image, corner, shaded(look.lips, 0.45), _line(plan, 0.02))


def _inner_mouth(patch: Image, upper: Floats, lower: Floats) -> None:
    patch[:] = (58, 18, 20)
    across = lower[::-1] - upper
    fill(patch, np.concatenate([upper + 0.62 * across, lower]), (158.0, 66.0, 70.0))
    fill(patch, np.concatenate([upper, (upper + 0.3 * across)[::-1]]), (236.0, 232.0, 222.0))


def _eye(image: Image, plan: FacePlan, side: str) -> None:
    """The ball with iris, pupil and gleam seen between the lids, then the lids' lines."""
    look, curves, dark = plan.look, plan.curves, shaded(plan.look.skin, 0.3)
    upper, lower = curves[f"{side}-eye-upper"], curves[f"{side}-eye-lower"]

    def ball(patch: Image, corner: Floats) -> None:
        patch[:] = (238, 234, 230)
        iris = curves[f"{side}-iris"] - corner
        stroke(patch, upper - corner, (150.0, 145.0, 145.0), _line(plan, 0.08))
        fill_exactly(patch, iris, look.iris)
        stroke(patch, inset(iris), shaded(look.iris, 0.5), _line(plan, 0.012), closed=True)
        fill_exactly(patch, curves[f"{side}-pupil-rim"] - corner, (12.0, 10.0, 12.0))
        gleam = (
            curves[f"{side}-pupil"][0]
            - corner
            + plan.camera.scale * 0.03 * np.array([plan.look.light[0], -1.0])
        )
        fill(patch, ellipse(gleam, (_line(plan, 0.02), _line(plan, 0.02)), samples=8), (255.0, 255.0, 255.0))

    if plan.head.expression.eye_open[side == "right"] >= EYE_SHUT:
        through(image, np.concatenate([upper, lower[1:-1]]), 1.0, ball)
    stroke(image, curves[f"{side}-eye-fold"], shaded(look.skin, 0.74), _line(plan, 0.016))
    stroke(image, lower, shaded(look.skin, 0.6), _line(plan, 0.014))
    stroke(
        image,
        upper,
        mixed(dark, (10.0, 8.0, 10.0), 0.5 + 0.5 * look.makeup),
        _line(plan, 0.025 + 0.015 * look.makeup),
    )
    red = mixed(look.skin, (200.0, 90.0, 90.0), 0.55)
    inner = ellipse(
        upper[-1] + 0.1 * (lower[4] - upper[-1]), (_line(plan, 0.022), _line(plan, 0.018)), samples=8
    )
    fill(image, inner, red)


def _brow(image: Image, plan: FacePlan, side: str) -> None:
    curves = plan.curves
    shape = np.concatenate([curves[f"{side}-brow-upper"], curves[f"{side}-brow-lower"]])
    fill_exactly(image, shape, mixed(plan.look.skin, plan.look.brow, 0.88))
