"""Files sent as one stream: what is cut short anywhere puts nothing in its place."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.targets.parcel import unpack_line, write_parcel

PATHS = ("models/it's $HOME/-a", "models/b", "c")


def parcel(sources: Path) -> bytes:
    files = {}
    for number, path in enumerate(PATHS):
        files[path] = sources / str(number)
        files[path].write_bytes(bytes([number]) * 700 * number)
    made = io.BytesIO()
    write_parcel(files, made)
    return made.getvalue()


def unpacked(data: bytes, home: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", unpack_line(PATHS)], input=data, cwd=home, capture_output=True, check=False
    )


@given(st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_parcel_cut_short_leaves_all_as_it_was(part: float) -> None:
    with TemporaryDirectory() as sources, TemporaryDirectory() as name:
        home, data = Path(name), parcel(Path(sources))
        (home / "c").write_text("old")
        done = unpacked(data[: int(part * len(data.rstrip(b"\0")))], home)
        assert done.returncode != 0
        assert (home / "c").read_text() == "old"
        assert [path for path in home.rglob("*") if path.is_file()] == [home / "c"]


def test_a_whole_parcel_is_put_in_its_places(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = unpacked(parcel(tmp_path), home)
    assert (done.returncode, done.stderr) == (0, b"")
    found = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert found == {path: bytes([number]) * 700 * number for number, path in enumerate(PATHS)}


def test_a_link_is_sent_as_what_it_leads_to_and_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a model")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    made = io.BytesIO()
    real = tarfile.TarFile.gettarinfo

    def of_a_large_directory(self: tarfile.TarFile, *given: Any, **named: Any) -> tarfile.TarInfo:
        member = real(self, *given, **named)
        member.uid = 1234567890
        return member

    monkeypatch.setattr(tarfile.TarFile, "gettarinfo", of_a_large_directory)
    write_parcel({"c": tmp_path / "link"}, made)
    made.seek(0)
    with tarfile.open(fileobj=made) as tar:
        first = tar.getmembers()[0]
        assert (first.isfile(), first.size, first.uid, first.uname) == (True, 7, 0, "")


def test_a_local_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_parcel({"a": tmp_path / "nowhere"}, io.BytesIO())
