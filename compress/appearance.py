"""Changes of how a face looks, of which CHS's training makes one at random (Sensors 2023, 23, 4731, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey pixel (ITU-R BT.601)."""
LARGEST_NOISE = 20.0
"""Standard deviation, in grey levels."""
WORST_JPEG, BEST_JPEG = 15, 75
"""Qualities."""

Change = Callable[[Tensor, Generator], Tensor]


def changed(images: Tensor, rng: Generator) -> Tensor:
    """``images`` (N, 3, S, S), pixels 0..255, each changed by one of CHANGES, or by none, at random."""
    chosen = torch.randint(len(CHANGES) + 1, (len(images),), generator=rng).tolist()
    changes = [None, *CHANGES.values()]
    found = [
        image if (change := changes[number]) is None else change(image, rng)
        for number, image in zip(chosen, images, strict=True)
    ]
    return torch.stack(found).clamp_(0, 255)


def _noise(image: Tensor, rng: Generator) -> Tensor:
    spread = LARGEST_NOISE * float(torch.rand((), generator=rng))
    return image + spread * torch.randn(image.shape, generator=rng).to(image.device)


def _grey(image: Tensor, _: Generator) -> Tensor:
    weights = torch.tensor(GREY_WEIGHTS, device=image.device).view(3, 1, 1)
    return (image * weights).sum(dim=0, keepdim=True).expand(3, -1, -1)


def _contrast(image: Tensor, rng: Generator) -> Tensor:
    mean = image.mean()
    return mean + (image - mean) * _between(0.5, 1.5, rng)


def _colour(image: Tensor, rng: Generator) -> Tensor:
    """Between grey and twice as colourful."""
    grey = _grey(image, rng)
    return grey + (image - grey) * _between(0.0, 2.0, rng)


def _gamma(image: Tensor, rng: Generator) -> Tensor:
    """The power-law transform."""
    return 255 * (image / 255).clamp(0, 1) ** (2 ** _between(-1.0, 1.0, rng))


def _equalised(image: Tensor, _: Generator) -> Tensor:
    """The histogram of each colour made flat."""
    return _by_opencv(image, lambda pixels: np.stack([cv2.equalizeHist(channel) for channel in pixels]))


def _jpeg(image: Tensor, rng: Generator) -> Tensor:
    quality = round(_between(WORST_JPEG, BEST_JPEG, rng))

    def compressed(pixels: np.ndarray) -> np.ndarray:
        upright = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0))  # blue first, as OpenCV has it
        done, data = cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)).transpose(2, 0, 1)[::-1]

    return _by_opencv(image, compressed)


def _lighting(image: Tensor, rng: Generator) -> Tensor:
    """Brighter towards one side of the picture, darker towards the other."""
    side = image.shape[-1]
    angle = 2 * torch.pi * torch.rand((), generator=rng)
    strength = 100 * float(torch.rand((), generator=rng))
    along = torch.linspace(-1, 1, side)
    slope = torch.cos(angle) * along[None, :] + torch.sin(angle) * along[:, None]
    return image + strength * slope.to(image.device)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "noise": _noise,
        "grey": _grey,
        "contrast": _contrast,
        "colour": _colour,
        "gamma": _gamma,
        "equalised": _equalised,
        "jpeg": _jpeg,
        "lighting": _lighting,
    }
)
"""An image (3, S, S), pixels about 0..255 -> the same shape, some values outside of that."""


def _between(low: float, high: float, rng: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _by_opencv(image: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    pixels = image.clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    return torch.from_numpy(np.ascontiguousarray(change(pixels))).to(image)
