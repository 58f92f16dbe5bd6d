"""The golden face that is put into every bundle for devices."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2

from slimalign.compress.data.drawn import DrawnFace, draw_face
from slimalign.runtimes.files import replacing, write_text
from slimalign.runtimes.golden import GOLDEN_FILES, GOLDEN_IMAGE, GOLDEN_NAME, golden_of
from slimalign.runtimes.schemes import LandmarkScheme
from slimalign.runtimes.session import Session

SEED, SIZE = 321, 400
"""A face in colours, seen from the front, all of it in sight; its crop is smaller than it is in the picture."""


def write_golden(folder: Path, session: Session) -> tuple[str, ...]:
    """Put a drawn face and what ``session`` finds on it into ``folder``; the names of the files.

    Raises UserError where they cannot be written.
    """
    face, picture = _drawn(session.manifest.landmark_scheme)
    with replacing(folder / GOLDEN_IMAGE) as beside:
        beside.write_bytes(picture)
    write_text(folder / GOLDEN_NAME, golden_of(session, face.image, face.points).to_json())
    return GOLDEN_FILES


@lru_cache(maxsize=1)
def _drawn(scheme: LandmarkScheme) -> tuple[DrawnFace, bytes]:
    """The face and its PNG, which takes a tenth of a second to make as small as can be."""
    face = draw_face(SEED, scheme, SIZE)
    pixels = cv2.cvtColor(face.image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return face, encoded.tobytes()
