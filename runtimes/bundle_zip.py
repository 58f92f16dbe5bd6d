"""Bundles in one file: a zip that holds what the folder holds, unpacked where it is first opened."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing

if TYPE_CHECKING:
    from slimalign.runtimes.bundle import Bundle

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can tell; every entry has it, so that the same files make the same bytes."""
RIGHTS = stat.S_IFREG | 0o644

Read = Callable[[Path], "Bundle"]


def write_zip(folder: Path, names: Sequence[str], path: Path) -> None:
    """Put the files ``names`` of ``folder`` into the zip ``path``, in place of what lies there.

    They are stored as they are: weights hardly shrink, and other versions of a compressor give other bytes. Raises
    UserError where it cannot be written.
    """
    with replacing(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name in sorted(names):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = RIGHTS << 16
            archive.writestr(entry, (folder / name).read_bytes())


def unpacked(path: Path, digest: str, read: Read) -> Bundle:
    """The bundle in the zip ``path``, unpacked into the user's cache by its sha256 ``digest``.

    ``read`` reads and checks a bundle's folder. One that is there already and whole is taken as it is, with the engines
    that were built in it. Raises UserError for a zip that is cut short or holds anything but one bundle's files, and
    leaves nothing of it behind.
    """
    folder = cache_folder() / f"{path.stem}-{digest[:16]}"
    try:
        return read(folder)
    except UserError:  # not there yet, or no longer whole
        _unpack(path, folder, read)
    return read(folder)


def cache_folder() -> Path:
    """Where zips are unpacked: ``slimalign/bundles`` in XDG_CACHE_HOME, or in ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "slimalign" / "bundles"


def _unpack(path: Path, folder: Path, read: Read) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as name:
            part = Path(name) / "new"
            part.mkdir()
            _extract(path, part)
            _check_whole(path, part, read)
            _put(part, folder, read)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be unpacked into {folder} ({error.strerror or error}); free some space, mend its rights,"
            " or name another folder in XDG_CACHE_HOME"
        ) from None


def _extract(path: Path, part: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                _check_entry(path, entry)
            if len({entry.filename.casefold() for entry in entries}) < len(entries):
                raise UserError(f"{path}: holds two files of one name; {WAY_OUT}")
            for entry in entries:
                with archive.open(entry) as source, (part / entry.filename).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path}: no zip, or one cut short or damaged ({error}); {WAY_OUT}") from None


WAY_OUT = "give a bundle's folder or a zip made by 'slimalign export --zip'"


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raise UserError for an entry that is no plain file, or would not lie in the bundle's folder."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    if (
        name in ("", ".", "..")
        or "\0" in name
        or name != PurePosixPath(name).name
        or name != PureWindowsPath(name).name
    ):
        raise UserError(f"{path}: its entry {name!r} lies in a folder or outside; {WAY_OUT}")
    if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
        raise UserError(f"{path}: its entry {name!r} is a link, encrypted or no plain file; {WAY_OUT}")


def _check_whole(path: Path, part: Path, read: Read) -> None:
    """Raise UserError unless the files in ``part`` are those of one bundle, whole, and no others."""
    from slimalign.runtimes.bundle import MANIFEST_NAME

    try:
        bundle = read(part)
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(path))) from None
    foreign = {file.name for file in part.iterdir()} - {MANIFEST_NAME, *bundle.manifest.files}
    if foreign:
        raise UserError(
            f"{path}: holds {', '.join(sorted(foreign))}, which {MANIFEST_NAME} does not name; {WAY_OUT}"
        )


def _put(part: Path, folder: Path, read: Read) -> None:
    """Rename ``part`` to ``folder``; what lies there stays if it is whole, as another process has put it there."""
    try:
        os.replace(part, folder)
    except OSError:
        if not folder.exists():
            raise
        try:
            read(folder)
        except UserError:
            os.replace(folder, part.with_name("old"))
            os.replace(part, folder)
