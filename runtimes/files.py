"""Writing files so that a kill or a full disk leaves the old ones whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

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


def cannot_be_written(error: OSError) -> str:
    """What users are told about a file, after its name, where ``error`` came of writing it."""
    return f"cannot be written ({error.strerror or error}); free some space or mend its rights"


def check_writable(path: Path) -> None:
    """Raise UserError where ``path`` could not be written, before the work that makes what goes there.

    Its folder is made where it is missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.open("r+b").close()
        else:
            TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path}: {cannot_be_written(error)}") from None


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path`` as ``replacing`` does, and raise UserError where that cannot be."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def lock(descriptor: int) -> None:
    """Hold the open file of ``descriptor`` until it is closed; another process that holds it is waited for.

    Without effect where the system or the file system knows no locks.
    """
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def _claimed(beside: Path) -> Iterator[None]:
    """Hold ``beside`` for the body; it is removed where the body fails."""
    with closing(_locked(beside)) as held:
        if sys.platform == "win32":  # which renames no open file
            held.close()
        try:
            yield
        except BaseException:
            # Only here: after the renaming, a file of this name is already the next writer's.
            with suppress(OSError):
                beside.unlink()
            raise


def _locked(beside: Path) -> BinaryIO:
    while True:
        file = beside.open("ab")
        lock(file.fileno())
        # Whoever held it before has renamed or removed it; then there is a new one to be held.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), beside.stat()):
                return file
        file.close()
