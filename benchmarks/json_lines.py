"""A file of JSON lines that whole lines are added to, all or none, whatever a killed writer left of its last one."""

from __future__ import annotations

import io
import json
import os


def append_lines(file: io.FileIO, text: bytes) -> None:
    """Write ``text``, whole lines, at the end of ``file``; a last line that is cut short gives way to it.

    Raises OSError where the disk is full; what the file held before is kept.
    """
    there = read_whole(file)
    start = there.rfind(b"\n") + 1
    if is_json(there[start:]):
        start, text = len(there), b"\n" + text
    file.truncate(start)
    try:
        while text:  # a raw write may be a short one
            text = text[file.write(text) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(start)
        raise


def read_whole(file: io.FileIO) -> bytes:
    """All that ``file`` holds."""
    file.seek(0)
    return file.read()


def is_json(line: bytes) -> bool:
    """Whether ``line`` is whole: an object that is cut anywhere is not JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
