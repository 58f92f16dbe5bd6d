"""The drawn head in 3-D: left and right, pose, silhouette, what is out of sight."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slimalign.compress.data.drawn.camera import Camera
from slimalign.compress.data.drawn.canvas import inside
from slimalign.compress.data.drawn.landmarks import scheme_points, wflw_samples
from slimalign.compress.data.drawn.look import Look, random_look
from slimalign.compress.data.drawn.plan import FacePlan, drawn_curves, plain_plan
from slimalign.compress.data.drawn.shape import Expression, Head, Proportions
from slimalign.runtimes.schemes import SCHEMES, W300, WFLW, LandmarkScheme

SIZE = 256
CENTRED = Camera(scale=70.0, shift=(127.5, 100.0))


def plain_look() -> Look:
    look = random_look(np.random.default_rng(0))
    return replace(look, hair_style="bald", hair_volume=1.0, beard=0.0, glasses="none", hat="none")


def plan_of(camera: Camera, head: Head = Head(), look: Look | None = None) -> FacePlan:  # noqa: B008
    return plain_plan(head, camera, look or plain_look(), SIZE)


def points_of(scheme: LandmarkScheme, camera: Camera, head: Head = Head()) -> NDArray[np.float64]:  # noqa: B008
    curves, hidden = drawn_curves(head, camera)
    return scheme_points(wflw_samples(curves), hidden, scheme)[0]


def flipped(scheme: LandmarkScheme, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of the mirrored picture, left and right renamed."""
    return points[scheme.flip_indices] * (-1, 1) + (SIZE - 1, 0)


def region(scheme: LandmarkScheme, points: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    indices = next(r.indices for r in scheme.regions if r.name == name)
    middle: NDArray[np.float64] = points[list(indices)].mean(axis=0)
    return middle


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_a_symmetric_face_is_its_own_flip(scheme: LandmarkScheme) -> None:
    points = points_of(scheme, CENTRED)
    assert np.abs(flipped(scheme, points) - points).max() < 1e-9


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
@given(yaw=st.floats(-1.04, 1.04), pitch=st.floats(-0.43, 0.43), roll=st.floats(-0.52, 0.52))
@settings(max_examples=30, deadline=None)
def test_the_mirrored_pose_gives_the_flipped_points(
    scheme: LandmarkScheme, yaw: float, pitch: float, roll: float
) -> None:
    here = points_of(scheme, replace(CENTRED, yaw=yaw, pitch=pitch, roll=roll))
    there = points_of(scheme, replace(CENTRED, yaw=-yaw, pitch=pitch, roll=-roll))
    assert np.abs(flipped(scheme, here) - there).max() < 1e-6


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_the_mirrored_expression_gives_the_flipped_points(scheme: LandmarkScheme) -> None:
    one = Expression(0.2, 0.4, 0.0, (0.08, -0.02), 0.03, (0.4, 1.1), (0.6, -0.2))
    other = replace(one, brow_raise=(-0.02, 0.08), eye_open=(1.1, 0.4), gaze=(-0.6, -0.2))
    here, there = (
        points_of(scheme, CENTRED, Head(expression=one)),
        points_of(scheme, CENTRED, Head(expression=other)),
    )
    assert np.abs(flipped(scheme, here) - there).max() < 1e-9


@pytest.mark.parametrize("scheme", [W300, WFLW], ids=lambda scheme: scheme.name)
def test_left_is_the_left_of_the_picture_and_the_chin_is_below(scheme: LandmarkScheme) -> None:
    points = points_of(scheme, CENTRED)
    for part in ("brow", "eye"):
        assert region(scheme, points, f"left-{part}")[0] < region(scheme, points, f"right-{part}")[0]
    heights = [
        region(scheme, points, name)[1]
        for name in ("left-brow", "left-eye", "nose-bridge", "nose-base", "outer-lips")
    ]
    assert heights == sorted(heights)
    contour = points[list(scheme.regions[0].indices)]
    assert contour[:, 1].argmax() == len(contour) // 2
    assert (np.diff(contour[:, 0]) > 0).all()


def test_each_ring_of_landmarks_goes_round_clockwise() -> None:
    points = points_of(WFLW, CENTRED, Head(expression=Expression(mouth_open=0.3)))
    for ring in (r for r in WFLW.regions if r.closed):
        x, y = points[list(ring.indices)].T
        # The shoelace formula; positive is clockwise where y points down.
        assert np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) > 0, ring.name


def test_the_three_angles_turn_the_face_as_they_say() -> None:
    tip = np.array([[0.0, 0.0, 1.0]])
    side = np.array([[1.0, 0.0, 0.0]])
    assert Camera(yaw=np.pi / 2, distance=1e9).project(tip)[0] == pytest.approx([1.0, 0.0], abs=1e-6)
    assert Camera(pitch=np.pi / 6, distance=1e9).project(tip)[0] == pytest.approx([0.0, -0.5], abs=1e-6)
    assert Camera(roll=np.pi / 6, distance=1e9).project(side)[0] == pytest.approx(
        [np.sqrt(3) / 2, 0.5], abs=1e-6
    )
    # Perspective: at distance 10, what is 1 nearer is 10 / 9 as large.
    assert Camera(distance=10.0).project(np.array([[1.0, 0.0, 1.0]]))[0] == pytest.approx([10 / 9, 0.0])
    turn = Camera(yaw=0.3, pitch=-0.2).turn
    assert np.abs(turn @ turn.T - np.eye(3)).max() < 1e-12


@pytest.mark.parametrize("yaw", [-50, -30, 30, 50])
@pytest.mark.parametrize("pitch", [-15, 0, 15])
def test_the_far_contour_lies_on_the_silhouette_of_the_surface(yaw: int, pitch: int) -> None:
    """A dense sampling of the surface reaches as far out as the contour, and no further."""
    head = Head()
    camera = replace(CENTRED, yaw=np.radians(yaw), pitch=np.radians(pitch), distance=1e6)
    y, phi = (
        grid.ravel()
        for grid in np.meshgrid(np.linspace(0.0, head.chin, 200), np.linspace(-1.5708, 1.5708, 181))
    )
    width, edge, front = head.half_width(y), head.edge_depth(y), head.front_depth(y)
    surface = camera.project(np.column_stack([width * np.sin(phi), y, edge + (front - edge) * np.cos(phi)]))
    contour = points_of(WFLW, camera, head)[:33]
    sign = np.sign(yaw)
    assert (sign * contour[:, 0]).max() == pytest.approx((sign * surface[:, 0]).max(), abs=1.0)
    assert contour[:, 1].max() == pytest.approx(surface[:, 1].max(), abs=1.5)


def test_points_that_turn_away_are_put_on_the_silhouette_and_told() -> None:
    frontal, turned = plan_of(CENTRED), plan_of(replace(CENTRED, yaw=np.radians(58)))
    assert not frontal.hidden.any()
    assert turned.hidden[72]
    assert not turned.hidden[60]
    assert not turned.hidden[:33].any()
    # The far eye's outer corner is within a pixel or two of the contour.
    outline = turned.curves["contour"].astype(np.float32)
    x, y = turned.wflw[72]
    assert abs(cv2.pointPolygonTest(outline, (float(x), float(y)), True)) < 6.0


def test_dark_glasses_hide_the_eyes_and_clear_ones_do_not() -> None:
    look = replace(plain_look(), glasses_shape=(0.3, 0.24, 0.8))
    dark = plan_of(CENTRED, look=replace(look, glasses="dark"))
    assert dark.hidden[60:76].all()
    assert dark.hidden[96:].all()
    assert not dark.hidden[:60].any()
    assert not dark.hidden[76:96].any()
    assert not plan_of(CENTRED, look=replace(look, glasses="clear")).hidden.any()


def test_a_shut_eye_hides_its_pupil() -> None:
    plan = plan_of(CENTRED, Head(expression=Expression(eye_open=(0.02, 1.0))))
    assert np.nonzero(plan.hidden)[0].tolist() == [96]


def test_a_fringe_hides_the_brows() -> None:
    look = replace(plain_look(), hair_style="fringe", hairline=-0.1, hair_volume=1.1)
    plan = plan_of(CENTRED, look=look)
    assert plan.hidden[33:51].mean() > 0.6
    assert not plan.hidden[51:60].any()
    assert not plan.hidden[76:96].any()


def test_the_mouth_opens_and_the_eyes_close() -> None:
    shut = points_of(WFLW, CENTRED, Head(expression=Expression(eye_open=(0.0, 1.0))))
    wide = points_of(WFLW, CENTRED, Head(expression=Expression(mouth_open=0.4)))
    assert shut[66, 1] - shut[62, 1] == pytest.approx(0.0, abs=0.3)
    assert shut[74, 1] - shut[70, 1] > 8.0
    # Perspective enlarges the lips, which lie nearer, by less than a sixth.
    assert 0.4 * 70.0 <= wide[94, 1] - wide[90, 1] <= 0.4 * 70.0 * 7 / 6
    assert wide[16, 1] > shut[16, 1] + 5.0


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_inside_agrees_with_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygon = rng.uniform(0.0, 100.0, (int(rng.integers(3, 9)), 2)).astype(np.float32)
    points = rng.uniform(-10.0, 110.0, (60, 2)).astype(np.float32)
    expected = [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y in points]
    assert inside(points.astype(np.float64), polygon.astype(np.float64)).tolist() == expected


def test_proportions_move_what_they_name() -> None:
    usual = points_of(WFLW, CENTRED)
    wide = points_of(WFLW, CENTRED, Head(Proportions(mouth_width=0.45)))
    changed = np.linalg.norm(wide - usual, axis=1) > 0.1
    assert changed[76:96].any()
    assert not changed[:76].any()
