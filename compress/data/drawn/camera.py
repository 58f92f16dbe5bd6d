"""Head pose and projection; points that turn out of sight slide along the visible silhouette."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.drawn.canvas import pairs
from slimalign.compress.data.drawn.shape import Head

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Camera:
    """Head coordinates to pixels: turn, perspective from ``distance`` half face widths away, scale, shift.

    Angles in radians: ``yaw`` > 0 turns the face to the right of the picture, ``pitch`` > 0 lifts the nose,
    ``roll`` > 0 turns the picture clockwise. ``scale`` is in pixels a half face width.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    distance: float = 12.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def turn(self) -> Floats:
        """(3, 3): the rotation by yaw, then pitch."""
        cy, sy, cp, sp = math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)
        return np.array([[cy, 0.0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]])

    def project(self, points: Floats) -> Floats:
        """Head coordinates ``points`` (N, 3) -> pixels (N, 2)."""
        x, y, z = self.turn @ points.T
        factor = self.scale * self.distance / (self.distance - z)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        return pairs(factor * (cr * x - sr * y) + self.shift[0], factor * (sr * x + cr * y) + self.shift[1])

    def moved(self, scale: float, shift: tuple[float, float]) -> Camera:
        """This camera with another scale and shift."""
        return replace(self, scale=scale, shift=shift)

    def surface(self, head: Head, xyd: Floats) -> tuple[Floats, Bools]:
        """Project curves over the face: ``xyd`` (N, 3) of x, y, height -> head coordinates (N, 3) and hidden (N,).

        A sample that has turned behind the silhouette is put on it, as annotators do, and told as hidden.
        """
        x, y, height = xyd.T
        width, edge = head.half_width(y), head.edge_depth(y)
        depth = head.front_depth(y) - edge
        phi = np.arcsin(_within(x / np.maximum(width, 1e-6), -1.0, 1.0))
        turn = self.turn
        limit_right = np.minimum(np.arctan2(turn[0, 0] * width, turn[0, 2] * depth), np.pi / 2)
        limit_left = np.minimum(np.arctan2(turn[0, 0] * width, -turn[0, 2] * depth), np.pi / 2)
        seen = _within(phi, -limit_left, limit_right)
        z = edge + depth * np.cos(seen) + height
        return _triples(width * np.sin(seen), y, z), np.abs(seen - phi) > 1e-9

    def outline(self, head: Head, edge_xy: Floats) -> Floats:
        """Head coordinates (N, 3) of the visible silhouette.

        ``edge_xy`` (N, 2) is the silhouette seen from the front, in order. Each of its points may slide
        forward along its half ellipse, to where that reaches furthest outwards in the picture.
        """
        x, y = edge_xy.T
        width, edge = np.abs(x), head.edge_depth(y)
        depth = head.front_depth(y) - edge
        side = np.sign(x)
        along = np.empty_like(edge_xy)
        along[1:-1] = edge_xy[2:] - edge_xy[:-2]
        along[0], along[-1] = edge_xy[1] - edge_xy[0], edge_xy[-1] - edge_xy[-2]
        # Right of the walking direction is outside: the jaw is walked from left to right below the face.
        nx, ny = -along[:, 1], along[:, 0]
        turn = self.turn
        sideways = (nx * turn[0, 0] + ny * turn[1, 0]) * width * side
        forward = (nx * turn[0, 2] + ny * turn[1, 2]) * depth
        phi = _within(np.arctan2(sideways, forward), 0.1, np.pi / 2)
        # Where no way leads outwards, on the near side of a raised chin, the jaw's edge is what is seen.
        phi = np.where((sideways <= 0.0) & (forward <= 0.0), np.pi / 2, phi)
        phi = np.where(width > 1e-6, phi, np.where(forward > 0.0, 0.0, np.pi / 2))
        return _triples(side * width * np.sin(phi), y, edge + depth * np.cos(phi))

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Floats:
        """The outline (32, 2), in pixels, of an ellipsoid in head coordinates; perspective as at its centre."""
        spread = self.turn * np.asarray(radii)
        outline = np.linalg.cholesky(spread[:2] @ spread[:2].T) @ _UNIT_CIRCLE
        depth = float(self.turn[2] @ np.asarray(centre))
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        roll = np.array([[cr, -sr], [sr, cr]]) * self.scale * self.distance / (self.distance - depth)
        result: Floats = (roll @ outline).T + self.project(np.array([centre]))
        return result


_ANGLES = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
_UNIT_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])


def _within(values: Floats, low: Floats | float, high: Floats | float) -> Floats:
    return np.minimum(np.maximum(values, low), high)


def _triples(x: Floats, y: Floats, z: Floats) -> Floats:
    result = np.empty((len(x), 3))
    result[:, 0], result[:, 1], result[:, 2] = x, y, z
    return result
