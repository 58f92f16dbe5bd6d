"""A file of JSON lines that whole lines are added to, all or none, whatever a killed writer left of its last one."""

from __future__ import annotations

import io
import json
import os

from slimalign.runtimes.errors import UserError

START = b'{"kind": '
"""Of every line that is written."""


def append_lines(file: io.FileIO, text: bytes) -> bool:
    """Write ``text``, whole lines, at the end of ``file``; a last line that is cut short gives way to it.

    True where there was one. Raises OSError where the disk is full, and UserError where the last line is none of ours;
    what the file held before is kept.
    """
    there = read_whole(file)
    check_last_line(there)
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
    return start < len(there)


def check_last_line(there: bytes) -> None:
    """Raise UserError unless the last line of what a file holds, whole or cut short, is one that lines are added to."""
    last = there.rstrip(b"\n").rpartition(b"\n")[2]
    is_cut = not there.endswith(b"\n") and START.startswith(last)
    if last and not (last.startswith(START) or is_cut or is_json_of_kind(last)):
        raise UserError(
            "it ends with a line that is no record; give a results file, or the name of a new one"
        )


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


def is_json_of_kind(line: bytes) -> bool:
    """Whether ``line`` is an object with a ``kind``, whoever wrote it."""
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "kind" in found
