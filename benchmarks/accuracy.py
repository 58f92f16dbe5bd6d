"""NME of a deployed file: crops cut by its manifest, run through its session, mapped back to the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.evaluation import Evaluation, summarise
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.runtimes.aligner import Landmarks
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import FAILURE_THRESHOLD
from slimalign.runtimes.schemes import NORMALISERS, LandmarkScheme

Floats = NDArray[np.floating]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""


class Finder(Protocol):
    """What finds landmarks in crops that ``rule`` cut, here or on a device, ``faces_at_once`` in memory.

    ``runtime`` is told once it has found some.
    """

    manifest: Manifest
    rule: CropRule
    landmarks: int
    faces_at_once: int
    runtime: str

    def align_crops(self, crops: NDArray[np.uint8]) -> Landmarks:
        """Landmarks of ``crops`` (N, S, S, 3) uint8 RGB in pixels of the crop."""
        ...


def evaluate(
    aligner: Finder,
    samples: Sequence[Sample],
    scheme: LandmarkScheme,
    normaliser: str,
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy of ``aligner`` over ``samples``, measured in pixels of their images.

    ``progress`` is told the faces done and their number. Raises UserError as ``summarise`` does, and where
    ``scheme`` is not the bundle's.
    """
    return evaluate_normalisers(aligner, samples, scheme, (normaliser,), progress)[normaliser]


def evaluate_normalisers(
    aligner: Finder,
    samples: Sequence[Sample],
    scheme: LandmarkScheme,
    normalisers: Sequence[str] = NORMALISERS,
    progress: Progress | None = None,
    threshold: float = FAILURE_THRESHOLD,
) -> Mapping[str, Evaluation]:
    """The evaluation under each of ``normalisers``, from one pass over ``samples``.

    ``threshold``, an NME in percent, is where images fail and the AUC ends. What ``summarise`` has against the
    data or a normaliser is raised before any image is run.
    """
    if aligner.landmarks != scheme.count:
        raise UserError(
            f"bundle '{aligner.manifest.name}' finds {aligner.landmarks} points, the data has {scheme.count}"
            f" ({scheme.name}); give data of scheme '{aligner.manifest.scheme}'"
        )
    for name in normalisers:
        summarise(np.zeros((len(samples), scheme.count, 2)), samples, scheme, name)
    predicted = predict(aligner, samples, progress)
    return {name: summarise(predicted, samples, scheme, name, threshold) for name in normalisers}


def predict(aligner: Finder, samples: Sequence[Sample], progress: Progress | None = None) -> Floats:
    """The landmarks of ``samples`` in pixels of their images, (N, K, 2); each face is cut by its box."""
    parts: list[Floats] = [np.zeros((0, aligner.landmarks, 2))]
    for start in range(0, len(samples), aligner.faces_at_once):
        chunk = samples[start : start + aligner.faces_at_once]
        parts.append(_predict_chunk(aligner, chunk))
        if progress is not None:
            progress(start + len(chunk), len(samples))
    return np.concatenate(parts)


def _predict_chunk(aligner: Finder, samples: Sequence[Sample]) -> Floats:
    crops = cut_crops(samples, aligner.rule)
    found = aligner.align_crops(crops).points
    matrices = [aligner.rule.matrix(sample.box) for sample in samples]
    return np.stack([transform_points(p, invert(m)) for p, m in zip(found, matrices, strict=True)])
