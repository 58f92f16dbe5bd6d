"""Whether a device finds the landmarks that this machine finds with the same file, or this one those in the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.progress import Progress

from slimalign.benchmarks.accuracy import Finder
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.places import Finding
from slimalign.runtimes.aligner import Aligner, Landmarks
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.golden import check_golden
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Backend

MOST_PIXELS, MOST_PIXELS_OF_FEW_BITS = 0.05, 0.25
"""How far apart points may lie, in pixels of the crop: with int8, a step of the heatmaps moves a point."""


@dataclass(frozen=True)
class Parity:
    """How far points there lie from points here, in pixels of the crop: all, 95 of 100, and on average."""

    bundle: str
    target: str
    runtime: str
    faces: int
    largest_px: float
    p95_px: float
    mean_px: float
    allowed_px: float

    @property
    def holds(self) -> bool:
        """Whether no point lies further than is allowed."""
        return self.largest_px <= self.allowed_px

    @property
    def told(self) -> str:
        """A line to read."""
        verdict = "the same" if self.holds else "NOT the same"
        return (
            f"{self.bundle} in {self.runtime}: {verdict} landmarks at {self.target} as here on {self.faces} faces;"
            f" points lie at most {self.largest_px:.4f} px apart (p95 {self.p95_px:.4f}, allowed {self.allowed_px:g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """What ``parity --json`` prints."""
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True)
class GoldenParity:
    """How far what this machine finds on a bundle's golden face lies from what is in the bundle.

    ``largest_px`` and ``allowed_px`` are in pixels of the crop; the crop is told of as in GoldenCheck.
    """

    bundle: str
    runtime: str
    largest_px: float
    allowed_px: float
    crop_levels: int
    same_crop: bool

    @property
    def holds(self) -> bool:
        """Whether no point lies further than is allowed."""
        return self.largest_px <= self.allowed_px

    @property
    def told(self) -> str:
        """A line to read."""
        verdict = "the same" if self.holds else "NOT the same"
        crop = (
            "the same"
            if self.same_crop
            else f"another, by {self.crop_levels} grey levels where pixels are kept"
        )
        return (
            f"{self.bundle} in {self.runtime}: {verdict} landmarks here as at its export on its golden face; points lie"
            f" at most {self.largest_px:.4f} px apart (allowed {self.allowed_px:g}), the crop is {crop}"
        )

    def to_dict(self) -> dict[str, Any]:
        """What ``parity --json`` prints."""
        return {**asdict(self), "holds": self.holds}


def parity_of(
    bundle: Bundle,
    target: str,
    there: Finding,
    samples: Sequence[Sample] | None,
    faces: int,
    progress: Progress,
) -> Parity:
    """Compare on the first ``faces`` of ``samples``, or of drawn ones where there are none."""
    if faces < 1:
        raise UserError(f"--faces {faces}: give a number from 1")
    chosen = (samples or drawn_samples(faces, bundle.manifest.landmark_scheme, seed=0))[:faces]
    with _here(bundle) as finder:
        here = _found(finder, chosen, "here", progress)
    with there(bundle) as finder:
        found = _found(finder, chosen, f"at {target}", progress)
    apart = np.linalg.norm(found.points - here.points, axis=2)
    return Parity(
        bundle=bundle.manifest.name,
        target=target,
        runtime=finder.runtime,
        faces=len(chosen),
        largest_px=float(apart.max()),
        p95_px=float(np.percentile(apart, 95)),
        mean_px=float(apart.mean()),
        allowed_px=_allowed_px(bundle),
    )


def golden_parity(bundle: Bundle, backend: Backend) -> GoldenParity:
    """Check the golden face of ``bundle`` on this machine; raises UserError where it has none."""
    with open_bundle(bundle, None, backend) as session:
        found = check_golden(bundle, session)
        return GoldenParity(
            bundle=bundle.manifest.name,
            runtime=session.runtime,
            largest_px=found.points_px,
            allowed_px=_allowed_px(bundle),
            crop_levels=found.crop_levels,
            same_crop=found.same_crop,
        )


def _allowed_px(bundle: Bundle) -> float:
    return MOST_PIXELS if bundle.manifest.precision == "fp32" else MOST_PIXELS_OF_FEW_BITS


@contextmanager
def _here(bundle: Bundle) -> Iterator[Finder]:
    """What this machine finds; here the ONNX of a TensorRT bundle runs in ONNX Runtime."""
    opened = OnnxRuntimeSession if bundle.manifest.format == "tensorrt" else open_bundle
    with opened(bundle) as session:
        yield Aligner(session)


def _found(finder: Finder, samples: Sequence[Sample], where: str, progress: Progress) -> Landmarks:
    step = finder.faces_at_once
    task = progress.add_task(f"finding landmarks {where}", total=len(samples))
    parts = []
    for start in range(0, len(samples), step):
        chunk = samples[start : start + step]
        parts.append(finder.align_crops(cut_crops(chunk, finder.rule)))
        progress.update(task, advance=len(chunk))
    progress.remove_task(task)
    return Landmarks(np.concatenate([p.points for p in parts]), np.concatenate([p.scores for p in parts]))
