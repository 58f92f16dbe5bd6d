"""The verb that finds landmarks in photos, and the documents that scripts read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.readers.images import load_image
from slimalign.runtimes.aligner import Aligner, Landmarks
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.drawing import draw_box, draw_landmarks, write_image
from slimalign.runtimes.errors import UserError

Floats = NDArray[np.floating]


def predict_photo(
    bundle: Path, image_path: Path, boxes: Sequence[str], out: Path | None
) -> list[dict[str, Any]]:
    """One entry a face: ``box``, ``points`` (K, 2) and ``scores`` (K,) in pixels of the photo.

    Without ``boxes`` the whole image is taken as one face, as a crop from a detector would be. With ``out``
    the photo is written there with boxes and landmarks drawn.
    """
    image = load_image(str(image_path), upright=True)
    height, width = image.shape[:2]
    corners = np.array([parse_box(text) for text in boxes] or [[-0.5, -0.5, width - 0.5, height - 0.5]])
    with open_bundle(read_bundle(bundle), threads=None) as session:
        aligner = Aligner(session)
        found = aligner.align(image, corners)
    if out is not None:
        drawn = image
        for box, points in zip(corners, found.points, strict=True):
            drawn = draw_landmarks(draw_box(drawn, box), points, aligner.manifest.landmark_scheme)
        write_image(out, drawn)
    return faces_document(corners, found)


def predict_boxes_file(bundle: Path, boxes_path: Path) -> Iterator[dict[str, Any]]:
    """For each image of a JSON file {"path": [[x0, y0, x1, y1], ...]}: its path and its faces."""
    wanted = _read_boxes(boxes_path)
    with open_bundle(read_bundle(bundle), threads=None) as session:
        aligner = Aligner(session)
        for name, corners in wanted.items():
            found = aligner.align(load_image(name, upright=True), corners)
            yield {"image": name, "faces": faces_document(corners, found)}


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
    if len(values) != 4:
        raise UserError(f"--box {text}: give four numbers x0,y0,x1,y1")
    return values


def _read_boxes(path: Path) -> dict[str, Floats]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: np.array(boxes, dtype=float).reshape(-1, 4) for name, boxes in entries.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the JSON of boxes") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: not {{"path": [[x0, y0, x1, y1], ...]}}: {error}') from None
