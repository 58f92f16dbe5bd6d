"""The verb that finds landmarks in photos, and the documents that scripts read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.opening import open_bundle
from slimalign.runtimes.aligner import Aligner, Landmarks
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import check_image_path, draw_box, draw_landmarks, write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import load_image

Floats = NDArray[np.floating]

BOXES_FORM = '{"path": [[x0, y0, x1, y1], ...]}'


def predict_photo(
    bundle: Bundle, image_path: Path, boxes: Sequence[Sequence[float]] = (), out: Path | None = None
) -> list[dict[str, Any]]:
    """One entry a face: ``box``, ``points`` (K, 2) and ``scores`` (K,) in pixels of the photo.

    ``boxes`` are x0, y0, x1, y1 of each face, in pixels of the upright photo. Without them the whole image is
    taken as one face, as a crop from a detector would be. With ``out`` the photo is written there with boxes
    and landmarks drawn; raises UserError before the network is run where that cannot be.
    """
    if out is not None:
        check_image_path(out)
        if out.resolve() == image_path.resolve():
            raise UserError(f"--out {out}: is the photo itself; give another name for the drawing")
    image = load_image(str(image_path), upright=True)
    height, width = image.shape[:2]
    corners = np.array(list(boxes) or [[-0.5, -0.5, width - 0.5, height - 0.5]], dtype=np.float64)
    with open_bundle(bundle, threads=None) as session:
        aligner = Aligner(session)
        found = aligner.align(image, corners)
    if out is not None:
        drawn = image
        for box, points in zip(corners, found.points, strict=True):
            drawn = draw_landmarks(draw_box(drawn, box), points, aligner.manifest.landmark_scheme)
        write_image(out, drawn)
    return faces_document(corners, found)


def predict_boxes_file(bundle: Bundle, boxes_path: Path) -> Iterator[dict[str, Any]]:
    """For each image of a JSON file {"path": [[x0, y0, x1, y1], ...]}: its path and its faces."""
    wanted = _read_boxes(boxes_path)
    with open_bundle(bundle, threads=None) as session:
        aligner = Aligner(session)
        for name, corners in wanted.items():
            yield {"image": name, "faces": faces_document(corners, _aligned(aligner, name, corners))}


def _aligned(aligner: Aligner, name: str, corners: Floats) -> Landmarks:
    image = load_image(name, upright=True)
    try:
        return aligner.align(image, corners)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def faces_document(boxes: Floats, found: Landmarks) -> list[dict[str, Any]]:
    """Faces as JSON: boxes and points in pixels of the image, the centre of the first pixel at (0, 0)."""
    return [
        {"box": box.tolist(), "points": points.tolist(), "scores": scores.tolist()}
        for box, points, scores in zip(boxes, found.points, found.scores, strict=True)
    ]


def parse_box(text: str) -> list[float]:
    """``x0,y0,x1,y1`` as four numbers; raises UserError for anything else."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not _is_box(values):
        raise UserError(f"--box {text}: give four numbers x0,y0,x1,y1")
    return values


def _read_boxes(path: Path) -> dict[str, Floats]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the JSON of boxes") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); give {BOXES_FORM}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path}: not a JSON object; give {BOXES_FORM}")
    return {name: _rows_of_four(f"{path}: {name}", boxes) for name, boxes in entries.items()}


def _rows_of_four(place: str, boxes: Any) -> Floats:
    if not isinstance(boxes, list):
        raise UserError(f"{place}: its boxes are {json.dumps(boxes)}; give a list [[x0, y0, x1, y1], ...]")
    for box in boxes:
        if not _is_box(box):
            raise UserError(f"{place}: box {json.dumps(box)}; give four finite numbers [x0, y0, x1, y1]")
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(type(number) in (int, float) and math.isfinite(number) for number in value)
