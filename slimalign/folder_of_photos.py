"""The verb ``predict`` over the photos of a folder."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.benchmarks.opening import open_bundle
from slimalign.face_finding import drawn_faces, faces_in_photo
from slimalign.passes import Figures, Pass, Told, face_document
from slimalign.records import PointsFile, check_points_path
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import check_image_path, is_image_name, write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_name
from slimalign.runtimes.images import load_image
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.tracker import FindBoxes, SeenFace

Image = NDArray[np.uint8]

WITHOUT_COLOUR = (".pgm", ".pbm")


def predict_folder(
    bundle: Bundle, folder: Path, how: Pass, told: Told, figures: Figures, progress: Progress
) -> None:
    """Landmarks in every photo of ``folder``, in the order of their names; ``told`` gets each photo's document.

    A photo that cannot be read or drawn, or where a given box lies outside, is named at the end in a UserError; the
    others go on. Raises UserError too where there are no photos or none holds a face, or a file cannot be written.
    """
    photos = _photos(folder)
    if how.out is not None:
        if how.out.resolve() == folder.resolve():
            raise UserError(
                f"--out {how.out}: is the folder of the photos itself; give another for the drawings"
            )
        check_image_path(drawing_path(how.out, photos[0]))
    if how.points is not None:
        check_points_path(how.points)
    find = how.places.finder()
    bad: list[str] = []
    task = progress.add_task(f"going through {folder}", total=len(photos))
    with open_bundle(bundle, None, how.backend) as session, ExitStack() as files:
        aligner = Aligner(session, figures.clock)
        points = None
        if how.points is not None:
            points = files.enter_context(PointsFile(how.points, aligner.landmarks))
        figures.begin()
        for photo in photos:
            try:
                image, faces = _looked_at(aligner, photo, how, find, figures)
            except UserError as error:
                bad.append(str(error))
                continue
            finally:
                progress.update(task, advance=1)
            document = {"image": str(photo), "faces": [face_document(face, face.points) for face in faces]}
            if points is not None:
                points.add(document)
            told(document)
            if how.out is not None:
                try:
                    _draw(
                        drawing_path(how.out, photo), image, faces, aligner.manifest.landmark_scheme, figures
                    )
                except UserError as error:
                    bad.append(str(error))
    progress.remove_task(task)
    if bad:
        more = (
            f"; and {len(bad) - 1} more: {', '.join(one.split(': ')[0] for one in bad[1:])}"
            if bad[1:]
            else ""
        )
        raise UserError(f"{bad[0]}{more}")
    how.check_faces(str(folder), figures)


def _photos(folder: Path) -> list[Path]:
    """The files of ``folder`` whose endings are those of images."""
    photos = sorted(path for path in folder.iterdir() if path.is_file() and is_image_name(path))
    if not photos:
        raise UserError(f"{folder}: holds no photos (.jpg, .png ...); give a folder that does")
    return photos


def drawing_path(out: Path, photo: Path) -> Path:
    """Where in ``out`` the drawing of ``photo`` goes: by its name, as .png where its format holds no colour."""
    return out / (f"{photo.name}.png" if photo.suffix.lower() in WITHOUT_COLOUR else photo.name)


def _looked_at(
    aligner: Aligner, photo: Path, how: Pass, find: FindBoxes, figures: Figures
) -> tuple[Image, list[SeenFace]]:
    check_name(photo)
    with figures.clock.stage("read"):
        image = load_image(str(photo), upright=True)
    try:
        faces = faces_in_photo(aligner, image, how.places, find, figures.clock)
    except UserError as error:
        raise UserError(f"{photo}: {error}") from None
    figures.count(len(faces))
    return image, faces


def _draw(path: Path, image: Image, faces: list[SeenFace], scheme: LandmarkScheme, figures: Figures) -> None:
    with figures.clock.stage("draw"):
        drawn = drawn_faces(image, faces, scheme)
    with figures.clock.stage("write"):
        write_image(path, drawn)
