"""The gate: whether a file whose arithmetic is not PyTorch's still finds landmarks as good as the network does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from slimalign.benchmarks.accuracy import predict
from slimalign.compress.data.evaluation import Evaluation, summarise
from slimalign.compress.data.sample import Sample
from slimalign.compress.validation import ValidationFaces
from slimalign.export.subject import ExportSubject
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import CheckError, NonFiniteError, UserError
from slimalign.runtimes.schemes import scheme_named
from slimalign.runtimes.session import Session

Floats = NDArray[np.floating]

WHOLE_LIMIT = 1.0
SUBSET_LIMIT = 2.0
"""Percent by which the NME may be above the network's, over all faces and in any subset."""
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)


class GateError(CheckError):
    """A file whose landmarks are worse than its network's by more than the gate allows.

    ``report`` says by how much; it is None where the file could not be judged.
    """

    check = "gate"

    def __init__(self, message: str, report: GateReport | None = None) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class GateReport:
    """NMEs of a file in ``runtime`` and of its network in PyTorch on the same ``faces``, in percent.

    ``loss`` is by how much of the network's the file's is higher, in percent, ``interval`` its 95 % bootstrap interval
    over faces, and ``subset_losses`` the same for each subset.
    """

    runtime: str
    faces: int
    nme: float
    network_nme: float
    loss: float
    interval: tuple[float, float]
    subset_losses: Mapping[str, float]

    @property
    def fault(self) -> str | None:
        """What does not hold, in a few words; None where the file is good enough."""
        if not self.loss <= WHOLE_LIMIT:
            return f"its NME is {self.nme:.3f} %, {self._worse}; at most {WHOLE_LIMIT:g} % worse is allowed"
        for name, loss in self.subset_losses.items():
            if not loss <= SUBSET_LIMIT:
                return (
                    f"its NME on subset {name} is {loss:.2f} % above its network's, at most {SUBSET_LIMIT:g} % is "
                    "allowed"
                )
        return None

    @property
    def strain(self) -> float:
        """The loss in parts of what is allowed, over all faces or in the subset where it is largest; 1 just passes."""
        subsets = [loss / SUBSET_LIMIT for loss in self.subset_losses.values()]
        return max(self.loss / WHOLE_LIMIT, *subsets, -math.inf)

    def to_dict(self) -> dict[str, float]:
        """What a bundle keeps of it."""
        low, high = self.interval
        return {
            "faces": self.faces,
            "nme": self.nme,
            "network_nme": self.network_nme,
            "loss": self.loss,
            "interval_low": low,
            "interval_high": high,
        }

    @property
    def told(self) -> str:
        """The outcome as people read it."""
        return f"NME {self.nme:.3f} % on {self.faces} faces in {self.runtime}, {self._worse}"

    @property
    def _worse(self) -> str:
        low, high = self.interval
        return f"{self.loss:+.2f} % of PyTorch's {self.network_nme:.3f} % (95 % interval {low:+.2f} to {high:+.2f} %)"


class Gate:
    """Validation faces on which files of one network are judged, its own accuracy on them measured once."""

    def __init__(self, subject: ExportSubject, samples: Sequence[Sample], normaliser: str) -> None:
        if not samples:
            raise UserError("no validation faces to judge the file on; is the split empty?")
        self._samples = samples
        self._scheme = scheme_named(subject.scheme)
        self._normaliser = normaliser
        rule = CropRule(subject.input_size, subject.box_scale)
        faces = ValidationFaces(samples, rule, self._scheme, normaliser, subject.decoder)
        try:
            self._network = self._judged(faces.predict(subject.network, torch.device("cpu")), samples)
        except NonFiniteError as error:
            raise UserError(f"bundle '{subject.name}': {error}; train it again") from None

    def judge(self, session: Session, faces: int | None = None) -> GateReport:
        """How much worse the landmarks of ``session`` are, on all faces or on ``faces`` of them, evenly spread.

        Raises GateError where its heatmaps are not finite.
        """
        count = len(self._samples)
        chosen = np.linspace(0, count - 1, min(faces or count, count)).round().astype(int)
        samples = [self._samples[index] for index in chosen]
        try:
            found = self._judged(predict(Aligner(session), samples), samples)
        except NonFiniteError as error:
            raise GateError(str(error)) from None
        subsets = [sample.subsets for sample in samples]
        return gate_report(session.runtime, found.nmes, self._network.nmes[chosen], subsets)

    def _judged(self, predicted: Floats, samples: Sequence[Sample]) -> Evaluation:
        return summarise(predicted, samples, self._scheme, self._normaliser)


def gate_report(
    runtime: str, nmes: Floats, network_nmes: Floats, subsets: Sequence[Sequence[str]]
) -> GateReport:
    """The report of a file whose NMEs of each face are ``nmes`` (N,), those of its network ``network_nmes`` (N,).

    ``subsets`` are the labels of each face. Both NMEs of a face stay together in the bootstrap.
    """
    names = sorted({name for labels in subsets for name in labels})
    members = {name: np.array([name in labels for labels in subsets]) for name in names}
    draws = np.random.default_rng(0).integers(0, len(nmes), (RESAMPLES, len(nmes)))
    resampled = _loss(nmes[draws].mean(axis=1), network_nmes[draws].mean(axis=1))
    low, high = np.percentile(resampled, INTERVAL)
    return GateReport(
        runtime=runtime,
        faces=len(nmes),
        nme=float(nmes.mean()),
        network_nme=float(network_nmes.mean()),
        loss=float(_loss(nmes.mean(), network_nmes.mean())),
        interval=(float(low), float(high)),
        subset_losses={
            name: float(_loss(nmes[where].mean(), network_nmes[where].mean()))
            for name, where in members.items()
        },
    )


def _loss(nme: Floats, network_nme: Floats) -> Floats:
    loss: Floats = 100.0 * (nme / network_nme - 1.0)
    return loss
