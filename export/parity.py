"""Whether an exported file computes what PyTorch computes, on real crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from slimalign.compress.networks.cascade import Cascade
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import CheckError, NonFiniteError, UserError
from slimalign.runtimes.inputs import heatmaps_nchw, network_inputs
from slimalign.runtimes.session import Session

Float32 = NDArray[np.float32]
Image = NDArray[np.uint8]

HEATMAP_TOLERANCE = 1e-4
"""Largest difference of heatmap values, in units of the largest value or of 1 where that is smaller."""
POINT_TOLERANCE_PX = 0.01
"""Largest difference of a decoded coordinate, in pixels of the crop."""
DECODED_TOLERANCE_PX = 0.05
"""The same where the file decodes its heatmaps itself: another order of the same sums."""
SCORE_TOLERANCE = 1e-3
TIE_MARGIN = 2e-4
"""Share of the largest heatmap value by which two that the decoder chooses between must differ."""
ROUNDING = 1e-5
"""The same where float32 itself may decide: hardly any."""
BATCH = 8
"""Crops a run at most; the first crop is also run alone, to see that the batch size changes nothing."""


class ParityError(CheckError):
    """An exported file does not compute what PyTorch computes: a check that did not hold."""

    check = "parity"


@dataclass(frozen=True)
class ParityReport:
    """How far a file's answers lie from PyTorch's on ``crops`` crops.

    ``heatmap_difference`` is the largest absolute difference of heatmap values, ``heatmap_scale`` the largest
    value by which it is judged: heatmaps of a network trained with a softmax are logits of tens, where
    float32 itself rounds by 1e-5, so the tolerance grows with them once they exceed 1.
    ``point_difference_px`` is the largest difference of a decoded coordinate in pixels of the crop.
    ``tied_points`` of the ``points`` are left out of it: there two heatmap values between which the decoder
    chooses lie closer together than twice the heatmaps' difference, so rounding decides.
    """

    crops: int
    heatmap_difference: float
    heatmap_scale: float
    point_difference_px: float
    points: int
    tied_points: int

    @property
    def heatmap_tolerance(self) -> float:
        """The difference of heatmap values that is allowed."""
        return HEATMAP_TOLERANCE * max(1.0, self.heatmap_scale)

    @property
    def told(self) -> str:
        """The outcome as people read it."""
        return (
            f"differs from PyTorch by {self.heatmap_difference:.1e} in the heatmaps (largest value "
            f"{self.heatmap_scale:.1f}), {self.point_difference_px:.1e} px in the points"
        )

    @property
    def flat(self) -> bool:
        """Whether no heatmap has a peak, as those of an untrained network: no point could be compared."""
        return self.tied_points == self.points

    @property
    def fault(self) -> str | None:
        """What does not hold, in a few words; None where the file is as good as the network."""
        if not self.heatmap_difference <= self.heatmap_tolerance:
            return f"heatmaps differ by {self.heatmap_difference:.2g}, at most {self.heatmap_tolerance:.2g} is allowed"
        if not self.point_difference_px <= POINT_TOLERANCE_PX:
            return (
                f"points differ by {self.point_difference_px:.2g} px, at most {POINT_TOLERANCE_PX} is allowed"
            )
        return None


class ExpectedPoints(NamedTuple):
    """PyTorch's points (N, K, 2) in pixels of the crop and scores (N, K), and which of them rounding decides."""

    points: Float32
    scores: Float32
    tied: NDArray[np.bool_]


@dataclass(frozen=True)
class PointsReport:
    """How far the points and scores that a file decodes itself lie from those decoded of PyTorch's heatmaps.

    ``point_difference_px`` is in pixels of the crop. ``tied_points`` of the ``points`` are left out: there rounding
    decides between two places.
    """

    crops: int
    point_difference_px: float
    score_difference: float
    points: int
    tied_points: int

    @property
    def told(self) -> str:
        """The outcome as people read it."""
        return (
            f"its points differ by {self.point_difference_px:.1e} px from those of PyTorch's heatmaps, its scores by "
            f"{self.score_difference:.1e}{self._left_out}"
        )

    @property
    def _left_out(self) -> str:
        if 2 * self.tied_points < self.points:
            return ""
        return f"; {self.tied_points} of {self.points} points hang on rounding and were not compared"

    @property
    def flat(self) -> bool:
        """Whether no heatmap has a peak, as those of an untrained network: no point could be compared."""
        return self.tied_points == self.points

    @property
    def fault(self) -> str | None:
        """What does not hold, in a few words; None where the file is as good as the decoder."""
        if not self.point_difference_px <= DECODED_TOLERANCE_PX:
            return f"points differ by {self.point_difference_px:.2g} px, at most {DECODED_TOLERANCE_PX} is allowed"
        if not self.score_difference <= SCORE_TOLERANCE:
            return f"scores differ by {self.score_difference:.2g}, at most {SCORE_TOLERANCE:g} is allowed"
        return None


def torch_heatmaps(network: nn.Module, crops: Image, manifest: Manifest) -> Float32:
    """PyTorch's heatmaps (N, K, H, W) of ``crops`` (N, S, S, 3) uint8 RGB; ``network`` is on the CPU, for inference.

    ``manifest`` is that of an NCHW file. Raises UserError where there are no crops, or the heatmaps are not
    finite or not of the shape that the scheme and the stride ask for.
    """
    if len(crops) == 0:
        raise UserError(f"bundle '{manifest.name}': no crops to check the export on; give at least one face")
    inputs = torch.from_numpy(network_inputs(crops, manifest))
    with torch.inference_mode():
        heatmaps: Float32 = torch.cat([_heatmaps(network, batch) for batch in inputs.split(BATCH)]).numpy()
    side = manifest.input_size // manifest.stride
    expected = (len(crops), manifest.landmark_scheme.count, side, side)
    if heatmaps.shape != expected:
        raise UserError(
            f"bundle '{manifest.name}': the network gives heatmaps of shape {heatmaps.shape}; input size"
            f" {manifest.input_size}, stride {manifest.stride} and scheme '{manifest.scheme}' ask for {expected}"
        )
    if not np.isfinite(heatmaps).all():
        raise UserError(
            f"bundle '{manifest.name}': the network's heatmaps hold NaN or infinite values; train it again"
        )
    return heatmaps


def _heatmaps(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    if isinstance(network, Cascade):
        return network.all_stages(batch).heatmaps[-1][:, : network.shape.landmarks]
    heatmaps: torch.Tensor = network(batch)
    return heatmaps


def torch_points(network: nn.Module, crops: Image, manifest: Manifest, heatmaps: Float32) -> ExpectedPoints:
    """What a file that gives points has to give: a cascade's points, else those decoded of ``heatmaps``."""
    tied = ties(heatmaps, manifest.decoder, TIE_MARGIN * max(1.0, float(np.abs(heatmaps).max())))
    if not isinstance(network, Cascade):
        return ExpectedPoints(*decode(heatmaps, manifest.stride, manifest.decoder), tied)
    inputs = torch.from_numpy(network_inputs(crops, manifest))
    with torch.inference_mode():
        found = [network(batch) for batch in inputs.split(BATCH)]
    points, scores = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    # A first place that rounding does move moves all other landmarks too, through the stages' last layers.
    moved = ties(heatmaps, manifest.decoder, ROUNDING * max(1.0, float(np.abs(heatmaps).max())))
    return ExpectedPoints(points, scores, tied | moved.any(axis=1, keepdims=True))


def compare(reference: Float32, session: Session, crops: Image) -> ParityReport:
    """Run ``crops`` (N, S, S, 3) through ``session`` and compare with ``reference``, PyTorch's (N, K, H, W).

    An answer of another shape, or one that is not finite, raises ParityError.
    """
    step = session.manifest.batch or BATCH
    found = np.concatenate(
        [_run(session, crops[start : start + step], step) for start in range(0, len(crops), step)]
    )
    if found.shape != reference.shape:
        raise ParityError(
            f"bundle '{session.manifest.name}': the file gives heatmaps of shape {found.shape},"
            f" PyTorch gives {reference.shape}"
        )
    alone = _run(session, crops[:1], session.manifest.batch or 1)
    if not (np.isfinite(found).all() and np.isfinite(alone).all()):
        raise ParityError(
            f"bundle '{session.manifest.name}': the file's heatmaps hold NaN or infinite values"
        )
    difference = max(float(np.abs(found - reference).max()), float(np.abs(alone - reference[:1]).max()))
    return _report(reference, found, difference, session.manifest)


def compare_points(expected: ExpectedPoints, session: Session, crops: Image) -> PointsReport:
    """Run ``crops`` (N, S, S, 3) through ``session``, whose file gives points, and compare with those ``expected``.

    An answer that is not finite raises ParityError.
    """
    try:
        found = Aligner(session).align_crops(crops)
    except NonFiniteError as error:
        raise ParityError(str(error)) from None
    tied = expected.tied
    distances = np.abs(expected.points - found.points).max(axis=2)
    return PointsReport(
        crops=len(crops),
        point_difference_px=float(distances[~tied].max(initial=0.0)),
        score_difference=float(np.abs(expected.scores - found.scores)[~tied].max(initial=0.0)),
        points=tied.size,
        tied_points=int(tied.sum()),
    )


def _run(session: Session, crops: Image, batch: int) -> Float32:
    """Heatmaps (N, K, H, W) of at most ``batch`` crops; a fixed batch is filled up with the first crop."""
    faces = len(crops)
    if session.manifest.batch is not None:
        crops = np.concatenate([crops, np.repeat(crops[:1], batch - faces, axis=0)])
    raw = session.run(network_inputs(crops, session.manifest))
    return heatmaps_nchw(raw, session.manifest)[:faces]


def _report(reference: Float32, found: Float32, difference: float, manifest: Manifest) -> ParityReport:
    tied = ties(reference, manifest.decoder, 2 * difference)
    expected_points, _ = decode(reference, manifest.stride, manifest.decoder)
    points, _ = decode(found, manifest.stride, manifest.decoder)
    distances = np.abs(points - expected_points).max(axis=2)[~tied]
    return ParityReport(
        crops=len(reference),
        heatmap_difference=difference,
        heatmap_scale=float(np.abs(reference).max()),
        point_difference_px=float(distances.max(initial=0.0)),
        points=tied.size,
        tied_points=int(tied.sum()),
    )


def ties(heatmaps: Float32, decoder: str, margin: float) -> NDArray[np.bool_]:
    """(N, K): whether values between which the decoder chooses lie within ``margin`` of each other.

    They are the peak and the next highest value, and for ``argmax-quarter`` the peak's opposite neighbours.
    """
    n, k, height, width = heatmaps.shape
    flat = heatmaps.reshape(n, k, -1)
    second, first = np.moveaxis(np.partition(flat, -2, axis=2)[..., -2:], 2, 0)
    gap = first - second
    if decoder == "argmax-quarter":
        y, x = np.divmod(flat.argmax(axis=2), width)
        rows, columns = np.arange(n)[:, None], np.arange(k)[None]
        left, right = np.maximum(x - 1, 0), np.minimum(x + 1, width - 1)
        above, below = np.maximum(y - 1, 0), np.minimum(y + 1, height - 1)
        across = np.abs(heatmaps[rows, columns, y, right] - heatmaps[rows, columns, y, left])
        along = np.abs(heatmaps[rows, columns, below, x] - heatmaps[rows, columns, above, x])
        gap = np.minimum(gap, np.minimum(across, along))
    tied: NDArray[np.bool_] = gap <= margin
    return tied
