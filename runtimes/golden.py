"""The golden face of a bundle: a drawn face with all that is found on it, to check another machine or a port against.

``golden.png`` is the face, ``golden.json`` says how it is cut out and what the bundle's file finds on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import tight_box, transform_points
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import load_image
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.session import Session

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]
Row = Sequence[float]

GOLDEN_IMAGE, GOLDEN_NAME = "golden.png", "golden.json"
GOLDEN_FILES = (GOLDEN_IMAGE, GOLDEN_NAME)

PLACES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "upper left": (0.25, 0.25),
        "upper middle": (0.5, 0.25),
        "upper right": (0.75, 0.25),
        "left": (0.25, 0.5),
        "middle": (0.5, 0.5),
        "right": (0.75, 0.5),
        "lower left": (0.25, 0.75),
        "lower middle": (0.5, 0.75),
        "lower right": (0.75, 0.75),
    }
)
"""Where pixels of the crop are kept, in parts of its width and height."""

CONVENTIONS = (
    "x runs to the right, y down; the centre of the first pixel is at 0,0; colours are red, green, blue.",
    "box is x0,y0,x1,y1 in pixels of the image. The crop is the square of side box_scale * max(width, height) about "
    "the box's centre, resampled to input_size pixels a side; both are in bundle.json.",
    "image_to_crop * (x, y, 1) takes a pixel of the image to the crop. n = floor(1 / image_to_crop[0][0]); from n = 2 "
    "on the image is first averaged over cells of n x n pixels and rounded, the first cell starting n pixels left of "
    "and above floor(where the crop's 0,0 lies in the image); then it is interpolated linearly, black outside. A port "
    "may round otherwise: 2 grey levels are no fault.",
    "crop_sha256 is of the crop's bytes, three a pixel, row by row. rgb is a pixel of the crop, input the same as the "
    "network takes it: (rgb / 255 - mean) / std. A file whose input is int8 takes input / scale + zero_point, rounded, "
    "by the numbers in the file.",
    "crop_points are in pixels of the crop, points in pixels of the image; scores are one a point. A port of the whole "
    "may differ by 0.05 pixels of the crop in float32, by 0.25 in fewer bits.",
)


@dataclass(frozen=True)
class CropPixel:
    """A pixel of the crop at ``x``, ``y``: its grey levels ``rgb``, and ``input``, the same as the network takes it."""

    x: int
    y: int
    rgb: Sequence[int]
    input: Row


@dataclass(frozen=True)
class Golden:
    """What ``golden.json`` says, see CONVENTIONS; ``version`` names the library by which the file found the points.

    ``points`` and ``crop_points`` are K rows of x and y, ``scores`` K numbers, ``image_to_crop`` 2 rows of 3.
    """

    box: Row
    image_to_crop: Sequence[Row]
    crop_sha256: str
    crop_pixels: Mapping[str, CropPixel]
    points: Sequence[Row]
    crop_points: Sequence[Row]
    scores: Row
    runtime: str
    version: str

    def to_json(self) -> str:
        """The text of ``golden.json``."""
        entries = {"conventions": CONVENTIONS, "image": GOLDEN_IMAGE, **asdict(self)}
        return json.dumps(entries, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True)
class GoldenCheck:
    """How far what is found here lies from what is in the bundle.

    ``points_px`` is the largest distance of two points in pixels of the crop, ``crop_levels`` the largest difference of
    the crop's kept pixels in grey levels; ``same_crop`` says whether all of the crop is the same to the last bit.
    """

    points_px: float
    crop_levels: int
    same_crop: bool


def golden_of(session: Session, image: Image, points: Floats) -> Golden:
    """What ``session`` finds in ``image`` (H, W, 3) uint8 RGB on the face with the true ``points`` (K, 2)."""
    manifest, box = session.manifest, tight_box(points)
    matrix, crop = manifest.crop_rule.matrix(box), manifest.crop_rule.crop(image, box)
    found = Aligner(session).align(image, box[None])
    return Golden(
        box=box.tolist(),
        image_to_crop=matrix.tolist(),
        crop_sha256=_sha256(crop),
        crop_pixels=_pixels(crop, session),
        points=found.points[0].round(5).tolist(),
        crop_points=transform_points(found.points[0], matrix).round(5).tolist(),
        scores=found.scores[0].round(6).tolist(),
        runtime=session.runtime,
        version=session.version,
    )


def read_golden(bundle: Bundle) -> Golden:
    """The golden face of ``bundle``; raises UserError where it has none."""
    if not set(GOLDEN_FILES) <= set(bundle.manifest.files):
        raise UserError(
            f"{bundle.folder}: holds no golden face ({GOLDEN_NAME}); export it again, in a format for devices"
        )
    entries = json.loads((bundle.folder / GOLDEN_NAME).read_text(encoding="utf-8"))
    del entries["conventions"], entries["image"]
    pixels = {place: CropPixel(**pixel) for place, pixel in entries.pop("crop_pixels").items()}
    return Golden(**entries, crop_pixels=pixels)


def check_golden(bundle: Bundle, session: Session) -> GoldenCheck:
    """Cut out the golden face of ``bundle`` and find its points by ``session``, in which the bundle is open.

    Raises UserError where the bundle has no golden face.
    """
    golden = read_golden(bundle)
    image, box = load_image(str(bundle.folder / GOLDEN_IMAGE)), np.array(golden.box)
    crop = session.manifest.crop_rule.crop(image, box)
    found = Aligner(session).align(image, box[None])
    apart = np.linalg.norm(found.points[0] - np.array(golden.points), axis=1)
    levels = [
        np.abs(crop[pixel.y, pixel.x].astype(int) - pixel.rgb).max() for pixel in golden.crop_pixels.values()
    ]
    return GoldenCheck(
        points_px=float(apart.max() * golden.image_to_crop[0][0]),
        crop_levels=int(max(levels)),
        same_crop=_sha256(crop) == golden.crop_sha256,
    )


def _pixels(crop: Image, session: Session) -> dict[str, CropPixel]:
    inputs = network_inputs(crop[None], session.manifest)[0]
    if session.manifest.layout == "NCHW":
        inputs = inputs.transpose(1, 2, 0)
    places = {name: (int(x * len(crop)), int(y * len(crop))) for name, (x, y) in PLACES.items()}
    return {
        name: CropPixel(x, y, crop[y, x].tolist(), inputs[y, x].astype(float).round(6).tolist())
        for name, (x, y) in places.items()
    }


def _sha256(crop: Image) -> str:
    return hashlib.sha256(crop.tobytes()).hexdigest()
