"""How a detector's boxes, as it corrects them, lie against the tight boxes of landmarks, and what they cost in NME.

``python -m slimalign.benchmarks.detector_boxes --detector FILE --data FACES300W --bundle BUNDLE`` prints the mean shift
and scale from the detector's boxes to the tight ones, in shares of their sides, and the NME with each of: true
boxes, the detector's, and the tight ones around the points found in these (a second look, as ``predict`` takes).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.mains import run_main
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.sample import Sample, normalising_distances
from slimalign.compress.data.splits import FORMATS, load_split
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.boxes import overlaps
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.detector import Detector, open_detector
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import accuracy, image_nmes

Floats = NDArray[np.floating]

FOUND = 0.2
"""Overlap with the true box from which a detector's box is that face's."""


@dataclass(frozen=True)
class Matched:
    """The faces of a split that a detector finds, and its boxes (N, 4) for them; ``missed`` it does not find."""

    samples: list[Sample]
    boxes: Floats
    missed: int


def main() -> None:
    """Print shift and scale, and the NMEs."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--detector", type=Path, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--data-format", choices=list(FORMATS), default="300w")
    options.add_argument("--splits", default="val", help="comma-separated")
    options.add_argument("--bundle", type=Path, required=True)
    chosen = options.parse_args()
    detector = open_detector(chosen.detector)
    for name in chosen.splits.split(","):
        split = load_split(chosen.data_format, chosen.data, name)
        matched = matched_boxes(detector, split.samples)
        print(f"{name}: {len(split.samples)} faces, {matched.missed} not found")  # noqa: T201
        shift, scale = offsets(matched)
        for what, values in (("shift", shift), ("scale", scale)):
            means, spreads = values.mean(axis=0), values.std(axis=0)
            print(f"  {what} x {means[0]:.3f} +- {spreads[0]:.3f}, y {means[1]:.3f} +- {spreads[1]:.3f}")  # noqa: T201
        with open_bundle(read_bundle(chosen.bundle), threads=1) as session:
            for what, nmes in box_nmes(Aligner(session), matched).items():
                found = accuracy(nmes)
                print(f"  {what}: NME {found.nme:.3f} %, failures {found.failure_rate:.2f} %")  # noqa: T201


def matched_boxes(detector: Detector, samples: Sequence[Sample]) -> Matched:
    """For each face the detected box that overlaps its own most."""
    found, boxes = [], []
    for sample in samples:
        offered, _ = detector.detect(sample.load())
        shares = overlaps(offered, sample.box)
        if len(offered) and shares.max() >= FOUND:
            found.append(sample)
            boxes.append(offered[int(shares.argmax())])
    if not found:
        raise UserError("the detector finds none of these faces; give another, or larger faces")
    return Matched(found, np.stack(boxes), len(samples) - len(found))


def offsets(matched: Matched) -> tuple[Floats, Floats]:
    """From the boxes to the tight ones around the true points: shift (N, 2) of the centre, scale (N, 2) of the sides.

    Both are in shares of the boxes' sides, x and y, after whatever the detector itself corrects.
    """
    true = np.stack([tight_box(sample.points) for sample in matched.samples])
    sides, true_sides = (boxes[:, 2:] - boxes[:, :2] for boxes in (matched.boxes, true))
    centres, true_centres = ((boxes[:, 2:] + boxes[:, :2]) / 2 for boxes in (matched.boxes, true))
    return (true_centres - centres) / sides, true_sides / sides


def box_nmes(aligner: Aligner, matched: Matched) -> dict[str, Floats]:
    """The NME of each found face, inter-ocular, in percent, by the box it was looked for in."""
    points: dict[str, list[Floats]] = {"true boxes": [], "detector's boxes": [], "second look": []}
    for sample, box in zip(matched.samples, matched.boxes, strict=True):
        image = sample.load()
        by_true, by_box = aligner.align(image, np.stack([sample.box, box])).points
        again = aligner.align(image, tight_box(by_box)[None]).points[0]
        for found, kept in zip((by_true, by_box, again), points.values(), strict=True):
            kept.append(found)
    truth = np.stack([sample.points for sample in matched.samples])
    distances = normalising_distances(matched.samples, aligner.manifest.landmark_scheme, "inter-ocular")
    return {name: image_nmes(np.stack(found), truth, distances) for name, found in points.items()}


if __name__ == "__main__":
    run_main(main)
