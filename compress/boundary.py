"""Boundary heatmaps: how near each pixel is to a line through the landmarks of a facial boundary."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from slimalign.runtimes.schemes import LandmarkScheme


def boundary_segments(scheme: LandmarkScheme) -> Tensor:
    """(S, 2): the landmarks between which the scheme's boundaries run straight; a region of one point has none."""
    segments: list[tuple[int, int]] = []
    for region in scheme.regions:
        path = [*region.indices, *region.indices[:1]] if region.closed else list(region.indices)
        segments += pairwise(path)
    return torch.tensor(segments, dtype=torch.long).reshape(-1, 2)


def boundary_heatmap(points: Tensor, segments: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """(N, 1, H, W): Gaussians with peak 1 of the distance to the nearest of ``segments``.

    ``points`` (N, K, 2) are in heatmap pixels. Without segments there is no boundary, and all is 0.
    """
    height, width = size
    if len(segments) == 0:
        return points.new_zeros(len(points), 1, height, width)
    start, end = points[:, segments[:, 0]], points[:, segments[:, 1]]
    along = (end - start)[:, :, None, None]
    x = torch.arange(width, device=points.device, dtype=points.dtype)
    y = torch.arange(height, device=points.device, dtype=points.dtype)
    grid = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=2)
    to_pixel = grid - start[:, :, None, None]
    # The nearest place of a segment, as a share of its length; one of no length is a point.
    share = (to_pixel * along).sum(dim=4) / (along**2).sum(dim=4).clamp_min(1e-12)
    nearest = share.clamp(0, 1)[..., None] * along
    squared = ((to_pixel - nearest) ** 2).sum(dim=4).amin(dim=1, keepdim=True)
    return torch.exp(-squared / (2 * sigma**2))
