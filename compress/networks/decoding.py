"""The decoders of ``runtimes.decode`` as part of the exported graph: heatmaps in, points and scores out.

Written in what every format keeps in its own layout: constant grids, sums, largest values and products in four
dimensions, no gathering and nothing whose shape hangs on the data. Masks are made with ReLUs, because LiteRT's quick
kernels have no comparisons.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimalign.runtimes.decode import MEAN_WINDOW, SOFTMAX_WINDOW

STEEP = 1e30
"""Makes of the least difference between two float32 values of a heatmap more than 1: all but the peak are below it."""


class InGraphDecoder(nn.Module):
    """Points (N, K, 2), x then y, in pixels of the crop, and scores (N, K), as ``decode`` gives them.

    ``side`` is that of the heatmaps (N, K, side, side), ``stride`` the input size over it. With ``channels_last`` the
    heatmaps are laid out anew first, which a converter to that layout takes out again.
    """

    def __init__(self, decoder: str, side: int, stride: int, channels_last: bool = False) -> None:
        super().__init__()
        self._decoder, self._side, self._stride, self._channels_last = decoder, side, stride, channels_last
        self._plane = (1, 2) if channels_last else (2, 3)
        steps = torch.arange(side, dtype=torch.float32)
        for name, grid in (
            ("across", steps[None, :]),
            ("down", steps[:, None]),
            ("index", steps[:, None] * side + steps[None, :]),
        ):
            shape = (1, *grid.shape, 1) if channels_last else (1, 1, *grid.shape)
            self.register_buffer(name, grid.reshape(shape), persistent=False)

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmaps (N, K, H, W) -> points (N, K, 2), scores (N, K)."""
        if self._channels_last:
            heatmaps = heatmaps.permute(0, 2, 3, 1)
        top = heatmaps.amax(dim=self._plane, keepdim=True)
        # Which place is the highest has no gradient; the mean about it has.
        x, y = self._peak(heatmaps.detach(), top.detach())
        if self._decoder == "argmax-quarter":
            x, y, score = *self._quarter(heatmaps, x, y), top
        elif self._decoder == "local-mean":
            x, y, _ = self._mean(torch.relu(heatmaps), x, y, MEAN_WINDOW)
            score = top
        else:
            weights = torch.exp(heatmaps - top)
            x, y, inside = self._mean(weights, x, y, SOFTMAX_WINDOW)
            score = inside / self._sum(weights)
        in_crop = [((place + 0.5) * self._stride - 0.5).flatten(1) for place in (x, y)]
        return torch.stack(in_crop, dim=2), score.flatten(1)

    def _peak(self, heatmaps: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """The first of the highest places, one of each heatmap."""
        below = unit((top - heatmaps) * STEEP)
        place = (self.get_buffer("index") + below * self._side**2).amin(dim=self._plane, keepdim=True)
        y = torch.floor((place + 0.5) / self._side)
        return place - y * self._side, y

    def _mean(self, weights: Tensor, x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
        """The mean place by ``weights`` in a window about (x, y), and the weight in it."""
        reach = window // 2 + 1
        near = unit(reach - torch.abs(self.get_buffer("across") - x)) * unit(
            reach - torch.abs(self.get_buffer("down") - y)
        )
        inside = weights * near
        total = self._sum(inside)
        safe = torch.clamp(total, min=1e-20)
        return (
            x + self._sum(inside * (self.get_buffer("across") - x)) / safe,
            y + self._sum(inside * (self.get_buffer("down") - y)) / safe,
            total,
        )

    def _quarter(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A quarter of a step towards the larger neighbour; a peak on the border has one only and stays."""
        last = self._side - 1
        dx = _sign(self._at(heatmaps, x + 1, y) - self._at(heatmaps, x - 1, y))
        dy = _sign(self._at(heatmaps, x, y + 1) - self._at(heatmaps, x, y - 1))
        inner_x, inner_y = (unit(v) * unit(last - v) for v in (x, y))
        return x + 0.25 * dx * inner_x, y + 0.25 * dy * inner_y

    def _at(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The values at whole places (x, y); 0 outside."""
        column = unit(1 - torch.abs(self.get_buffer("across") - x))
        row = unit(1 - torch.abs(self.get_buffer("down") - y))
        return self._sum(heatmaps * column * row)

    def _sum(self, values: Tensor) -> Tensor:
        return values.sum(dim=self._plane, keepdim=True)


def unit(x: Tensor) -> Tensor:
    """``x`` held to 0..1; as one clamp it would be an operation that LiteRT's delegates do not have."""
    return 1 - torch.relu(1 - torch.relu(x))


def _sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, by an operation that the delegates have."""
    return torch.clamp(x * STEEP, -1.0, 1.0)


class Decoding(nn.Module):
    """A network whose heatmaps are decoded in its own graph."""

    def __init__(self, network: nn.Module, decoder: InGraphDecoder) -> None:
        super().__init__()
        self.network = network
        self.decoder = decoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (N, 3, S, S) -> points (N, K, 2), scores (N, K)."""
        points, scores = self.decoder(self.network(images))
        return points, scores
