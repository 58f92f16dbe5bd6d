"""Landmarks lie where the picture has the edge, the corner or the disc: found in the pixels, within a pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from slimalign.compress.data.drawn.camera import Camera
from slimalign.compress.data.drawn.look import Look, random_look
from slimalign.compress.data.drawn.paint import painted
from slimalign.compress.data.drawn.plan import FacePlan, plain_plan
from slimalign.compress.data.drawn.shape import Expression, Head

Floats = NDArray[np.float64]

SIZE = 320
BACKGROUND = (0, 0, 255)
POSES = [(0, 0, 0), (25, 10, 15), (-25, -10, -20)]


def telling_look() -> Look:
    """A bald face whose parts differ in hue, under even white light."""
    look = random_look(np.random.default_rng(0))
    return replace(
        look,
        skin=(200.0, 200.0, 200.0),
        lips=(200.0, 0.0, 0.0),
        brow=(0.0, 150.0, 0.0),
        iris=(0.0, 0.0, 200.0),
        hair_style="bald",
        hair_volume=1.0,
        beard=0.0,
        glasses="none",
        hat="none",
        light=(0.0, 0.0, 1.0),
        light_colour=(1.0, 1.0, 1.0),
        contrast=0.08,
        blush=0.0,
        makeup=0.0,
    )


def drawn(pose: tuple[int, int, int], expression: Expression = Expression()) -> tuple[FacePlan, Floats]:  # noqa: B008
    """The plan and the picture (S, S, 3) of a plain face on blue."""
    yaw, pitch, roll = np.radians(pose)
    camera = Camera(float(yaw), float(pitch), float(roll), 12.0, 90.0, (159.5, 125.0))
    plan = plain_plan(Head(expression=expression), camera, telling_look(), SIZE)
    image = painted(plan, np.full((SIZE, SIZE, 3), BACKGROUND, dtype=np.uint8)).astype(np.float64)
    return plan, image


def shares(image: Floats) -> Floats:
    """The colours as shares of their sum: light and shade fall out."""
    result: Floats = image / np.maximum(image.sum(axis=2, keepdims=True), 1.0)
    return result


def sampled(picture: Floats, places: Floats) -> Floats:
    """Bilinear values of ``picture`` (S, S) at ``places`` (N, 2)."""
    x0, y0 = np.floor(places).astype(int).T
    fx, fy = (places - np.floor(places)).T
    top = picture[y0, x0] * (1 - fx) + picture[y0, x0 + 1] * fx
    bottom = picture[y0 + 1, x0] * (1 - fx) + picture[y0 + 1, x0 + 1] * fx
    result: Floats = top * (1 - fy) + bottom * fy
    return result


def edge_offset(picture: Floats, point: Floats, direction: Floats, reach: float = 5.0) -> float:
    """How far from ``point`` along ``direction`` the value crosses the middle between its two ends."""
    steps = np.arange(-reach, reach + 0.01, 0.05)
    values = sampled(picture, point + steps[:, None] * direction / np.linalg.norm(direction))
    middle = 0.5 * (values[:20].mean() + values[-20:].mean())
    assert abs(values[0] - values[-1]) > 50.0, "no edge here"
    crossings = np.nonzero(np.diff(np.sign(values - middle)))[0]
    return float(np.abs(steps[crossings]).min())


@pytest.mark.parametrize("pose", POSES)
def test_the_contour_is_the_edge_of_the_face(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose)
    # The neck joins the middle of the jaw; the ears the upper ends. Between them is background.
    blue, red = shares(image)[..., 2], image[..., 0]
    middle = plan.wflw[[30, 54]].mean(axis=0)
    offsets = []
    for index in (*range(8, 11), *range(22, 25)):
        along = plan.wflw[index + 1] - plan.wflw[index - 1]
        outward = np.array([-along[1], along[0]])
        outward = outward if outward @ (plan.wflw[index] - middle) > 0 else -outward
        beyond = plan.wflw[index] + 5.0 * outward / np.linalg.norm(outward)
        if blue[round(beyond[1]), round(beyond[0])] > 0.9:
            offsets.append(edge_offset(red, plan.wflw[index], outward))
    assert len(offsets) >= 3
    assert max(offsets) < 1.0


@pytest.mark.parametrize("pose", POSES)
def test_lips_begin_and_end_at_their_landmarks(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose)
    green = image[..., 1]
    for index in (77, 78, 79, 80, 81, 83, 84, 85, 86, 87):
        along = plan.wflw[index + 1 if index < 87 else 76] - plan.wflw[index - 1]
        assert edge_offset(green, plan.wflw[index], np.array([-along[1], along[0]]), 3.5) < 1.0, index
    mask = shares(image)[..., 0] > 0.45
    rows, columns = np.nonzero(mask)
    lips = np.column_stack([columns, rows]).astype(np.float64)
    for corner, other in ((76, 82), (82, 76)):
        outward = plan.wflw[corner] - plan.wflw[other]
        outward /= np.linalg.norm(outward)
        assert ((lips - plan.wflw[corner]) @ outward).max() == pytest.approx(0.0, abs=1.5)


@pytest.mark.parametrize("pose", POSES)
def test_the_open_mouth_lies_between_the_inner_lips(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose, Expression(mouth_open=0.35))
    green = image[..., 1]
    for index in (89, 90, 91):
        # Teeth are white, lips red without any green.
        along = plan.wflw[index + 1] - plan.wflw[index - 1]
        assert edge_offset(green, plan.wflw[index], np.array([-along[1], along[0]]), 3.0) < 1.0, index


@pytest.mark.parametrize("pose", POSES)
def test_the_pupil_is_the_middle_of_the_iris(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose, Expression(eye_open=(1.7, 1.7), gaze=(0.4, 0.1)))
    blue = shares(image)[..., 2]
    dark = image.sum(axis=2) < 90.0
    for index in (96, 97):
        x, y = plan.wflw[index]
        rows, columns = np.mgrid[round(y) - 14 : round(y) + 15, round(x) - 14 : round(x) + 15]
        disc = (blue[rows, columns] > 0.6) | dark[rows, columns]
        near = np.hypot(columns - x, rows - y) < 11.0
        # The lamp's gleam is a hole in the disc: the middle of its extent does not see it.
        across = columns[disc & near]
        assert (across.min() + across.max()) / 2 == pytest.approx(x, abs=1.0)
    assert plan.wflw[97, 0] > plan.wflw[96, 0]


@pytest.mark.parametrize("pose", POSES)
def test_the_upper_lid_is_a_dark_line_through_its_landmarks(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose)
    bright = image.sum(axis=2)
    for before, index, after in ((60, 61, 62), (61, 62, 63), (68, 69, 70), (70, 71, 72)):
        along = plan.wflw[after] - plan.wflw[before]
        normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
        steps = np.arange(-3.0, 3.01, 0.05)
        values = sampled(bright, plan.wflw[index] + steps[:, None] * normal)
        darkest = steps[values <= values.min() + 12.0].mean()
        assert abs(darkest) < 1.0, index


@pytest.mark.parametrize("pose", POSES)
def test_the_brows_end_at_their_landmarks(pose: tuple[int, int, int]) -> None:
    plan, image = drawn(pose)
    red = image[..., 0]
    for before, index, after in ((34, 35, 36), (43, 44, 45), (39, 40, 41), (47, 48, 49)):
        along = plan.wflw[after] - plan.wflw[before]
        assert edge_offset(red, plan.wflw[index], np.array([-along[1], along[0]]), 3.0) < 1.0, index
