"""NME of a network in training, with the crop, the decoder and the metric that the device uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slimalign.compress.batches import normalised
from slimalign.compress.data.sample import Sample, cut_crops, normalising_distances
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.decode import decode
from slimalign.runtimes.errors import NonFiniteError
from slimalign.runtimes.metrics import image_nmes
from slimalign.runtimes.schemes import LandmarkScheme

BATCH = 32


class ValidationFaces:
    """A split's crops, cut once by the rule the device cuts by, on which networks are measured."""

    def __init__(
        self, samples: Sequence[Sample], rule: CropRule, scheme: LandmarkScheme, normaliser: str, decoder: str
    ) -> None:
        self.samples = samples
        self._rule = rule
        self._distances = normalising_distances(samples, scheme, normaliser)
        self._decoder = decoder
        crops = cut_crops(samples, rule)
        self.crops = torch.from_numpy(crops).permute(0, 3, 1, 2)

    def predict(self, network: nn.Module, device: torch.device) -> NDArray[np.floating]:
        """Points (N, K, 2) in pixels of the samples' images, of a network that gives heatmaps, or a cascade."""
        if isinstance(network, Cascade):
            return self._stage_points(network, device)[-1]
        return self.points_from([self._heatmaps(network, crops, device) for crops in self.crops.split(BATCH)])

    def stage_nmes(self, cascade: Cascade, device: torch.device) -> list[float]:
        """Mean NME in percent of the landmarks that the heatmaps have, and after each stage."""
        return [float(nmes.mean()) for nmes in self.stage_image_nmes(cascade, device)]

    def stage_image_nmes(self, cascade: Cascade, device: torch.device) -> list[NDArray[np.floating]]:
        """NMEs (N,) of the single faces, likewise."""
        return [self._nmes(points) for points in self._stage_points(cascade, device)]

    def _stage_points(self, cascade: Cascade, device: torch.device) -> list[NDArray[np.floating]]:
        with inferring(cascade):
            found = [
                cascade.all_stages(normalised(crops.to(device))).points for crops in self.crops.split(BATCH)
            ]
        stages = [torch.cat(points).float().cpu().numpy() for points in zip(*found, strict=True)]
        for points in stages:
            if not np.isfinite(points).all():
                raise NonFiniteError("the network's points are NaN or infinite")
        return [self._in_images((points + 0.5) * STRIDE - 0.5) for points in stages]

    def points_from(self, heatmaps: Sequence[Tensor]) -> NDArray[np.floating]:
        """Points (N, K, 2) in pixels of the samples' images from batches of heatmaps in the samples' order."""
        decoded = []
        for batch in heatmaps:
            stride = self._rule.size // batch.shape[-1]
            decoded.append(decode(batch.cpu().numpy(), stride, self._decoder)[0])
        return self._in_images(np.concatenate(decoded))

    def _in_images(self, in_crops: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.stack(
            [
                transform_points(points, invert(self._rule.matrix(sample.box)))
                for points, sample in zip(in_crops, self.samples, strict=True)
            ]
        )

    def nme(self, network: nn.Module, device: torch.device) -> float:
        """Mean NME in percent."""
        return float(self._nmes(self.predict(network, device)).mean())

    def _nmes(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        truth = np.stack([sample.points for sample in self.samples])
        return image_nmes(points, truth, self._distances)

    def _heatmaps(self, network: nn.Module, crops: Tensor, device: torch.device) -> Tensor:
        with inferring(network):
            heatmaps: Tensor = network(normalised(crops.to(device))).float()
        return heatmaps


@contextmanager
def inferring(network: nn.Module) -> Iterator[None]:
    """``network`` for inference, and afterwards as it was."""
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        yield
    network.train(was_training)
