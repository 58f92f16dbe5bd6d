"""The verb that finds landmarks in photos, and the documents that scripts read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.benchmarks.opening import open_bundle
from slimalign.face_finding import FacePlaces, drawn_faces, faces_in_photo
from slimalign.folder_of_photos import predict_folder
from slimalign.following import follow_film
from slimalign.passes import Figures, Pass, Told, face_document
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import check_image_path, write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_name
from slimalign.runtimes.frames import is_film
from slimalign.runtimes.images import load_image
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.runtimes.stage_clock import StageClock
from slimalign.runtimes.tracker import SeenFace

Floats = NDArray[np.floating]

BOXES_FORM = '{"path": [[x0, y0, x1, y1], ...]}'


def predict_photo(
    bundle: Bundle,
    image_path: Path,
    places: FacePlaces,
    out: Path | None = None,
    backend: Backend = DEFAULT_BACKEND,
) -> list[dict[str, Any]]:
    """One entry a face: ``box``, ``points`` (K, 2) and ``scores`` (K,) in pixels of the upright photo.

    Without boxes and detector in ``places`` the whole image is taken as one face, as a crop from a detector would be.
    With ``out`` the photo is written there with boxes and landmarks drawn; raises UserError before the network is run
    where that cannot be, and where the detector finds no face.
    """
    if out is not None:
        check_image_path(out)
        if out.resolve() == image_path.resolve():
            raise UserError(f"--out {out}: is the photo itself; give another name for the drawing")
    check_name(image_path)
    image = load_image(str(image_path), upright=True)
    find = places.finder()
    with open_bundle(bundle, None, backend) as session:
        aligner = Aligner(session)
        faces = faces_in_photo(aligner, image, places, find, StageClock())
    if not faces:
        way = "give its --box, or another --detector"
        if places.detector is None:
            way = "no box reaches --least-score; lower it, or give the face's --box"
        raise UserError(f"{image_path}: no face found; {way}")
    if out is not None:
        write_image(out, drawn_faces(image, faces, aligner.manifest.landmark_scheme))
    return [face_document(face, face.points) for face in faces]


def predict_many(
    bundle: Bundle, source: str, how: Pass, told: Told, figures: Figures, progress: Progress
) -> None:
    """Landmarks in every image of ``source``, a folder or what ``is_film`` says is one; see their two functions."""
    if is_film(source):
        follow_film(bundle, source, how, told, figures, progress)
    else:
        predict_folder(bundle, Path(source), how, told, figures, progress)


def is_photo(source: str) -> bool:
    """Whether ``source`` is taken for one photo: neither a video, a camera nor a folder."""
    return not is_film(source) and not Path(source).is_dir()


def predict_boxes_file(
    bundle: Bundle, boxes_path: Path, backend: Backend = DEFAULT_BACKEND
) -> Iterator[dict[str, Any]]:
    """For each image of a JSON file {"path": [[x0, y0, x1, y1], ...]}: its path and its faces."""
    wanted = _read_boxes(boxes_path)
    with open_bundle(bundle, None, backend) as session:
        aligner = Aligner(session)
        for name, corners in wanted.items():
            yield {
                "image": name,
                "faces": [face_document(face, face.points) for face in _seen(aligner, name, corners)],
            }


def _seen(aligner: Aligner, name: str, corners: Floats) -> list[SeenFace]:
    image = load_image(name, upright=True)
    try:
        found = aligner.align(image, corners)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return [SeenFace(*parts) for parts in zip(corners, found.points, found.scores, strict=True)]


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
