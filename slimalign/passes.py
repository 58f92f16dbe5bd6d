"""One pass over many images: how it is done, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimalign.face_finding import FacePlaces
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.smoothing import Smoothing
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import FIND_EVERY, SeenFace

Floats = NDArray[np.floating]
Document = dict[str, Any]
Told = Callable[[Document], None]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Pass:
    """Where faces are looked for, and what is written: ``out`` is the drawn video or a folder for the drawn photos,
    ``points`` a CSV or JSON lines.

    ``backend`` says what of the bundle's runtime computes. In videos ``smoothing`` None leaves the points as they are,
    and ``find_every`` is after how many frames the detector is asked again, 0 for only where a face is lost.
    """

    places: FacePlaces = field(default_factory=FacePlaces)
    out: Path | None = None
    points: Path | None = None
    smoothing: Smoothing | None = field(default_factory=Smoothing)
    find_every: int = FIND_EVERY
    backend: Backend = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        if self.find_every < 0:
            raise UserError(f"--find-every {self.find_every}: give a number of frames, or 0 for never")

    def check_faces(self, source: str, figures: Figures) -> None:
        """Raise UserError where a whole pass found no face."""
        if figures.faces == 0:
            if self.places.whole_image:
                way = "give the face's --box, or --detector FILE"
            elif self.places.detector is not None:
                way = "give the face's --box, another --detector, or a lower --least-score"
            else:
                way = "see to --box and --least-score"
            raise UserError(f"{source}: no face found in {figures.images} images; {way}")


class Figures:
    """What a pass came to: how many images, faces in them, images without a face, and how long it took.

    ``clock`` counts its stages: read, detect, crop, network, decode, smooth, draw, write.
    """

    def __init__(self) -> None:
        self.clock = StageClock()
        self.images = self.faces = self.without_face = 0
        self.seconds = 0.0
        self._start = perf_counter()
        self._lagging = self._moving = 0.0

    def begin(self) -> None:
        """Time counts from here."""
        self._start = perf_counter()

    def count(self, faces: int) -> None:
        """One image more, with so many faces."""
        self.images += 1
        self.faces += faces
        self.without_face += faces == 0
        self.seconds = perf_counter() - self._start

    def lag(self, lag_s: Floats, speeds: Floats) -> None:
        """One smoothed face more: by how much each of its points (K,) comes behind, and how fast it moves."""
        self._lagging += float((lag_s * speeds).sum())
        self._moving += float(speeds.sum())

    def clocked(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """``items``, the making of each counted to ``stage``."""
        source = iter(items)
        while True:
            with self.clock.stage(stage):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def to_dict(self) -> Document:
        """For ``--json``: ``stages_ms`` are milliseconds an image, ``lag_ms`` the mean over faces and points.

        That is weighted by speed: one at rest is smoothed most and has nothing to come behind.
        """
        images = max(1, self.images)
        return {
            "images": self.images,
            "faces": self.faces,
            "without_face": self.without_face,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds if self.seconds else None,
            "stages_ms": {name: 1000 * seconds / images for name, seconds in self.clock.seconds.items()},
            "lag_ms": 1000 * self._lagging / self._moving if self._moving else None,
        }


def face_document(seen: SeenFace, points: Floats) -> Document:
    """A face as JSON, with ``points`` (K, 2) as seen or smoothed, in pixels of the image."""
    return {"box": seen.box.tolist(), "points": points.tolist(), "scores": seen.scores.tolist()}


def figures_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """What ``Figures.to_dict`` gives, as lines to read."""
    yield (
        f"{figures['images']} images, {figures['faces']} faces, {figures['without_face']} images without a face, in"
        f" {figures['seconds']:.1f} s: {figures['images_per_second'] or 0:.1f} a second"
    )
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in figures["stages_ms"].items())
    yield f"milliseconds an image: {stages}"
    if figures["lag_ms"] is not None:
        yield f"the smoothed points come {figures['lag_ms']:.0f} ms behind in movement; --no-smoothing leaves them raw"
