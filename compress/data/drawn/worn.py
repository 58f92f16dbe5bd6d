"""What is worn in front of the face or behind it: hair, hats, glasses, beards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.camera import Camera
from slimalign.compress.data.drawn.canvas import Mark
from slimalign.compress.data.drawn.look import Look, shaded
from slimalign.compress.data.drawn.shape import Head, crown_xy

Floats = NDArray[np.float64]

_ACROSS = np.linspace(-1.0, 1.0, 23)
_CENTRE = np.array([0.0, -0.3, -0.1])


def skull(head: Head, camera: Camera, volume: float) -> Floats:
    """The outline of the head behind the face, ``volume`` times as wide as the bare skull."""
    radii = (0.99 * volume, (0.74 * head.shape.crown + 0.02) * volume, 1.15 * volume)
    return camera.ellipsoid((0.0, -0.26 * head.shape.crown, -0.1), radii)


def hair_behind(head: Head, camera: Camera, look: Look) -> list[Mark]:
    """Long hair: it hangs behind neck and shoulders."""
    if not look.hair_style.startswith("long"):
        return []
    length = 1.5 + 6.0 * (look.hair_volume - 1.04)
    fall = camera.ellipsoid((0.0, length - 1.1, -0.35), (1.12 * look.hair_volume, length, 0.9))
    return [Mark(fall, shaded(look.hair, 0.75))]


def hair_in_front(head: Head, camera: Camera, look: Look) -> list[Mark]:
    """The hair over the forehead, from the crown to the hairline, with a few strands and side locks."""
    if look.hair_style == "bald":
        return []
    crown = _raised_crown(head, camera, look.hair_volume)
    bend = 2.5 if "fringe" in look.hair_style else 4.0
    side = -0.12 + 0.25 * look.hair_style.startswith("long")
    heights = side + (look.hairline - side) * (1.0 - np.abs(_ACROSS) ** bend)
    heights = heights + look.parting * _ACROSS * (1.0 - _ACROSS**2)
    hairline = _line_on_face(head, camera, heights, 0.03)
    marks = [Mark(np.concatenate([crown, hairline]), look.hair, hides=True)]
    for strand in range(1, 22, 2):
        line = np.stack([hairline[strand], 0.5 * (hairline[strand] + crown[22 - strand]), crown[22 - strand]])
        tone = 0.82 if strand % 4 == 1 else 1.18
        marks.append(Mark(line, shaded(look.hair, tone), thickness=max(0.02 * camera.scale, 1.0)))
    if look.hair_style.startswith("long"):
        marks += [_lock(head, camera, look, sign) for sign in (-1.0, 1.0) if sign * camera.yaw < 0.3]
    return marks


def _raised_crown(head: Head, camera: Camera, volume: float) -> Floats:
    """The outline (23, 2) of the upper head, right to left, pushed outwards by ``volume``."""
    crown = camera.outline(head, crown_xy(head))
    return camera.project((crown - _CENTRE) * volume + _CENTRE)


def _line_on_face(head: Head, camera: Camera, heights: Floats, over: float) -> Floats:
    """A line (23, 2) across the face from left to right at ``heights`` (23,), ``over`` above the skin."""
    x = 0.999 * _ACROSS * head.half_width(heights)
    return camera.project(camera.surface(head, np.column_stack([x, heights, np.full(23, over)]))[0])


def _lock(head: Head, camera: Camera, look: Look, sign: float) -> Mark:
    """Hair that hangs beside the cheek and hides the contour's first points now and then."""
    y = np.linspace(-0.5, 1.5 + 0.6 * look.hair_volume, 8)
    inner = 1.02 - 0.9 * (look.hair_volume - 1.04) * np.sin(np.linspace(0.4, 2.4, 8))
    outer = np.full(8, 1.12 * look.hair_volume)
    x = sign * np.concatenate([inner, outer[::-1]])
    z = np.concatenate([np.full(8, 0.12), np.full(8, -0.25)])
    return Mark(
        camera.project(np.column_stack([x, np.concatenate([y, y[::-1]]), z])),
        shaded(look.hair, 0.92),
        hides=True,
    )


def hat(head: Head, camera: Camera, look: Look) -> list[Mark]:
    """A hat or a headband; it may come down to the brows."""
    if look.hat == "none":
        return []
    low = 0.45 * look.hairline - 0.22
    edge = _line_on_face(head, camera, low - 0.1 * (1.0 - _ACROSS**2), 0.06)
    if look.hat == "band":
        upper = _line_on_face(head, camera, low - 0.3 - 0.1 * (1.0 - _ACROSS**2), 0.06)
        return [Mark(np.concatenate([edge, upper[::-1]]), look.hat_colour, hides=True)]
    volume = min(look.hair_volume, 1.16) + 0.06
    marks = [Mark(np.concatenate([_raised_crown(head, camera, volume), edge]), look.hat_colour, hides=True)]
    if look.hat == "beanie":
        cuff = _line_on_face(head, camera, low - 0.22 - 0.1 * (1.0 - _ACROSS**2), 0.08)
        cuff_shape = np.concatenate([edge, cuff[::-1]])
        return [*marks, Mark(cuff_shape, shaded(look.hat_colour, 0.8), hides=True)]
    angle = 0.5 * np.pi * _ACROSS
    rim = np.column_stack(
        [0.95 * np.sin(angle), low - 0.02 - 0.05 * np.cos(angle), 0.3 + 1.35 * np.cos(angle)]
    )
    brim = np.concatenate([edge, camera.project(rim)[::-1]])
    return [*marks, Mark(brim, shaded(look.hat_colour, 0.6), hides=True)]


def glasses(head: Head, camera: Camera, look: Look) -> list[Mark]:
    """Two lenses, the bridge between them and the temple that can be seen."""
    if look.glasses == "none":
        return []
    wide, high, roundness = look.glasses_shape
    thick = max(0.045 * camera.scale * roundness, 1.0)
    t = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    x = wide * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** roundness
    y = 0.04 + high * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** roundness
    dark = look.glasses == "dark"
    marks: list[Mark] = []
    for sign in (-1.0, 1.0):
        lens = camera.project(_before_the_eyes(head, x + sign * head.shape.eye_x * 1.04, y))
        tint = (20.0, 20.0, 26.0) if dark else (235.0, 240.0, 255.0)
        marks += [
            Mark(lens, tint, opacity=0.93 if dark else 0.14, hides=dark),
            Mark(lens, look.frame, thickness=thick, closed=True),
        ]
        if sign * camera.yaw < 0.15:
            hinge = _before_the_eyes(
                head, np.array([sign * (head.shape.eye_x * 1.04 + wide)]), np.array([0.0])
            )
            temple = np.concatenate([hinge, [[sign * 1.01, 0.02, 0.0]]])
            marks.append(Mark(camera.project(temple), look.frame, thickness=thick))
    gap = head.shape.eye_x * 1.04 - wide
    bridge = _before_the_eyes(head, np.array([-gap, 0.0, gap]), np.array([0.0, -0.05, 0.0]))
    return [*marks, Mark(camera.project(bridge), look.frame, thickness=thick)]


def _before_the_eyes(head: Head, x: Floats, y: Floats) -> Floats:
    """Head coordinates of points of the glasses' front, which bends a little around the face."""
    return np.column_stack([x, y, head.shape.depth * (1.08 - 0.35 * x**2)])


def beard(head: Head, camera: Camera, look: Look, contour: Floats) -> list[Mark]:
    """The beard's patch of cheeks, chin and upper lip; the lips are drawn over it."""
    if look.beard == 0.0:
        return []
    mouth, nose = head.shape.mouth_y, head.shape.nose_length + 0.22
    knots = np.array([-1.0, -0.8, -0.45, -0.25, 0.0, 0.25, 0.45, 0.8, 1.0])
    lip = nose if look.moustache else mouth
    cheek = 0.72 * mouth
    heights = np.array([0.45, cheek, mouth - 0.08, lip, lip + 0.02, lip, mouth - 0.08, cheek, 0.45])
    upper = _line_on_face(head, camera, np.interp(_ACROSS, knots, heights), 0.01)
    shape = np.concatenate([contour[8:57], upper[::-1]])
    return [Mark(shape, shaded(look.hair, 0.9), opacity=min(look.beard, 0.97))]
