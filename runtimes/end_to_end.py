"""The calls that the protocol ``end-to-end`` times: images in memory and face boxes in, landmarks out.

Python 3.6 syntax, see session.py. Cutting faces out takes OpenCV, which a device that times the kernel alone need not
have: nothing else imports this there.
"""

import io
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Sequence

import cv2
import numpy as np

from slimalign.runtimes.aligner import Aligner, Face
from slimalign.runtimes.session import Session, check_batch
from slimalign.runtimes.sweep import FACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


def end_to_end_calls(
    session: Session, faces: Sequence[Face], batch: int, landmarks: Optional[int] = None
) -> "List[Callable[[], Floats]]":
    """Calls on different batches of ``faces``, N >= 1, which are repeated where there are fewer than ``batch``.

    Each cuts its faces out of their images, normalises them, runs the network once on all of them, decodes what it
    finds and gives the points (``batch``, K, 2) in pixels of the images; K is ``landmarks``, by default that of the
    bundle's scheme. Raises UserError for a batch size that the file cannot run.
    """
    turns = [faces[place % len(faces)] for place in range(max(min(len(faces), FACES), batch))]
    check_batch(turns[:batch], session.manifest)  # an aligner would fill it up
    aligner = Aligner(session, landmarks=landmarks, largest_batch=batch)
    starts = range(0, len(turns) - batch + 1, batch)
    return [partial(_points, aligner, turns[start : start + batch]) for start in starts]


def _points(aligner: Aligner, faces: Sequence[Face]) -> "Floats":
    # OpenCV has one number of threads for the whole process, and sessions with several take turns.
    cv2.setNumThreads(aligner.session.threads)
    return aligner.align_faces(faces).points


def packed_faces(faces: Sequence[Face]) -> bytes:
    """A file of ``faces``, N >= 1, for ``read_faces``, lossless; the same faces make the same file."""
    file = io.BytesIO()
    np.savez_compressed(file, np.stack([face.box for face in faces]), *(face.image for face in faces))
    return file.getvalue()


def read_faces(path: str) -> List[Face]:
    """The faces in a file of ``packed_faces``."""
    with np.load(path) as file:
        return [Face(file[f"arr_{place}"], box) for place, box in enumerate(file["arr_0"], 1)]


@contextmanager
def opencv_threads_kept() -> Iterator[None]:
    """Whatever the body measures, OpenCV has as many threads after it as before."""
    threads = cv2.getNumThreads()
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
