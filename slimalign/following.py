"""The verb ``predict`` over the frames of a video or a camera."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from slimalign.benchmarks.opening import open_bundle
from slimalign.face_finding import least_score_of
from slimalign.passes import Document, Figures, Pass, Told, face_document
from slimalign.records import PointsFile, check_points_path
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import draw_landmarks
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.film_writer import FilmWriter, check_film_path, film_writer
from slimalign.runtimes.frames import Film, Frame, open_film
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.tracker import TrackedFace, Tracker

Image = NDArray[np.uint8]


def follow_film(
    bundle: Bundle, source: str, how: Pass, told: Told, figures: Figures, progress: Progress
) -> None:
    """Landmarks in every frame of the video or camera ``source``; ``told`` gets each frame's document.

    Raises UserError where the source cannot be opened or breaks off, a file cannot be written, or no frame holds
    a face. Whatever ends it, Ctrl-C too: the files hold what was done until then, and ``figures`` count it.
    """
    if how.out is not None:
        check_film_path(how.out)
        if how.out.resolve() == Path(source).resolve():
            raise UserError(f"--out {how.out}: is the video itself; give another name for the drawing")
    if how.points is not None:
        check_points_path(how.points)
    find = how.places.finder()
    with open_film(source) as film, open_bundle(bundle, None, how.backend) as session:
        aligner = Aligner(session, figures.clock)
        # Boxes that are given do not change: they are looked at again only while a face of theirs is missing.
        given = how.places.detector is None
        every, most = (0, max(1, len(how.places.boxes))) if given else (how.find_every, None)
        least = least_score_of(aligner, how.places)
        tracker = Tracker(aligner, find, figures.clock, least, every, how.smoothing, most)
        task = progress.add_task(f"following {source}", total=film.frames)
        frame_by_frame = _FrameByFrame(film, tracker, aligner.manifest.landmark_scheme, how, figures)

        def tell(document: Document) -> None:
            told(document)
            progress.update(task, advance=1)

        try:
            frame_by_frame.run(tell)
        finally:
            progress.remove_task(task)
    how.check_faces(source, figures)


class _FrameByFrame:
    """One pass over a film."""

    def __init__(
        self, film: Film, tracker: Tracker, scheme: LandmarkScheme, how: Pass, figures: Figures
    ) -> None:
        self._film, self._tracker, self._scheme = film, tracker, scheme
        self._how, self._figures = how, figures

    def run(self, told: Told) -> None:
        """Go through the frames; what breaks the pass off is raised once the files are whole."""
        broken: BaseException | None = None
        with ExitStack() as files:
            points = None
            if self._how.points is not None:
                points = files.enter_context(PointsFile(self._how.points, self._scheme.count))
            film_out: FilmWriter | None = None
            self._figures.begin()
            try:
                for number, frame in enumerate(self._figures.clocked("read", self._film)):
                    faces = self._tracker.follow(frame.image, frame.time_s)
                    if self._how.out is not None:
                        # Only now: a video without a frame cannot be written.
                        film_out = film_out or files.enter_context(film_writer(self._how.out, self._film.fps))
                        self._draw(film_out, frame, faces)
                    document = self._counted(number, frame, faces)
                    if points is not None:
                        points.add(document)
                    told(document)
            except BaseException as error:  # noqa: BLE001, whatever it is: it is raised once the files are closed
                broken = error
        if broken is not None:
            raise broken

    def _draw(self, film_out: FilmWriter, frame: Frame, faces: list[TrackedFace]) -> None:
        drawn = frame.image
        with self._figures.clock.stage("draw"):
            for face in faces:
                drawn = draw_landmarks(drawn, face.smoothed, self._scheme)
        with self._figures.clock.stage("write"):
            film_out.write(drawn, frame.time_s)

    def _counted(self, number: int, frame: Frame, faces: list[TrackedFace]) -> Document:
        """The frame's document."""
        self._figures.count(len(faces))
        found = []
        for face in faces:
            if self._how.smoothing is not None:
                self._figures.lag(face.lag_s, face.speeds)
            found.append({"face": face.number, **face_document(face.seen, face.smoothed)})
        return {"frame": number, "time_s": round(frame.time_s, 6), "faces": found}
