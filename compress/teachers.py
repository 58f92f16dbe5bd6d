"""Teachers that are trained already: any network of a PyTorch bundle, a cascade by the heatmaps of its landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slimalign.compress.losses import gaussian_heatmaps, heatmap_points
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.decoding import InGraphDecoder
from slimalign.compress.recipe import CommonRecipe
from slimalign.compress.torch_files import read_network
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class Taught:
    """A network in the PyTorch bundle at ``place``, and what reads landmarks from its heatmaps."""

    place: str
    network: nn.Module
    decoder: str

    def heatmap_teacher(self, loss: str, sigma: float) -> nn.Module:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, S/4, S/4) of the kind that a student has by ``loss``.

        Raises UserError where its own are of the other kind: logits, as softmax makes, or Gaussians, as mse does.
        """
        is_logits = loss == "softmax"
        if isinstance(self.network, Cascade):
            return LandmarkTeacher(self.network, sigma, is_logits)
        if (self.decoder == "local-softmax") != is_logits:
            kind = "logits" if self.decoder == "local-softmax" else "Gaussians"
            raise UserError(
                f"teacher.bundle = {self.place}: its heatmaps are {kind}, which teach no student with "
                f"loss = {loss}; give another teacher, or change the loss"
            )
        return self.network


class LandmarkTeacher(nn.Module):
    """A cascade as a teacher of heatmaps: Gaussians about each of its last landmarks, or the logits of such."""

    def __init__(self, cascade: Cascade, sigma: float, logits: bool) -> None:
        super().__init__()
        self.cascade = cascade
        self._sigma, self._logits = sigma, logits

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> heatmaps (N, K, S/4, S/4), highest at a landmark: 1, or 0 of logits."""
        points, _ = self.cascade(images)
        places = heatmap_points(points, STRIDE)
        side = images.shape[-1] // STRIDE
        if not self._logits:
            return gaussian_heatmaps(places, (side, side), self._sigma)
        axis = torch.arange(side, device=images.device, dtype=places.dtype)
        x, y = axis - places[..., 0:1], axis - places[..., 1:2]
        return -(x[..., None, :] ** 2 + y[..., :, None] ** 2) / (2 * self._sigma**2)


class PointTeacher(nn.Module):
    """What a trained network finds, without gradient."""

    def __init__(self, taught: Taught, input_size: int) -> None:
        super().__init__()
        self.network = taught.network.eval().requires_grad_(False)
        self.reader = InGraphDecoder(taught.decoder, input_size // STRIDE, STRIDE)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) -> points (N, K, 2) in pixels of the crop."""
        found = self.network(images)
        points: Tensor = found[0] if isinstance(self.network, Cascade) else self.reader(found.float())[0]
        return points


def taught_by(place: str, recipe: CommonRecipe) -> Taught:
    """The network of the PyTorch bundle at ``place``, for the faces of ``recipe``.

    Raises UserError where there is none, or it is for another landmark scheme, input size or crop.
    """
    bundle = read_bundle(place)
    manifest = bundle.manifest
    if manifest.format != "torch":
        raise UserError(
            f"teacher.bundle = {place}: a bundle of format {manifest.format}; give a PyTorch bundle, as runs make them"
        )
    theirs = (manifest.scheme, manifest.input_size, manifest.box_scale)
    ours = (recipe.data.scheme, recipe.input.size, recipe.input.box_scale)
    if theirs != ours:
        told = ["{} at {} pixels, boxes times {:g}".format(*one) for one in (theirs, ours)]
        raise UserError(
            f"teacher.bundle = {place}: for {told[0]}; the recipe is for {told[1]}; change it, or give another bundle"
        )
    return Taught(place, read_network(bundle.folder), manifest.decoder)
