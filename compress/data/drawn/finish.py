"""What a camera does to the picture: light over the scene, exposure, blur, noise, compression."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_NOISE_SIDE = 640
_NOISE_UNIT = 24.0


@lru_cache(maxsize=1)
def _noise() -> Image:
    """A fixed field of normal noise about 128, ``_NOISE_UNIT`` a standard deviation; windows of it are used."""
    field = np.random.default_rng(1).standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3), dtype=np.float32)
    return _bytes(np.clip(128.0 + _NOISE_UNIT * field, 0.0, 255.0))


def finished(rng: np.random.Generator, image: Image) -> Image:
    """The picture as a camera of random quality gives it; same shape, uint8 RGB."""
    lot = rng.random(7)
    if lot[0] < 0.6:
        image = _uneven_light(rng, image)
    image = _exposed(rng, image)
    if lot[1] < 0.07:
        image = _grey(image)
    if lot[2] < 0.45:
        image = _blurred(rng, image)
    if lot[3] < 0.05:
        image = _shaken(rng, image)
    if lot[4] < 0.7:
        image = _noisy(rng, image)
    if lot[5] < 0.3:
        image = _compressed(image, int(rng.integers(25, 85)))
    return image


def _bytes(image: cv2.typing.MatLike) -> Image:
    return np.asarray(image, dtype=np.uint8)


def _uneven_light(rng: np.random.Generator, image: Image) -> Image:
    """Soft shadows and patches of light, a few across the picture."""
    cells = int(rng.integers(2, 6))
    gain = np.clip(
        128.0 + 128.0 * rng.uniform(0.05, 0.2) * rng.standard_normal((cells, cells, 1)), 40.0, 220.0
    )
    small = np.repeat(gain, 3, axis=2).astype(np.uint8)
    side = image.shape[0]
    field = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    return _bytes(cv2.multiply(image, field, scale=1.0 / 128.0))


def _exposed(rng: np.random.Generator, image: Image) -> Image:
    """White balance, then gamma, contrast and brightness by one table."""
    gamma, contrast = np.exp(rng.normal(0.0, 0.22)), rng.uniform(0.65, 1.2)
    balance = np.clip(rng.normal(1.0, 0.06, 3), 0.8, 1.2)
    tone = (np.linspace(0.0, 1.0, 256) ** gamma - 0.5) * contrast + 0.5 + rng.normal(0.0, 0.06)
    table = np.clip(255.0 * tone, 0.0, 255.0).astype(np.uint8)
    # One table a channel would take OpenCV several times as long as these two steps.
    return _bytes(cv2.LUT(cv2.transform(image, np.diag(balance)), table))


def _grey(image: Image) -> Image:
    return _bytes(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _blurred(rng: np.random.Generator, image: Image) -> Image:
    sigma = rng.uniform(0.4, 1.6) * image.shape[0] / 256.0
    reach = max(1, round(2.5 * sigma))
    return _bytes(cv2.GaussianBlur(image, (2 * reach + 1, 2 * reach + 1), sigma))


def _shaken(rng: np.random.Generator, image: Image) -> Image:
    """Motion blur along a line that is centred, so that the landmarks stay where they are."""
    side = 2 * int(rng.integers(2, 5)) + 1
    kernel = np.zeros((side, side), dtype=np.float32)
    turn, middle = rng.uniform(0.0, np.pi), side // 2
    reach = middle * np.array([np.cos(turn), np.sin(turn)])
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0)
    return _bytes(cv2.filter2D(image, -1, kernel / kernel.sum()))


def _noisy(rng: np.random.Generator, image: Image) -> Image:
    side = image.shape[0]
    if side > _NOISE_SIDE:
        field = cv2.resize(_noise(), (side, side), interpolation=cv2.INTER_NEAREST)
    else:
        x, y = rng.integers(0, _NOISE_SIDE - side + 1, 2)
        field = _noise()[y : y + side, x : x + side]
    weight = rng.uniform(0.5, 9.0) / _NOISE_UNIT
    return _bytes(cv2.addWeighted(image, 1.0, field, weight, -128.0 * weight))


def _compressed(image: Image, quality: int) -> Image:
    """A round trip through JPEG."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV cannot read the JPEG that it wrote")
    return _bytes(decoded)
