"""A face before it is painted: by lot from a seed, all its curves in pixels and what hides which landmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn import objects, worn
from slimalign.compress.data.drawn.camera import Camera
from slimalign.compress.data.drawn.canvas import Mark, covered, inside
from slimalign.compress.data.drawn.landmarks import wflw_samples
from slimalign.compress.data.drawn.look import Look, random_look
from slimalign.compress.data.drawn.shape import (
    Expression,
    Head,
    Proportions,
    contour_xy,
    crown_xy,
    face_curves,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LARGE_POSE = np.radians(30.0)
FRONTAL = np.radians(15.0)
EYE_SHUT = 0.1
"""An eye less open than this shows no pupil."""


@dataclass(frozen=True)
class FacePlan:
    """All of a face but its pixels.

    ``curves`` holds the drawn curves in pixels, ``wflw`` (98, 2) the landmarks on them, ``hidden`` (98,)
    which are out of sight. ``worn`` is drawn before the light falls on the face, ``objects`` after.
    """

    head: Head
    camera: Camera
    look: Look
    curves: Mapping[str, Floats]
    wflw: Floats
    hidden: Bools
    worn: tuple[Mark, ...]
    objects: tuple[Mark, ...]
    subsets: tuple[str, ...]


def random_plan(rng: np.random.Generator, size: int) -> FacePlan:
    """A face by lot for a picture of ``size`` x ``size`` pixels."""
    head = Head(_random_proportions(rng), _random_expression(rng))
    pose = _random_pose(rng)
    # Scale and shift only move what has been projected: the curves are found once, at unit scale.
    at_unit, turned_away = drawn_curves(head, pose)
    camera = _placed(rng, wflw_samples(at_unit), pose, size)
    look = random_look(rng)
    shift = np.array(camera.shift)
    curves = {name: camera.scale * curve + shift for name, curve in at_unit.items()}
    points = wflw_samples(curves)
    things = tuple(objects.random_objects(rng, points, look.skin))
    return _plan(head, camera, look, curves, turned_away, things, size)


def _plan(
    head: Head,
    camera: Camera,
    look: Look,
    curves: Mapping[str, Floats],
    turned_away: Bools,
    things: tuple[Mark, ...],
    size: int,
) -> FacePlan:
    points = wflw_samples(curves)
    dressed = (
        *worn.glasses(head, camera, look),
        *worn.hair_in_front(head, camera, look),
        *worn.hat(head, camera, look),
    )
    outside = ((points < -0.5) | (points > size - 0.5)).any(axis=1)
    behind_object = covered(points, things)
    shut = np.zeros(98, dtype=np.bool_)
    shut[96:] = np.array(head.expression.eye_open) < EYE_SHUT
    hidden = (
        turned_away
        | shut
        | _behind_nose(points, curves, camera)
        | covered(points, dressed)
        | behind_object
        | outside
    )
    subsets = _subsets(head.expression, camera, bool(behind_object.any()))
    return FacePlan(head, camera, look, curves, points, hidden, dressed, things, subsets)


def plain_plan(head: Head, camera: Camera, look: Look, size: int) -> FacePlan:
    """The plan of a given face with nothing in front of it but what ``look`` wears."""
    curves, turned_away = drawn_curves(head, camera)
    return _plan(head, camera, look, curves, turned_away, (), size)


def drawn_curves(head: Head, camera: Camera) -> tuple[dict[str, Floats], Bools]:
    """The face's curves in pixels, and which of the 98 landmarks have turned behind the silhouette."""
    surface = face_curves(head)
    on_face, away = camera.surface(head, surface.xyd)
    contour = camera.outline(head, contour_xy(head))
    crown = camera.outline(head, crown_xy(head))
    pixels = camera.project(np.concatenate([on_face, contour, crown]))
    curves = {name: pixels[part] for name, part in surface.parts.items()}
    flags = {name: away[part] for name, part in surface.parts.items()}
    first = len(on_face)
    curves["contour"] = pixels[first : first + len(contour)]
    curves["crown"] = pixels[first + len(contour) :]
    # On the contour the silhouette itself is the landmark: it is seen.
    flags["contour"] = np.zeros(len(contour), dtype=np.bool_)
    return curves, wflw_samples(flags)


def nose_outline(curves: Mapping[str, Floats]) -> Floats:
    """The nose from the bridge down one flank, along the base, and up the other."""
    return np.concatenate([curves["left-flank"], curves["nose-base"][1:-1], curves["right-flank"][::-1]])


def _behind_nose(points: Floats, curves: Mapping[str, Floats], camera: Camera) -> Bools:
    """(98,): the landmarks of eyes and mouth on the far side that the nose stands in front of."""
    hidden = np.zeros(98, dtype=np.bool_)
    if abs(camera.yaw) > 0.2:
        ridge = np.concatenate([curves["nose-bridge"], curves["nose-base"][8:9]])
        far = curves["right-flank"] if camera.yaw > 0 else curves["left-flank"]
        side = np.concatenate([ridge, far[::-1]])
        candidates = np.array([*range(60, 76), *range(76, 98), 55, 59])
        hidden[candidates] = inside(points[candidates], side)
    return hidden


def _subsets(expression: Expression, camera: Camera, behind_object: bool) -> tuple[str, ...]:
    labels = []
    if abs(camera.yaw) > LARGE_POSE:
        labels.append("large-pose")
    if abs(camera.yaw) < FRONTAL and abs(camera.pitch) < FRONTAL:
        labels.append("frontal")
    if expression.mouth_open > 0.25 or abs(expression.smile) > 0.8:
        labels.append("expression")
    if behind_object:
        labels.append("occluded")
    return tuple(labels)


def _random_proportions(rng: np.random.Generator) -> Proportions:
    usual = Proportions()
    # Shares of the usual value: (name, spread).
    spread = {
        "chin": 0.07, "crown": 0.05, "depth": 0.05, "jaw_power": 0.1, "jaw_fall": 0.12, "eye_x": 0.05,
        "eye_width": 0.08, "eye_height": 0.16, "iris": 0.05, "brow_y": 0.1, "brow_arch": 0.45,
        "brow_thickness": 0.25, "brow_length": 0.07, "nose_length": 0.09, "nose_width": 0.13,
        "nose_height": 0.15, "mouth_width": 0.1, "upper_lip": 0.28, "lower_lip": 0.25, "ear": 0.12,
    }  # fmt: skip
    lot = np.clip(rng.standard_normal(len(spread)), -2.2, 2.2)
    values = {
        name: getattr(usual, name) * (1.0 + share * float(z))
        for (name, share), z in zip(spread.items(), lot, strict=True)
    }
    # The mouth keeps its place between the nose and the chin.
    base, chin = values["nose_length"] + 0.19, values["chin"]
    mouth = base + (chin - base) * float(np.clip(rng.normal(0.37, 0.035), 0.29, 0.45))
    return Proportions(**values, mouth_y=mouth, eye_tilt=float(rng.normal(-0.01, 0.02)))


def _random_expression(rng: np.random.Generator) -> Expression:
    lot = rng.random(5)
    smile = float(np.clip(rng.normal(0.25, 0.45), -0.7, 1.0))
    raised = float(np.clip(rng.normal(0.0, 0.05), -0.07, 0.16))
    opened = 0.02 if lot[1] < 0.05 else float(rng.uniform(0.55, 1.2))
    wink = 0.03 if lot[2] < 0.02 else opened * float(rng.uniform(0.92, 1.08))
    eyes = (opened, wink) if lot[3] < 0.5 else (wink, opened)
    uneven = float(rng.normal(0.0, 0.02))
    return Expression(
        mouth_open=float(rng.uniform(0.03, 0.5)) if lot[0] < 0.4 else 0.0,
        smile=smile,
        pucker=float(rng.uniform(0.2, 1.0)) if lot[4] < 0.08 and smile < 0.3 else 0.0,
        brow_raise=(raised + uneven, raised - uneven),
        brow_slant=float(rng.normal(0.0, 0.05)),
        eye_open=eyes,
        gaze=(
            float(np.clip(rng.normal(0.0, 0.45), -1.0, 1.0)),
            float(np.clip(rng.normal(0.0, 0.4), -0.8, 0.8)),
        ),
    )


def _random_pose(rng: np.random.Generator) -> Camera:
    """Mostly near frontal; yaw up to 60 degrees, pitch to 25, roll to 30."""
    yaw = rng.uniform(-60.0, 60.0) if rng.random() < 0.32 else rng.normal(0.0, 12.0)
    yaw, pitch, roll = np.clip(
        [yaw, rng.normal(0.0, 10.0), rng.normal(0.0, 11.0)], (-60, -25, -30), (60, 25, 30)
    )
    distance = 1.0 / rng.uniform(0.03, 0.16)
    return Camera(float(np.radians(yaw)), float(np.radians(pitch)), float(np.radians(roll)), float(distance))


def _placed(rng: np.random.Generator, points: Floats, pose: Camera, size: int) -> Camera:
    """Scale and shift so that the landmarks fill 0.45 to 0.7 of the picture and their crop mostly fits in.

    ``points`` (98, 2) are the landmarks at unit scale without shift.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    share = rng.uniform(0.45, 0.7)
    scale = share * size / float((high - low).max())
    room = 0.5 * (1.0 - 1.25 * share) * size
    if rng.random() < 0.1:
        room += 0.13 * size
    middle = (size - 1) / 2.0 + rng.uniform(-1.0, 1.0, 2) * room
    x, y = middle - scale * (low + high) / 2.0
    return pose.moved(scale, (float(x), float(y)))
