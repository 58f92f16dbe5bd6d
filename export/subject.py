"""What is exported: a network and everything a device must know to run it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ExportSubject:
    """A network (N, 3, S, S) normalised by ``MEAN`` and ``STD`` -> heatmaps (N, K, S/stride, S/stride).

    ``input_size`` is S in pixels, ``box_scale`` the crop rule's, ``scheme`` the landmark scheme's name,
    ``decoder`` how points are read from the heatmaps.
    """

    name: str
    network: nn.Module
    input_size: int
    box_scale: float
    scheme: str
    decoder: str
    stride: int
