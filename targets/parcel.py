"""Files sent to a machine as one stream: unpacked into a fresh folder beside their places, then renamed into them."""

from __future__ import annotations

import io
import posixpath
import secrets
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import IO

PLACE = "place"
"""The script in a parcel that does the renaming."""


def unpack_line(paths: Iterable[str]) -> str:
    """The line for a shell whose standard input is the parcel of the files that belong at ``paths``.

    What is cut short puts nothing in its place: the script comes last. The ``tar`` of busybox
    is enough.
    """
    part = quote(folder_beside(paths))
    steps = (f"mkdir -p {part}", f"tar -xof - -C {part}", f"sh {part}/{PLACE} {part}")
    return f"trap {quote('rm -rf ' + part)} EXIT; {' && '.join(steps)}"


def folder_beside(paths: Iterable[str]) -> str:
    """A fresh folder, in the one that all ``paths`` lie in."""
    common = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return posixpath.join(".", common, f".part-{secrets.token_hex(8)}")


def write_parcel(files: Mapping[str, Path], to: IO[bytes]) -> None:
    """Write the ``files``, by the paths that they belong at, as a tar; they keep their right to be executed."""
    with tarfile.open(fileobj=to, mode="w|", format=tarfile.USTAR_FORMAT, dereference=True) as tar:
        for number, path in enumerate(files.values()):
            tar.add(path, str(number), recursive=False, filter=_nobodys)
        script = place_script(files).encode()
        member = tarfile.TarInfo(PLACE)
        member.size = len(script)
        tar.addfile(member, io.BytesIO(script))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner: some users' numbers are larger than a tar holds, and there it is another's anyway."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def place_script(paths: Iterable[str]) -> str:
    """The script that renames the files of the folder ``$1``, called 0, 1, ..., to ``paths``."""
    listed = [posixpath.join(".", path) for path in paths]
    folders = dict.fromkeys(quote(posixpath.dirname(path)) for path in listed)
    moves = [f'mv -f "$1"/{number} {quote(path)}' for number, path in enumerate(listed)]
    return "\n".join(["set -e", *(f"mkdir -p {folder}" for folder in folders), *moves, ""])
