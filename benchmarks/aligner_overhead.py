"""What finding landmarks costs beside the network: cutting, normalising, decoding and mapping back.

``python -m slimalign.benchmarks.aligner_overhead --size 256`` measures it on drawn faces with an untrained network in
ONNX Runtime and LiteRT, or with the bundles given by ``--bundle``, with one thread. It ends with status 1 where a
face costs more than 10 % of the network's time and more than 0.5 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

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
"""Side of the picture of one face; several stand side by side."""
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


def main() -> int:
    """Print a line a case; 0 where all of them hold, else 1."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=256, help="input of the untrained network, in pixels")
    options.add_argument("--bundle", type=Path, action="append", help="in its place; may be repeated")
    options.add_argument("--rounds", type=int, default=10, help="visits to each case, in turns")
    options.add_argument("--out", type=Path, help="JSON file for the figures")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = chosen.bundle or untrained(Path(folder), chosen.size)
        found = measured([read_bundle(place) for place in places], chosen.rounds)
    for one in found:
        print(  # noqa: T201
            f"{one.bundle} {one.runtime} {one.precision} {one.decoder}, {one.faces} at once: network"
            f" {one.network_ms:.2f} ms a face, around it {one.around_ms:.2f} ms ({100 * one.share:.1f} %)"
            f"{'' if one.holds else ': TOO MUCH'}"
        )
    if chosen.out is not None:
        figures = [{**asdict(one), "share": one.share, "holds": one.holds} for one in found]
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.holds for one in found) else 1


def untrained(folder: Path, size: int) -> list[Path]:
    """Bundles of an untrained network, written by a process of its own: that floor is above this one."""
    command = [sys.executable, "-W", "ignore", "-m", "slimalign.export.untrained"]
    subprocess.run(
        [*command, "--size", str(size), "--out", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    return sorted(folder.iterdir())


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
                cases += [_Case(aligner, *drawn_picture(faces)) for faces in FACES]
        for _ in range(rounds):
            for case in cases:
                case.visit()
        return [case.overhead() for case in cases]


class _Case:
    def __init__(self, aligner: Aligner, image: Image, boxes: Floats) -> None:
        self._aligner = aligner
        self._image = image
        self._boxes = boxes
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
            network_ms=statistics.median(self._network_ms),
            around_ms=statistics.median(self._around_ms),
        )


def drawn_picture(faces: int) -> tuple[Image, Floats]:
    """Drawn faces side by side, (H, W, 3) uint8 RGB, and their boxes (faces, 4)."""
    drawn = [draw_face(seed, W300, PICTURE) for seed in range(faces)]
    boxes = [one.box + PICTURE * place * np.array([1, 0, 1, 0]) for place, one in enumerate(drawn)]
    return np.concatenate([one.image for one in drawn], axis=1), np.stack(boxes)


if __name__ == "__main__":
    sys.exit(main())
