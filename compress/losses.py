"""Losses: the ground truth's (equation 2, or its softmax form) and distillation's (equation 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COORDINATE_WEIGHT = 0.5
"""Weight of the L1 between soft-argmax and truth (heatmap pixels) beside the KL divergence."""


def heatmap_points(points: Tensor, stride: float) -> Tensor:
    """Crop pixels -> heatmap pixels, the inverse of the decoder's (heatmap + 0.5) * stride - 0.5."""
    return (points + 0.5) / stride - 0.5


def gaussian_heatmaps(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Ground-truth heatmaps (N, K, H, W) with peak 1 about ``points`` (N, K, 2) in heatmap pixels."""
    height, width = size
    x = torch.arange(width, device=points.device) - points[..., 0:1]
    y = torch.arange(height, device=points.device) - points[..., 1:2]
    along_x = torch.exp(-(x**2) / (2 * sigma**2))
    along_y = torch.exp(-(y**2) / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]


def spatial_log_softmax(heatmaps: Tensor) -> Tensor:
    """ln S of equation 3: (N, K, H, W) -> (N, K, H*W), the softmax over one landmark's heatmap."""
    return heatmaps.flatten(2).log_softmax(dim=2)


def distillation_loss(target: Tensor, predicted: Tensor) -> Tensor:
    """KD(target || predicted), equation 3: the KL divergence of the spatial softmaxes, mean over N and M.

    Both are heatmaps (N, K, H, W) before the softmax; no gradient flows into ``target``.
    """
    log_target = spatial_log_softmax(target.detach())
    divergence = (log_target.exp() * (log_target - spatial_log_softmax(predicted))).sum(dim=2)
    return divergence.mean()


@dataclass(frozen=True)
class MseLoss:
    """The first term of equation 2: mean squared error against Gaussian heatmaps, mean over N and M."""

    stride: int
    sigma: float

    def __call__(self, heatmaps: Tensor, points: Tensor) -> Tensor:
        """``heatmaps`` (N, K, H, W) and true ``points`` (N, K, 2) in crop pixels -> scalar."""
        height, width = heatmaps.shape[2:]
        truth = gaussian_heatmaps(heatmap_points(points, self.stride), (height, width), self.sigma)
        return torch.nn.functional.mse_loss(heatmaps, truth)


@dataclass(frozen=True)
class SoftmaxLoss:
    """KL between the normalised Gaussian and the spatial softmax, plus L1 of the soft-argmax.

    Landmarks that the augmentation moved out of the crop are left out.
    """

    stride: int
    sigma: float

    def __call__(self, heatmaps: Tensor, points: Tensor) -> Tensor:
        """``heatmaps`` (N, K, H, W) and true ``points`` (N, K, 2) in crop pixels -> scalar."""
        height, width = heatmaps.shape[2:]
        truth = heatmap_points(points, self.stride)
        inside = inside_crop(truth, (height, width))
        gaussian = gaussian_heatmaps(truth, (height, width), self.sigma).flatten(2)
        gaussian = gaussian / gaussian.sum(dim=2, keepdim=True).clamp_min(1e-12)
        log_predicted = spatial_log_softmax(heatmaps)
        divergence = (torch.xlogy(gaussian, gaussian) - gaussian * log_predicted).sum(dim=2)
        error = (soft_argmax(log_predicted.exp(), height, width) - truth).abs().sum(dim=2)
        return ((divergence + COORDINATE_WEIGHT * error) * inside).sum() / inside.sum().clamp_min(1)


def inside_crop(places: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, K): which of ``places`` (N, K, 2), in heatmap pixels, lie on a heatmap of ``size`` (height, width)."""
    height, width = size
    return ((places > -0.5) & (places < places.new_tensor([width, height]) - 0.5)).all(dim=2)


def soft_argmax(probabilities: Tensor, height: int, width: int) -> Tensor:
    """The mean position (N, K, 2) in heatmap pixels of ``probabilities`` (N, K, H*W)."""
    grid = probabilities.unflatten(2, (height, width))
    x = torch.arange(width, device=grid.device, dtype=grid.dtype)
    y = torch.arange(height, device=grid.device, dtype=grid.dtype)
    return torch.stack([(grid.sum(dim=2) * x).sum(dim=2), (grid.sum(dim=3) * y).sum(dim=2)], dim=2)


GroundTruthLoss = MseLoss | SoftmaxLoss


def sparsity(factors: Tensor) -> Tensor:
    """The second term of equation 2 without its weight: the L1 norm of the importance factors."""
    return factors.abs().sum()
