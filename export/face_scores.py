"""The score below which what an aligner was given is not a face, from scores on faces and beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from slimalign.compress.data.sample import Sample, normalising_distances
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.metrics import image_nmes
from slimalign.runtimes.schemes import scheme_named
from slimalign.runtimes.session import Session

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]

FACES = 200
"""Validation faces at most that the scores are taken on, evenly spread."""
LEAST = 20
"""Scores of either kind without which there is no threshold."""
DISTANCE = 1.25
"""From a face to what is beside it, in sides of its square box: their squares do not meet, and the crop beside it holds
nothing of the face's box while crops are at most 1.5 times as large as boxes."""
LEAST_SEEN = 0.25
"""Share of the square beside a face that must lie in the picture; the rest is black, as it is for real detections."""


@dataclass(frozen=True)
class ScoreReport:
    """How the mean score over the points tells faces from what is beside them.

    ``threshold`` is the score between them; ``faces`` and ``others`` count both, ``faces_above`` and ``others_below``
    are the shares on the right side of it. ``follows`` is Spearman's correlation of score and NME over the faces.
    """

    threshold: float
    faces: int
    others: int
    faces_above: float
    others_below: float
    follows: float

    @property
    def told(self) -> str:
        """The outcome as people read it."""
        return (
            f"a mean score under {self.threshold:.3f} is no face: so is {100 * self.others_below:.1f} % of"
            f" {self.others} crops beside faces, and {100 * (1 - self.faces_above):.1f} % of {self.faces} faces;"
            f" Spearman's correlation of score and NME is {self.follows:.2f}"
        )


def score_report(
    session: Session, samples: Sequence[Sample], normaliser: str, most: int | None = None
) -> ScoreReport | None:
    """Scores of ``session`` on at most ``most`` of ``samples``, FACES by default, and beside them.

    None where there are fewer than LEAST of either, or where all scores are the same.
    """
    count = len(samples)
    chosen = np.linspace(0, count - 1, min(most or FACES, count)).round().astype(int)
    faces = [samples[index] for index in chosen]
    aligner = Aligner(session)
    points: list[Floats] = []
    scores: list[float] = []
    others: list[float] = []
    for face in faces:
        image = face.load()
        beside = box_beside(face.box, image.shape[1], image.shape[0])
        found = aligner.align(image, np.stack([face.box] if beside is None else [face.box, beside]))
        points.append(found.points[0])
        scores.append(found.face_scores[0])
        others.extend(found.face_scores[1:])
    if min(len(scores), len(others)) < LEAST or np.ptp([*scores, *others]) == 0:
        return None
    scheme = scheme_named(session.manifest.scheme)
    truth = np.stack([face.points for face in faces])
    nmes = image_nmes(np.stack(points), truth, normalising_distances(faces, scheme, normaliser))
    return report_of(np.array(scores), np.array(others), nmes)


def report_of(scores: Floats, others: Floats, nmes: Floats) -> ScoreReport:
    """The report of mean ``scores`` and ``nmes`` (N,) of faces, and of scores of ``others`` (M,)."""
    threshold = threshold_between(scores, others)
    return ScoreReport(
        threshold=threshold,
        faces=len(scores),
        others=len(others),
        faces_above=float((scores >= threshold).mean()),
        others_below=float((others < threshold).mean()),
        follows=float(spearmanr(scores, nmes).statistic),
    )


def threshold_between(scores: Floats, others: Floats) -> float:
    """The score for which the larger of two shares is least: of faces below it, and of ``others`` not below.

    Where a whole range of scores does that, as when the two do not overlap, it is the middle of the range.
    """
    steps = np.unique(np.concatenate([scores, others]))
    # A threshold at a step counts the step itself as a face; between two steps all thresholds are alike.
    below = np.searchsorted(np.sort(scores), steps) / len(scores)
    above = 1.0 - np.searchsorted(np.sort(others), steps) / len(others)
    worst = np.maximum(below, above)
    best = np.flatnonzero(worst == worst.min())
    return float(steps[max(best[0] - 1, 0)] + steps[best[-1]]) / 2


def box_beside(box: Floats, width: int, height: int) -> Floats | None:
    """A square as large as the face's ``box`` (x0, y0, x1, y1) DISTANCE away from it, where most is in the picture.

    It lies in one of eight directions; None where less than LEAST_SEEN of it is in the picture everywhere.
    """
    x0, y0, x1, y1 = box.tolist()
    side = max(x1 - x0, y1 - y0)
    middle = np.array([x0 + x1, y0 + y1]) / 2
    steps = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    corners = middle + DISTANCE * side * np.array(steps) - side / 2
    seen = np.minimum(corners + side, np.array([width, height]) - 0.5) - np.maximum(corners, -0.5)
    shares = np.maximum(seen, 0.0).prod(axis=1) / side**2
    best = int(shares.argmax())
    if shares[best] < LEAST_SEEN:
        return None
    return np.concatenate([corners[best], corners[best] + side])
