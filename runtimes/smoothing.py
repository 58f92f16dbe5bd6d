"""One-Euro smoothing of landmarks in video (Casiez, Roussel and Vogel, CHI 2012), and the lag it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Smoothing:
    """How much is smoothed: the paper's three parameters, for speeds in sizes of the face.

    ``min_cutoff_hz`` is the cutoff frequency for a point at rest, ``beta`` how many Hz are added for each
    size of the face that the point moves in a second, ``speed_cutoff_hz`` that of the filter of the speed.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 40.0
    speed_cutoff_hz: float = 2.0

    def __post_init__(self) -> None:
        if not (self.min_cutoff_hz > 0 and self.beta >= 0 and self.speed_cutoff_hz > 0):
            raise UserError(f"{self}: both cutoffs must be above 0 and beta must not be below 0")


class OneEuro:
    """The filter of one face's points: the slower a point moves, the more it is smoothed.

    Both coordinates of a point share one cutoff frequency, that of its speed in the plane. ``lag_s`` (K,) is how
    far each point came behind one that moves steadily, at its last frame; it is zero at the first, as are the
    ``speeds`` (K,) there, in sizes of the face a second.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self._time_s = -np.inf
        self._points: Floats = np.zeros((0, 2))
        self._speeds: Floats = np.zeros((0, 2))
        self.lag_s: Floats = np.zeros(0)
        self.speeds: Floats = np.zeros(0)

    def smooth(self, points: Floats, time_s: float, size: float) -> Floats:
        """The points (K, 2) of the frame at ``time_s`` smoothed; ``size`` is the face's, in the points' unit.

        Raises UserError where a frame is not later than the one before.
        """
        passed_s = time_s - self._time_s
        if not passed_s > 0:
            raise UserError(
                f"a frame at {time_s:g} s after one at {self._time_s:g} s; give them in their order"
            )
        self._time_s = time_s
        if len(self.lag_s) == 0:
            self._points, self._speeds = np.array(points), np.zeros_like(points)
            self.lag_s = self.speeds = np.zeros(len(points))
            return self._points.copy()
        speeds = (points - self._points) / (passed_s * size)
        rate = _share(self._smoothing.speed_cutoff_hz, passed_s)
        self._speeds = self._speeds + rate * (speeds - self._speeds)
        self.speeds = np.linalg.norm(self._speeds, axis=1)
        cutoff_hz = self._smoothing.min_cutoff_hz + self._smoothing.beta * self.speeds
        self._points = self._points + _share(cutoff_hz, passed_s)[:, None] * (points - self._points)
        # Of a low-pass of first order on a ramp, exactly: (1 / share - 1) * passed_s is this at any frame rate.
        self.lag_s = 1.0 / (2.0 * np.pi * cutoff_hz)
        return self._points.copy()


def _share(cutoff_hz: Floats | float, passed_s: float) -> Floats:
    """What a new value counts in a low-pass filter of first order."""
    return np.asarray(1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff_hz * passed_s)))
