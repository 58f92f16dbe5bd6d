"""What was found, image by image: as JSON lines or CSV, written as it comes so that a break keeps it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import cannot_be_written, check_replaceable

CSV, JSON_LINES = ".csv", ".jsonl"


def check_points_path(path: Path) -> None:
    """Raise UserError unless ``path`` ends in .csv or .jsonl and can be written."""
    if path.suffix.lower() not in (CSV, JSON_LINES):
        raise UserError(
            f"{path}: points are written as CSV or as JSON lines; end it in {CSV} or {JSON_LINES}"
        )
    check_replaceable(path)


class PointsFile:
    """The file that ``--points`` names, a context manager; its ending says what it is.

    It takes documents of one image each: ``image`` (a name) or ``frame`` and ``time_s``, and ``faces`` of ``landmarks``
    points. JSON lines are these documents; CSV has a row a face, and none for an image without one. Each is in the
    file before ``add`` returns; an old file gives way to the first. Raises UserError where the file cannot be written.
    """

    def __init__(self, path: Path, landmarks: int) -> None:
        check_points_path(path)
        self._path = path
        self._landmarks = landmarks
        self._file: TextIO | None = None

    def add(self, document: Mapping[str, Any]) -> None:
        """Write one image's document."""
        is_csv = self._path.suffix.lower() == CSV
        try:
            # Only now: where nothing comes, an old file is kept.
            first = self._file is None
            file = self._file = self._file or self._path.open("w", encoding="utf-8", newline="")
            if is_csv:
                head = [csv_header(self._landmarks)] if first else []
                csv.writer(file, lineterminator="\n").writerows([*head, *csv_rows(document)])
            else:
                file.write(json.dumps(document, allow_nan=False) + "\n")
            file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: {cannot_be_written(error)}") from None

    def __enter__(self) -> PointsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def csv_header(landmarks: int) -> list[str]:
    """The columns: the image, the face and its box, then x, y and score of each point."""
    names = [f"{name}{point}" for point in range(landmarks) for name in ("x", "y", "score")]
    return ["image", "frame", "time_s", "face", "box_x0", "box_y0", "box_x1", "box_y1", *names]


def csv_rows(document: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each face of an image."""
    place = [document.get(name, "") for name in ("image", "frame", "time_s")]
    rows = []
    for number, face in enumerate(document["faces"]):
        points = zip(face["points"], face["scores"], strict=True)
        values = [value for (x, y), score in points for value in (x, y, score)]
        rows.append([*place, face.get("face", number), *face["box"], *values])
    return rows
