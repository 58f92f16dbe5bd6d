"""Accuracy of predicted landmarks over a split: whole and per subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.sample import Sample, normalising_distances
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.metrics import FAILURE_THRESHOLD, Accuracy, accuracy, ced_points, image_nmes
from slimalign.runtimes.schemes import LandmarkScheme

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy over a split under one normaliser; all figures but ``images`` are in percent.

    ``nmes`` (N,) has one NME an image, in the order of the samples. ``subsets`` are sorted by name, and
    ``subset_nmes`` holds the NMEs of each. ``threshold`` is the NME above which an image counts as failed, and
    up to which the AUC and the cumulative error distribution go.
    """

    normaliser: str
    whole: Accuracy
    subsets: Mapping[str, Accuracy]
    nmes: Floats
    subset_nmes: Mapping[str, Floats] = field(default_factory=dict)
    threshold: float = FAILURE_THRESHOLD

    @property
    def ced(self) -> tuple[Floats, Floats]:
        """Points of the cumulative error distribution: errors and shares of images, both in percent."""
        return ced_points(self.nmes, self.threshold)

    def ced_table(self) -> tuple[list[str], Floats]:
        """The distribution whole and per subset: column names and (steps, columns), all in percent.

        The columns are the error, the share of all images, and the share of each subset's.
        """
        errors, whole = self.ced
        parts = [ced_points(nmes, self.threshold)[1] for nmes in self.subset_nmes.values()]
        return ["error", "all", *self.subset_nmes], np.column_stack([errors, whole, *parts])

    def to_dict(self) -> dict[str, Any]:
        """``{"images", "nme", "failure_rate", "auc", "subsets": {name: the same four}}``."""
        return {**asdict(self.whole), "subsets": {name: asdict(part) for name, part in self.subsets.items()}}


def summarise(
    predicted: Floats,
    samples: Sequence[Sample],
    scheme: LandmarkScheme,
    normaliser: str,
    threshold: float = FAILURE_THRESHOLD,
) -> Evaluation:
    """Judge ``predicted`` (N, K, 2), in pixels of each sample's image, against the truth of ``samples``.

    Images above ``threshold``, an NME in percent, count as failed, and the AUC goes up to it. Raises UserError
    where the split is empty, a count of points is not the scheme's, a prediction is not finite, or a sample's
    normalising distance is zero; the sample is named.
    """
    if not samples:
        raise UserError("no images to measure; is the split empty?")
    _check_points(predicted, samples, scheme)
    truth = np.stack([sample.points for sample in samples])
    distances = normalising_distances(samples, scheme, normaliser)
    zero = np.flatnonzero(distances <= 0)
    if len(zero):
        raise UserError(
            f"{samples[zero[0]].name}: its {normaliser} distance is 0; choose another --normaliser"
        )
    nmes = image_nmes(predicted, truth, distances)
    names = sorted({name for sample in samples for name in sample.subsets})
    parts = {name: nmes[[name in sample.subsets for sample in samples]] for name in names}
    return Evaluation(
        normaliser=normaliser,
        whole=accuracy(nmes, threshold),
        subsets={name: accuracy(part, threshold) for name, part in parts.items()},
        nmes=nmes,
        subset_nmes=parts,
        threshold=threshold,
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
