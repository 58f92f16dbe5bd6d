"""NME of a network in training, with the crop, the decoder and the metric that the device uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slimalign.compress.batches import normalised
from slimalign.compress.data.sample import Sample, cut_crops, normalising_distances
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.decode import decode
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
        """Points (N, K, 2) in pixels of the samples' images."""
        return self.points_from([self._heatmaps(network, crops, device) for crops in self.crops.split(BATCH)])

    def points_from(self, heatmaps: Sequence[Tensor]) -> NDArray[np.floating]:
        """Points (N, K, 2) in pixels of the samples' images from batches of heatmaps in the samples' order."""
        decoded = []
        for batch in heatmaps:
            stride = self._rule.size // batch.shape[-1]
            decoded.append(decode(batch.cpu().numpy(), stride, self._decoder)[0])
        in_crops = np.concatenate(decoded)
        return np.stack(
            [
                transform_points(points, invert(self._rule.matrix(sample.box)))
                for points, sample in zip(in_crops, self.samples, strict=True)
            ]
        )

    def nme(self, network: nn.Module, device: torch.device) -> float:
        """Mean NME in percent."""
        truth = np.stack([sample.points for sample in self.samples])
        return float(image_nmes(self.predict(network, device), truth, self._distances).mean())

    def _heatmaps(self, network: nn.Module, crops: Tensor, device: torch.device) -> Tensor:
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            heatmaps: Tensor = network(normalised(crops.to(device))).float()
        network.train(was_training)
        return heatmaps
