"""What finding landmarks costs beside the network: cutting, normalising, decoding and mapping back.

``python -m slimalign.benchmarks.aligner_overhead --bundle BUNDLE`` measures it on drawn faces with bundles as
``slimalign export RUN --data FACES`` writes them, with one thread. It ends with status 1 where a face costs more than
10 % of the network's time and more than 0.5 ms.

That is asked of faces in pictures of 400 pixels. Larger faces are measured and told too, but not judged: of these every
pixel has to be read once, which takes some milliseconds for a face of 2000 pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.mains import run_main
from slimalign.compress.data.drawn import draw_face
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle, read_bundle
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.opening import open_session
from slimalign.runtimes.schemes import W300
from slimalign.runtimes.stage_clock import StageClock

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

LARGEST_SHARE = 0.1
LARGEST_MS = 0.5
"""A face may cost the larger of this share of the network's time and this time."""
FACES = (1, 8)
PICTURE = 400
"""Side of the picture of one face, in pixels; several stand side by side."""
LARGE_PICTURES = (1600, 3200)
"""Those of single faces that are measured too, with the bundle's own decoder."""
CALLS = 3
"""Calls timed at each visit, after one that is not."""


@dataclass(frozen=True)
class Overhead:
    """Medians over calls, in milliseconds a face: the network's own time, and what the rest of the call took."""

    bundle: str
    runtime: str
    precision: str
    decoder: str
    faces: int
    picture: int
    network_ms: float
    around_ms: float

    @property
    def share(self) -> float:
        """What is around the network in parts of its time."""
        return self.around_ms / self.network_ms

    @property
    def holds(self) -> bool:
        """Whether that is no more than is allowed."""
        return self.around_ms <= max(LARGEST_SHARE * self.network_ms, LARGEST_MS)

    @property
    def judged(self) -> bool:
        """Whether that is asked of faces of this size."""
        return self.picture == PICTURE


def main() -> int:
    """Print a line a case; 0 where all of them hold, else 1."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bundle", type=Path, action="append", required=True, help="may be repeated")
    options.add_argument("--rounds", type=int, default=10, help="visits to each case, in turns")
    options.add_argument("--out", type=Path, help="JSON file for the figures")
    chosen = options.parse_args()
    found = measured([read_bundle(place) for place in chosen.bundle], chosen.rounds)
    for one in found:
        print(  # noqa: T201
            f"{one.bundle} {one.runtime} {one.precision} {one.decoder}, {one.faces} at once in {one.picture} px:"
            f" network {one.network_ms:.2f} ms a face, around it {one.around_ms:.2f} ms ({100 * one.share:.1f} %)"
            f"{'' if one.holds else ': TOO MUCH' if one.judged else ': more than a tenth'}"
        )
    if chosen.out is not None:
        figures = [
            {**asdict(one), "judged": one.judged, "share": one.share, "holds": one.holds} for one in found
        ]
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.holds for one in found if one.judged) else 1


def measured(bundles: Sequence[Bundle], rounds: int) -> list[Overhead]:
    """Each bundle with each decoder that its file leaves to do, with one face and with several.

    The cases take turns, so that a machine that drifts is fair to all; OpenCV, too, is given one thread.
    """
    cv2.setNumThreads(1)
    with ExitStack() as stack:
        cases = []
        for bundle in bundles:
            session = stack.enter_context(open_session(bundle, threads=1))
            inside = bundle.manifest.output == "points"
            for decoder in (bundle.manifest.decoder,) if inside else DECODERS:
                aligner = Aligner(session, StageClock())
                aligner.manifest = replace(bundle.manifest, decoder=decoder)
                cases += [_Case(aligner, *drawn_picture(faces), PICTURE) for faces in FACES]
                if decoder == bundle.manifest.decoder:
                    cases += [_Case(aligner, *drawn_picture(1, side), side) for side in LARGE_PICTURES]
        for _ in range(rounds):
            for case in cases:
                case.visit()
        return [case.overhead() for case in cases]


class _Case:
    def __init__(self, aligner: Aligner, image: Image, boxes: Floats, picture: int) -> None:
        self._aligner = aligner
        self._image = image
        self._boxes = boxes
        self._picture = picture
        self._network_ms: list[float] = []
        self._around_ms: list[float] = []

    def visit(self) -> None:
        self._aligner.align(self._image, self._boxes)
        for _ in range(CALLS):
            seconds = self._aligner.clock.seconds
            seconds.clear()
            began = perf_counter()
            self._aligner.align(self._image, self._boxes)
            whole = perf_counter() - began
            self._network_ms.append(1000 * seconds["network"] / len(self._boxes))
            self._around_ms.append(1000 * (whole - seconds["network"]) / len(self._boxes))

    def overhead(self) -> Overhead:
        session, manifest = self._aligner.session, self._aligner.manifest
        return Overhead(
            bundle=manifest.name,
            runtime=session.runtime,
            precision=manifest.precision,
            decoder=manifest.decoder,
            faces=len(self._boxes),
            picture=self._picture,
            network_ms=statistics.median(self._network_ms),
            around_ms=statistics.median(self._around_ms),
        )


def drawn_picture(faces: int, side: int = PICTURE) -> tuple[Image, Floats]:
    """Drawn faces side by side, each ``side`` pixels high, (H, W, 3) uint8 RGB, and their boxes (faces, 4)."""
    drawn = [draw_face(seed, W300, side) for seed in range(faces)]
    boxes = [one.box + side * place * np.array([1, 0, 1, 0]) for place, one in enumerate(drawn)]
    return np.concatenate([one.image for one in drawn], axis=1), np.stack(boxes)


if __name__ == "__main__":
    run_main(main)
