"""Pictures in the page: the architecture as SVG, predictions as a small JPEG, both within the page's text."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import load_image

SHEET_WIDTH = 1160
"""Pixels; a wider sheet of predictions is made smaller."""
QUALITY = 78
MOST_BYTES = 1_500_000


def architecture_uri(path: Path) -> str:
    """The network that ``path``, an architecture's JSON, tells of, drawn, as a data URI."""
    from slimalign.compress.networks.architecture import read_architecture
    from slimalign.compress.pictures import draw_architecture

    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "architecture.svg"
        draw_architecture(read_architecture(path), drawn)
        return _uri("image/svg+xml", drawn.read_bytes())


def predictions_uri(path: Path) -> str:
    """The sheet of predictions at ``path``, made small enough for a page, as a data URI."""
    image = cv2.cvtColor(load_image(str(path)), cv2.COLOR_RGB2BGR)
    height, width = image.shape[:2]
    if width > SHEET_WIDTH:
        size = (SHEET_WIDTH, round(height * SHEET_WIDTH / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done or len(data) > MOST_BYTES:
        raise UserError(f"{path}: too large for a page ({len(data)} bytes); leave it out of the folder")
    return _uri("image/jpeg", data.tobytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"
