"""Teachers that are trained already: any network of a PyTorch bundle, a cascade by the heatmaps of its landmarks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from slimalign.compress.losses import heatmap_points
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.decoding import InGraphDecoder
from slimalign.compress.torch_files import read_network
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import UserError


class LandmarkTeacher(nn.Module):
    """A cascade as a teacher of heatmaps: logits whose softmax is a Gaussian about each of its last landmarks."""

    def __init__(self, cascade: Cascade, sigma: float) -> None:
        super().__init__()
        self.cascade = cascade
        self._sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> logits (N, K, S/4, S/4), 0 at a landmark's place."""
        points, _ = self.cascade(images)
        places = heatmap_points(points, STRIDE)
        axis = torch.arange(images.shape[-1] // STRIDE, device=images.device, dtype=places.dtype)
        x, y = axis - places[..., 0:1], axis - places[..., 1:2]
        return -(x[..., None, :] ** 2 + y[..., :, None] ** 2) / (2 * self._sigma**2)


def given_teacher(place: str, input_size: int, scheme: str, sigma: float) -> nn.Module:
    """The network of the PyTorch bundle at ``place``, which gives heatmaps (N, K, S/4, S/4).

    Raises UserError where there is none, or it is for another input size or landmark scheme.
    """
    bundle = read_bundle(place)
    manifest = bundle.manifest
    if manifest.format != "torch":
        raise UserError(
            f"teacher.bundle = {place}: a bundle of format {manifest.format}; give a PyTorch bundle, as runs make them"
        )
    if (manifest.input_size, manifest.scheme) != (input_size, scheme):
        raise UserError(
            f"teacher.bundle = {place}: for {manifest.scheme} at {manifest.input_size} pixels, the recipe is for "
            f"{scheme} at {input_size}; change the recipe, or give another bundle"
        )
    network = read_network(bundle.folder)
    return LandmarkTeacher(network, sigma) if isinstance(network, Cascade) else network


def points_of(teacher: nn.Module, decoder: str) -> Callable[[Tensor], Tensor]:
    """What a given ``teacher`` finds of normalised images (N, 3, S, S): points (N, K, 2) in pixels of the crop, without
    gradient; its heatmaps are read by ``decoder``, a cascade's landmarks are its own.
    """
    teacher.eval().requires_grad_(False)

    def found(images: Tensor) -> Tensor:
        with torch.no_grad():
            if isinstance(teacher, LandmarkTeacher):
                points: Tensor = teacher.cascade(images)[0]
                return points
            heatmaps = teacher(images).float()
            reader = InGraphDecoder(decoder, heatmaps.shape[-1], STRIDE).to(images.device)
            return reader(heatmaps)[0]  # type: ignore[no-any-return]

    return found
