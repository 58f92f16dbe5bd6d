"""Accuracy of predicted landmarks over a split: whole and per subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import Accuracy, accuracy, ced_points, image_nmes
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy over a split under one normaliser; all figures but ``images`` are in percent.

    ``nmes`` (N,) has one NME an image, in the order of the samples. ``subsets`` are sorted by name.
    """

    normaliser: str
    whole: Accuracy
    subsets: Mapping[str, Accuracy]
    nmes: Floats

    @property
    def ced(self) -> tuple[Floats, Floats]:
        """Points of the cumulative error distribution: errors and shares of images, both in percent."""
        return ced_points(self.nmes)

    def to_dict(self) -> dict[str, Any]:
        """``{"images", "nme", "failure_rate", "auc", "subsets": {name: the same four}}``."""
        return {**asdict(self.whole), "subsets": {name: asdict(part) for name, part in self.subsets.items()}}


def summarise(
    predicted: Floats, samples: Sequence[Sample], scheme: LandmarkScheme, normaliser: str
) -> Evaluation:
    """Judge ``predicted`` (N, K, 2), in pixels of each sample's image, against the truth of ``samples``.

    Raises UserError where the split is empty, a count of points is not the scheme's, a prediction is not
    finite, or a sample's normalising distance is zero; the sample is named.
    """
    if not samples:
        raise UserError("no images to measure; is the split empty?")
    _check_points(predicted, samples, scheme)
    truth = np.stack([sample.points for sample in samples])
    zero = np.flatnonzero(scheme.distances(truth, normaliser) <= 0)
    if len(zero):
        raise UserError(
            f"{samples[zero[0]].name}: its {normaliser} distance is 0; choose another --normaliser"
        )
    nmes = image_nmes(predicted, truth, scheme, normaliser)
    names = sorted({name for sample in samples for name in sample.subsets})
    members = {name: np.array([name in sample.subsets for sample in samples]) for name in names}
    return Evaluation(
        normaliser=normaliser,
        whole=accuracy(nmes),
        subsets={name: accuracy(nmes[inside]) for name, inside in members.items()},
        nmes=nmes,
    )


def _check_points(predicted: Floats, samples: Sequence[Sample], scheme: LandmarkScheme) -> None:
    if predicted.shape != (len(samples), scheme.count, 2):
        raise UserError(
            f"predicted points have shape {predicted.shape};"
            f" {len(samples)} faces of scheme '{scheme.name}' need ({len(samples)}, {scheme.count}, 2)"
        )
    for sample, points in zip(samples, predicted, strict=True):
        if len(sample.points) != scheme.count:
            raise UserError(
                f"{sample.name}: {len(sample.points)} points, scheme '{scheme.name}' has {scheme.count};"
                " give data of the scheme that the network was made for"
            )
        if not np.isfinite(sample.points).all():
            raise UserError(f"{sample.name}: its points are NaN or infinite; leave it out with --skip-bad")
        if not np.isfinite(points).all():
            raise UserError(f"{sample.name}: the predicted points are NaN or infinite; the network is broken")
