"""A drawn film: one face that moves by a known path, then keeps still, seen by a sensor with known noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.background import random_background
from slimalign.compress.data.drawn.camera import Camera
from slimalign.compress.data.drawn.landmarks import scheme_points
from slimalign.compress.data.drawn.look import random_look
from slimalign.compress.data.drawn.paint import painted
from slimalign.compress.data.drawn.plan import plain_plan
from slimalign.compress.data.drawn.shape import Expression, Head
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

FADE_S = 1.0
"""How long the movement takes to come up, and to die away before the still part."""
PAN_REACH = 0.25
"""How far a pan takes the face to either side, in sides of the picture."""


@dataclass(frozen=True)
class FilmPlan:
    """What is filmed: ``moving_s`` seconds of movement, then ``still_s`` of rest, at ``fps``.

    The pictures are ``size`` pixels a side; ``noise`` is the standard deviation of the sensor's, in grey levels of
    255, independent from pixel to pixel and from frame to frame. ``seed`` decides the face's look, the background
    and the noise. In the movement the camera pans from side to side once every ``pan_s`` seconds, 0 for never.
    """

    seed: int = 0
    size: int = 384
    fps: float = 25.0
    moving_s: float = 8.0
    still_s: float = 4.0
    noise: float = 4.0
    pan_s: float = 0.0

    @property
    def frames(self) -> int:
        """How many pictures that makes."""
        return round((self.moving_s + self.still_s) * self.fps)


@dataclass(frozen=True)
class FilmFrame:
    """``image`` (size, size, 3) uint8 RGB at ``time_s`` with the true ``points`` (K, 2) in its pixels.

    ``still`` says whether the face is where it was in the frame before.
    """

    image: Image
    points: Floats
    time_s: float
    still: bool


def drawn_film(plan: FilmPlan, scheme: LandmarkScheme) -> Iterator[FilmFrame]:
    """The frames of ``plan``, the same bytes on every call."""
    looks, grounds, noises = (np.random.default_rng([plan.seed, part]) for part in range(3))
    look, background = random_look(looks), random_background(grounds, plan.size)
    for number in range(plan.frames):
        time_s = number / plan.fps
        posed = plain_plan(*_posed(plan, time_s), look, plan.size)
        points, _ = scheme_points(posed.wflw, posed.hidden, scheme)
        clean = painted(posed, background.copy()).astype(np.float64)
        noisy = clean + plan.noise * noises.standard_normal(clean.shape)
        image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        yield FilmFrame(image, points, time_s, still=(number - 1) / plan.fps >= plan.moving_s)


def _posed(plan: FilmPlan, time_s: float) -> tuple[Head, Camera]:
    """The head and the camera at a time: slow turns, a swifter shift, and a mouth and eyes that open and close."""
    up, down = time_s / FADE_S, (plan.moving_s - time_s) / FADE_S
    share = float(np.clip(min(up, down), 0.0, 1.0))
    much = share * share * (3.0 - 2.0 * share)

    def swing(reach: float, period_s: float) -> float:
        return reach * much * float(np.sin(2.0 * np.pi * time_s / period_s))

    eyes = 0.9 - 0.7 * much * float(np.sin(np.pi * time_s / 2.0)) ** 16
    talk = 0.15 * much * (1.0 - float(np.cos(2.0 * np.pi * time_s / 0.8)))
    head = Head(expression=Expression(mouth_open=talk, smile=0.2, eye_open=(eyes, eyes)))
    side = plan.size
    across = swing(PAN_REACH, plan.pan_s) if plan.pan_s else swing(0.1, 1.9)
    camera = Camera(
        yaw=np.radians(4.0 + swing(20.0, 3.1)),
        pitch=np.radians(2.0 + swing(8.0, 2.3)),
        roll=np.radians(-3.0 + swing(10.0, 3.7)),
        distance=10.0,
        scale=side * (0.22 + swing(0.03, 4.3)),
        shift=(side * (0.5 + across), side * (0.45 + swing(0.05, 1.3))),
    )
    return head, camera
