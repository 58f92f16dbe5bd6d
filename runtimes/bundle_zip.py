"""Bundles in one file: a zip that holds what the folder holds, unpacked where it is first opened."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can tell; every entry has it, so that the same files make the same bytes."""
MANIFEST_NAME = "bundle.json"
LARGEST_MANIFEST = 1 << 20
"""Bytes; a manifest has some hundreds."""
LARGEST_GROWTH = 100
"""By how much a file may grow; weights hardly shrink in a zip."""
LONGEST_NAME = 200
"""Bytes of a file's name; systems take 255."""
RIGHTS = stat.S_IFREG | 0o644

Opened = TypeVar("Opened")
Read = Callable[[Path], Opened]


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


def unpacked(path: Path, digest: str, read: Read[Opened]) -> Opened:
    """The bundle in the zip ``path``, unpacked into the user's cache by its sha256 ``digest``.

    ``read`` reads and checks a bundle's folder. One that is there already and whole is taken as it is, with the engines
    that were built in it. Raises UserError for a zip that is cut short or holds anything but one bundle's files, and
    leaves nothing of it behind.
    """
    return kept_in_cache(path, digest, _extract, read)


def kept_in_cache(path: Path, digest: str, fill: Callable[[Path, Path], None], read: Read[Opened]) -> Opened:
    """The bundle in the user's cache that is made of ``path``, whose content has the sha256 ``digest``.

    One that is there and whole is taken as it is. Else ``fill`` writes what ``path`` stands for into an empty folder,
    its second argument; once that can be ``read``, it is renamed. Raises UserError, and leaves nothing behind, where it
    cannot.
    """
    folder = cache_folder() / f"{path.stem}-{digest[:16]}"
    try:
        return read(folder)
    except UserError:  # not there yet, or no longer whole
        _make(path, folder, fill, read)
    return read(folder)


def cache_folder() -> Path:
    """Where zips are unpacked: ``slimalign/bundles`` in XDG_CACHE_HOME, or in ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "slimalign" / "bundles"


def _make(path: Path, folder: Path, fill: Callable[[Path, Path], None], read: Read[Opened]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as name:
            part = Path(name) / "new"
            part.mkdir()
            fill(path, part)
            _check_whole(path, part, read)
            _put(part, folder, read)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be unpacked into {folder} ({error.strerror or error}); free some space, mend its rights,"
            " or name another folder in XDG_CACHE_HOME"
        ) from None


def _extract(path: Path, part: Path) -> None:
    """Write the archive's entries into ``part``, the manifest first: it says which others there may be."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            for entry in archive.infolist():
                _check_entry(path, entry)
            if len({name.casefold() for name in entries}) < len(archive.infolist()):
                raise UserError(f"{path}: holds two files of one name; {WAY_OUT}")
            named = _named(path, archive, entries)
            foreign = sorted(set(entries) - {MANIFEST_NAME, *named})
            if foreign:
                raise UserError(
                    f"{path}: holds {', '.join(foreign)}, which {MANIFEST_NAME} does not name; {WAY_OUT}"
                )
            for name, entry in entries.items():
                with archive.open(entry) as source, (part / name).open("xb") as target:
                    shutil.copyfileobj(source, target)
    # A file that is cut or damaged may name compressions, versions and encodings that there are not.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as error:
        raise UserError(f"{path}: no zip, or one cut short or damaged ({error}); {WAY_OUT}") from None


def _named(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> set[str]:
    """The files that the archive's manifest names; whether it is a manifest is seen once it is unpacked."""
    entry = entries.get(MANIFEST_NAME)
    if entry is None:
        raise UserError(f"{path}: not a bundle, it holds no {MANIFEST_NAME}; {WAY_OUT}")
    if entry.file_size > LARGEST_MANIFEST:
        raise UserError(f"{path}: its {MANIFEST_NAME} says it is {entry.file_size} bytes long; {WAY_OUT}")
    try:
        data = json.loads(archive.read(entry))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}/{MANIFEST_NAME}: not valid JSON ({error}); export the bundle again"
        ) from None
    files = data.get("files") if isinstance(data, dict) else None
    return set(files) if isinstance(files, dict) else set()


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
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(f"{path}: its entry {name[:40]!r}... has too long a name; {WAY_OUT}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{path}: its entry {name!r} is compressed otherwise than zips commonly are; {WAY_OUT}"
        )
    if entry.file_size > max(LARGEST_GROWTH * entry.compress_size, LARGEST_MANIFEST):
        raise UserError(f"{path}: its entry {name!r} says it is {entry.file_size} bytes long; {WAY_OUT}")


def _check_whole(path: Path, part: Path, read: Read[Opened]) -> None:
    """Raise UserError unless the files in ``part`` are those of one bundle, and whole."""
    try:
        read(part)
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(path))) from None


def _put(part: Path, folder: Path, read: Read[Opened]) -> None:
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
