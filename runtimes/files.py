"""Writing files so that a kill or a full disk leaves the old ones whole."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from slimalign.runtimes.errors import UserError

if sys.platform != "win32":
    import fcntl


@contextmanager
def replacing(path: Path, kept: str = "the old file is kept") -> Iterator[Path]:
    """A path beside ``path`` and with its ending to write to; what lies there then takes the place of ``path``.

    The folder is made where it is missing. Where the body fails, nothing is left beside; a kill leaves one
    ``.part`` file, which the next writer overwrites. Processes that write the same file wait for each other.

    Raises UserError for any OSError, within the body too; it says ``kept`` where there is an old file.
    """
    beside = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(beside):
            yield beside
            os.replace(beside, path)
    except OSError as error:
        old = f"; {kept}" if os.path.isfile(path) else ""
        raise UserError(f"{path}: {cannot_be_written(error)}{old}") from None


def check_name(path: Path) -> None:
    """Raise UserError for a name that is not text: neither OpenCV nor JSON takes it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise UserError(f"{shown}: the file's name is not UTF-8; rename it") from None


def cannot_be_written(error: OSError) -> str:
    """What users are told about a file, after its name, where ``error`` came of writing it."""
    return f"cannot be written ({error.strerror or error}); free some space or mend its rights"


def check_replaceable(path: Path) -> None:
    """Raise UserError where ``replacing`` could not put a file at ``path``, before the work that makes what goes there.

    Its folder is made where it is missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path}: {cannot_be_written(error)}") from None


def check_appendable(path: Path) -> None:
    """Raise UserError where nothing could be added to the file ``path``, which may be missing, as its folder may."""
    if not path.exists():
        check_replaceable(path)
        return
    try:
        path.open("r+b").close()
    except OSError as error:
        raise UserError(f"{path}: {cannot_be_written(error)}") from None


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path`` as ``replacing`` does, and raise UserError where that cannot be."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def held(path: Path) -> io.FileIO:
    """The file ``path``, made where it is missing, to read and to append to, and held until it is closed.

    Another process that holds it is waited for; what it has put in its place meanwhile is then held instead. Where
    the system or the file system knows no locks nobody waits.
    """
    while True:
        file = path.open("a+b", buffering=0)
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


@contextmanager
def _claimed(beside: Path) -> Iterator[None]:
    """Hold ``beside`` for the body; it is removed where the body fails."""
    with held(beside) as file:
        if sys.platform == "win32":  # which renames no open file
            file.close()
        try:
            yield
        except BaseException:
            # Only here: after the renaming, a file of this name is already the next writer's.
            with suppress(OSError):
                beside.unlink()
            raise
