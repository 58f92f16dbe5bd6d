"""The losses of CHS: Adaptive Wing on heatmaps, the logarithm of Wing on offsets, scaled adaptive weights (eq. 5-8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimalign.compress.boundary import boundary_heatmap
from slimalign.compress.losses import SoftmaxLoss, gaussian_heatmaps, heatmap_points, inside_crop

ALPHA, OMEGA, EPSILON, THETA = 2.1, 14.0, 1.0, 0.5
"""Adaptive Wing's parameters (Wang et al., 2019, section 4.3)."""
FOREGROUND_WEIGHT, FOREGROUND = 10.0, 0.2
"""What a pixel weighs more where the truth, dilated by 3x3, is at least that."""
WING_WIDTH, WING_EPSILON = 8.0, 10.0


def adaptive_wing(heatmaps: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Adaptive Wing with its weight map, of the heatmaps of each stack against the ``truth`` in 0..1, all (N, K, H, W):
    the sum over stacks of the mean over values.

    Logarithmic below THETA, linear above it, with a power that falls from ALPHA to ALPHA - 1 as the truth rises.
    """
    power = ALPHA - truth
    ratio = torch.pow(torch.as_tensor(THETA / EPSILON), power)
    slope = OMEGA * power * ratio / THETA / (1 + ratio)
    level = THETA * slope - OMEGA * torch.log1p(ratio)
    dilated = torch.nn.functional.max_pool2d(truth, 3, 1, 1)
    weight = 1 + FOREGROUND_WEIGHT * (dilated >= FOREGROUND)
    total = truth.new_zeros(())
    for found in heatmaps:
        distance = (found - truth).abs()
        # Held to below THETA: elsewhere the power's gradient would be multiplied by 0, and may be infinite.
        near = distance.clamp(1e-6, THETA)
        curved = OMEGA * torch.log1p(torch.pow(near / EPSILON, power))
        total = total + (torch.where(distance < THETA, curved, slope * distance - level) * weight).mean()
    return total


def small_wing(error: Tensor) -> Tensor:
    """Equation 7 without its mean: w ln(1 + |error| / eps), of an error in crop pixels."""
    return WING_WIDTH * torch.log1p(error.abs() / WING_EPSILON)


def scaled_adaptive(losses: Sequence[Tensor], log_sigmas: Tensor, weights: Sequence[float]) -> Tensor:
    """Equation 6: the sum over tasks of alpha_t (L_t / sigma_t + ln sigma_t); ``log_sigmas`` (T,) are trained."""
    terms = [
        weight * (loss * torch.exp(-log_sigma) + log_sigma)
        for loss, log_sigma, weight in zip(losses, log_sigmas, weights, strict=True)
    ]
    return torch.stack(terms).sum()


@dataclass(frozen=True)
class AdaptiveWingLoss:
    """Adaptive Wing against Gaussian heatmaps of the landmarks and, where ``segments`` (S, 2) are, of the boundary."""

    stride: int
    sigma: float
    segments: Tensor | None = None

    def __call__(self, heatmaps: Sequence[Tensor], points: Tensor) -> Tensor:
        """Heatmaps (N, K or K + 1, H, W) of each stack and true ``points`` (N, K, 2) in crop pixels -> scalar."""
        size = (heatmaps[-1].shape[2], heatmaps[-1].shape[3])
        places = heatmap_points(points, self.stride)
        truth = gaussian_heatmaps(places, size, self.sigma)
        if self.segments is not None:
            boundary = boundary_heatmap(places, self.segments.to(points.device), size, self.sigma)
            truth = torch.cat([truth, boundary], dim=1)
        return adaptive_wing(heatmaps, truth)


@dataclass(frozen=True)
class StackedSoftmaxLoss:
    """The softmax loss of each stack's heatmaps, summed; see SoftmaxLoss."""

    stride: int
    sigma: float

    def __call__(self, heatmaps: Sequence[Tensor], points: Tensor) -> Tensor:
        """Heatmaps (N, K, H, W) of each stack and true ``points`` (N, K, 2) in crop pixels -> scalar."""
        loss = SoftmaxLoss(self.stride, self.sigma)
        return torch.stack([loss(found, points) for found in heatmaps]).sum()


HeatmapLoss = AdaptiveWingLoss | StackedSoftmaxLoss


def task_losses(
    heatmaps: Sequence[Tensor], places: Sequence[Tensor], points: Tensor, loss: HeatmapLoss, stride: int
) -> list[Tensor]:
    """The plain loss of each task against true ``points`` (N, K, 2) in crop pixels: that of all stacks' ``heatmaps``,
    then of the ``places`` (N, K, 2), in heatmap pixels, after each stage; the first are the heatmaps' own.
    """
    truth = heatmap_points(points, stride)
    inside = inside_crop(truth, (heatmaps[-1].shape[2], heatmaps[-1].shape[3]))
    return [
        loss([maps.float() for maps in heatmaps], points),
        *(offset_loss(after.float(), truth, inside, stride) for after in places[1:]),
    ]


def offset_loss(points: Tensor, truth: Tensor, inside: Tensor, stride: int) -> Tensor:
    """Equation 7's mean over the landmarks that lie ``inside`` (N, K) the crop; both (N, K, 2) in heatmap pixels."""
    loss = small_wing((points - truth) * stride).sum(dim=2)
    return (loss * inside).sum() / inside.sum().clamp_min(1)
