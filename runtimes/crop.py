"""The square crop around a face, and the way of points into it and back.

Pixel convention, here and everywhere: the centre of the first pixel is at (0, 0), x to the right, y down.
Python 3.6 syntax, see session.py.
"""

import math
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Manifest

    Floats = NDArray[np.floating]
    Image = NDArray[np.uint8]

MOST_PADDING = 4
"""Area of whole cells over that of the image, up to which the image is padded to them."""


class CropRule(NamedTuple):
    """How a face box becomes a network's input.

    The crop is the square of side ``box_scale`` x max(width, height) about the centre of the box,
    resampled to ``size`` x ``size`` pixels; outside the image it is black.
    """

    size: int
    box_scale: float = 1.25

    @classmethod
    def of(cls, manifest: "Manifest") -> "CropRule":
        """The rule of a bundle."""
        return cls(manifest.input_size, manifest.box_scale)

    def matrix(self, box: "Floats") -> "Floats":
        """The 2x3 matrix that takes image pixels to crop pixels; ``box`` is x0, y0, x1, y1."""
        x0, y0, x1, y1 = (float(value) for value in box)
        side = self.box_scale * max(x1 - x0, y1 - y0)
        scale = self.size / side if side > 0 else np.nan
        # The side of a box can be so small that its inverse overflows.
        if not (np.isfinite(side) and np.isfinite(scale)):
            raise UserError(f"box {x0:g},{y0:g},{x1:g},{y1:g}: x1 > x0 and y1 > y0 are needed")
        offset = self.size / 2 - 0.5
        return np.array(
            [
                [scale, 0.0, offset - scale * (x0 + x1) / 2],
                [0.0, scale, offset - scale * (y0 + y1) / 2],
            ]
        )

    def crop(self, image: "Image", box: "Floats", out: "Optional[Image]" = None) -> "Image":
        """Cut the face out: ``image`` (H, W, 3) uint8 -> (size, size, 3) uint8, into ``out`` where that is given."""
        return warp(image, self.matrix(box), self.size, out)

    def looked_at(self, image: "Image", box: "Floats") -> "Tuple[Image, Floats]":
        """The part of ``image`` that ``crop`` looks at, an array of its own, and ``box`` in that part's pixels.

        Of a face inside the image, cutting it out of the part gives the same crop by the same work.
        """
        matrix = self.matrix(box)
        pixel = 1.0 / matrix[0, 0]
        # As far as warp reads: cells of the reduced image stand out on every side.
        margin = 3 * max(int(pixel), 1) + 3
        first = np.floor(-matrix[:, 2] * pixel) - margin
        last = np.ceil((self.size - matrix[:, 2]) * pixel) + margin
        size = np.array([image.shape[1], image.shape[0]])
        left, top = (int(value) for value in np.clip(first, 0, size))
        right, bottom = (int(value) for value in np.clip(last, 0, size))
        return image[top:bottom, left:right].copy(), box - np.array([left, top, left, top])


def warp(image: "Image", matrix: "Floats", size: int, out: "Optional[Image]" = None) -> "Image":
    """Resample ``image`` (H, W, 3) by a 2x3 image-to-crop ``matrix`` (uniform scale, no rotation) to size x size.

    A strong reduction is first averaged over whole pixels, so that fine texture does not alias. The answer is ``out``
    where that is given, a contiguous array of its shape.
    """
    if out is None:
        out = np.empty((size, size, 3), dtype=np.uint8)
    shrink = int(1.0 / matrix[0, 0])
    reduced = (image, matrix) if shrink < 2 else _reduced(image, matrix, size, shrink)
    if reduced is None:
        out[:] = 0
    else:
        _warp_affine(*reduced, out)
    return out


def _warp_affine(image: "Image", matrix: "Floats", out: "Image") -> None:
    # With four channels OpenCV takes a third of the time that it takes with three, and finds the same.
    size, scale = len(out), float(matrix[0, 0])
    spans = []
    for shift, length in zip(matrix[:, 2].tolist(), (image.shape[1], image.shape[0])):
        first = max(math.floor(-shift / scale) - 1, 0)
        spans.append((first, max(min(math.ceil((size - shift) / scale) + 2, length), first)))
    (left, right), (top, bottom) = spans
    seen = image[top:bottom, left:right]
    if seen.size == 0:
        out[:] = 0
        return
    moved = matrix.copy()
    moved[:, 2] += scale * np.array([left, top])
    cut = cv2.warpAffine(
        cv2.cvtColor(seen, cv2.COLOR_RGB2RGBA),
        moved,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    cv2.cvtColor(cut, cv2.COLOR_RGBA2RGB, dst=out)


def _reduced(image: "Image", matrix: "Floats", size: int, shrink: int) -> "Optional[Tuple[Image, Floats]]":
    """The part of ``image`` that the crop shows in means over ``shrink`` x ``shrink`` pixels, and the matrix for it.

    None where the crop shows nothing of the image.
    """
    if shrink**2 > 2 * 255 * image.shape[0] * image.shape[1]:
        return None  # the whole image, were it white, is less than half a grey level in one cell
    scale = matrix[0, 0]
    corner = np.floor(-matrix[:, 2] / scale).astype(int) - shrink
    image_size = np.array([image.shape[1], image.shape[0]])
    # Cells of shrink x shrink pixels, counted from the corner; only those that meet the image are averaged.
    first = np.maximum(0, -corner // shrink)
    last = np.minimum(np.ceil(size / scale / shrink).astype(int) + 3, -(-(image_size - corner) // shrink))
    if (last <= first).any():
        return None
    corner = corner + first * shrink
    columns, rows = (int(n) for n in last - first)
    # A reduced pixel r has its centre at image coordinate corner + (r + 0.5) * shrink - 0.5.
    inner = matrix.copy()
    inner[:, 2] += scale * (corner + 0.5 * shrink - 0.5)
    inner[:, :2] *= shrink
    return _cell_means(image, corner, (columns, rows), shrink), inner


def _cell_means(image: "Image", corner: "NDArray[np.int_]", cells: Tuple[int, int], side: int) -> "Image":
    """Means over ``cells`` (columns, rows) of side x side pixels from ``corner`` (x, y), black outside the image."""
    columns, rows = cells
    if columns * rows * side**2 > MOST_PADDING * image.shape[0] * image.shape[1]:
        return _large_cell_means(image, corner, cells, side)
    region = _region(image, corner, (columns * side, rows * side))
    return np.asarray(cv2.resize(region, cells, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _large_cell_means(
    image: "Image", corner: "NDArray[np.int_]", cells: Tuple[int, int], side: int
) -> "Image":
    """The same means without the padding, for cells that reach far beyond the image."""
    height, width, channels = image.shape
    xs = np.clip(corner[0] + side * np.arange(cells[0] + 1), 0, width)
    ys = np.clip(corner[1] + side * np.arange(cells[1] + 1), 0, height)
    sums = np.array(
        [
            [cv2.sumElems(image[y0:y1, x0:x1]) for x0, x1 in zip(xs[:-1], xs[1:])]
            for y0, y1 in zip(ys[:-1], ys[1:])
        ],
        dtype=np.float32,
    )
    # In single precision as OpenCV's resize, so that both ways round alike.
    means = sums[..., :channels] * (np.float32(1) / np.float32(side**2))
    return np.asarray(np.rint(means), dtype=np.uint8)


def _region(image: "Image", corner: "NDArray[np.int_]", sides: Tuple[int, int]) -> "Image":
    """The rectangle of (width, height) whole pixels from ``corner`` (x, y), black where it leaves the image."""
    height, width = image.shape[:2]
    x0, y0 = np.clip(corner, 0, (width, height))
    x1, y1 = np.clip(corner + np.array(sides), 0, (width, height))
    if (x1 - x0, y1 - y0) == sides:
        return image[y0:y1, x0:x1]
    region = np.zeros((sides[1], sides[0], image.shape[2]), dtype=np.uint8)
    region[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]] = image[y0:y1, x0:x1]
    return region


def transform_points(points: "Floats", matrix: "Floats") -> "Floats":
    """Apply a 2x3 affine ``matrix`` to ``points`` (..., 2)."""
    result: "Floats" = points @ matrix[:, :2].T + matrix[:, 2]
    return result


def invert(matrix: "Floats") -> "Floats":
    """The inverse of a 2x3 affine matrix."""
    # By hand: for two rows NumPy's own takes ten times as long.
    (a, b, x), (c, d, y) = matrix.tolist()
    area = a * d - b * c
    inverse: "Floats" = np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / area
    return inverse


def tight_box(points: "Floats") -> "Floats":
    """The smallest box around ``points`` (K, 2): x0, y0, x1, y1."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
