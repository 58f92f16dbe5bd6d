"""Bundles as zips: opened like their folders, refused whole, and never half unpacked."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cells import CROPS, expected_points, onnx_bundle
from dots import dot_bench, dotted_faces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from slimalign.cli import app
from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, is_bundle, read_bundle
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import open_session


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slimalign" / "bundles"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "cells").mkdir()
    return onnx_bundle(tmp_path / "cells")


@pytest.fixture
def packed(bundle: Bundle) -> Path:
    path = bundle.folder.with_suffix(".zip")
    bundle.write_zip(path)
    return path


def test_a_zip_is_opened_like_its_folder(bundle: Bundle, packed: Path, cache: Path) -> None:
    assert is_bundle(packed)
    opened = read_bundle(packed)
    assert (opened.manifest, opened.sha256) == (bundle.manifest, bundle.sha256)
    assert opened.folder.parent == cache
    with open_session(opened, threads=1) as session:
        np.testing.assert_allclose(Aligner(session).align_crops(CROPS).points, expected_points(3))


def test_the_same_bundle_makes_the_same_bytes(bundle: Bundle, packed: Path, tmp_path: Path) -> None:
    for path in bundle.folder.iterdir():
        path.touch()
        path.chmod(0o600)
    (bundle.folder / "engines").mkdir()
    (bundle.folder / "engines" / "sm87.engine").write_bytes(b"for one GPU")
    bundle.write_zip(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert zipfile.ZipFile(packed).namelist() == [MANIFEST_NAME, "model.onnx"]


def test_it_is_unpacked_once_and_again_where_a_file_is_damaged(packed: Path, cache: Path) -> None:
    folder = read_bundle(packed).folder
    engine = folder / "engines" / "sm87.engine"
    engine.parent.mkdir()
    engine.write_bytes(b"built on the device")
    assert read_bundle(packed).folder == folder
    assert engine.exists()
    (folder / "model.onnx").write_bytes(b"cut sh")
    assert read_bundle(packed).folder == folder
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_another_zip_of_the_same_name_is_another_bundle(tmp_path: Path, packed: Path, cache: Path) -> None:
    first = read_bundle(packed)
    (tmp_path / "other").mkdir()
    onnx_bundle(tmp_path / "other", decoder="argmax-quarter").write_zip(packed)
    assert read_bundle(packed).manifest.decoder == "argmax-quarter"
    assert first.manifest.decoder == "local-mean"
    assert len(list(cache.iterdir())) == 2


def test_several_that_open_it_at_once_find_it_whole(packed: Path, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = {one.folder for one in pool.map(read_bundle, [packed] * 16)}
    assert len(folders) == 1
    assert len(list(cache.iterdir())) == 1


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, mode << 16
    return made


def add(*entries: zipfile.ZipInfo) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            for one in entries:
                archive.writestr(one, b"model.onnx")

    return change


def without_manifest(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"")


def with_another_model(path: Path) -> None:
    manifest = zipfile.ZipFile(path).read(MANIFEST_NAME)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST_NAME, manifest)
        archive.writestr("model.onnx", b"another")


def compressed(method: int, name: str = "extra.txt", data: bytes = b"x" * 100) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a", method) as archive:
            archive.writestr(name, data)

    return change


def with_a_huge_model(path: Path) -> None:
    manifest = zipfile.ZipFile(path).read(MANIFEST_NAME)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST_NAME, manifest)
        archive.writestr("model.onnx", bytes(10 << 20))


def no_zip(path: Path) -> None:
    path.write_bytes(b"a model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add(entry("../escaped")), r"its entry '\.\./escaped' lies in a folder or outside"),
        (add(entry("/tmp/escaped")), "its entry '/tmp/escaped' lies"),
        (add(entry("..\\escaped")), "lies in a folder or outside"),
        (add(entry("C:escaped")), "lies in a folder or outside"),
        (add(entry("engines/a")), "its entry 'engines/a' lies in a folder"),
        (add(entry("engines/")), "its entry 'engines/' lies in a folder"),
        (add(entry("..")), "lies in a folder or outside"),
        (add(entry("link", stat.S_IFLNK | 0o777)), "its entry 'link' is a link, encrypted or no plain file"),
        (add(entry("MODEL.onnx")), "holds two files of one name"),
        (
            add(entry("notes.txt"), entry("a.so")),
            r"holds a\.so, notes\.txt, which bundle\.json does not name",
        ),
        (compressed(zipfile.ZIP_LZMA), "'extra.txt' is compressed otherwise than zips commonly are"),
        (compressed(zipfile.ZIP_BZIP2), "'extra.txt' is compressed otherwise"),
        (add(entry("n" * 300)), r"'n{40}'\.\.\. has too long a name"),
        (with_a_huge_model, "'model.onnx' says it is 10485760 bytes long"),
        (without_manifest, "not a bundle, it holds no bundle.json"),
        (with_another_model, r"cells\.zip/model\.onnx: changed or cut short since the export"),
        (no_zip, "no zip, or one cut short or damaged"),
    ],
)
def test_what_is_not_one_bundle_is_refused_whole(
    packed: Path, cache: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(packed)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said) as caught:
        read_bundle(packed)
    assert str(caught.value).startswith(str(packed))
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []
    assert {path for path in tmp_path.rglob("*") if cache.parent.parent not in (path, *path.parents)} == set(
        before
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_zip_that_is_cut_short_or_has_a_changed_byte_is_refused_or_the_same(
    packed: Path, bundle: Bundle, cache: Path, data: st.DataObject
) -> None:
    whole = packed.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    changed = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
    damaged = packed.with_name("damaged.zip")
    damaged.write_bytes(changed)
    try:
        found = read_bundle(damaged)
    except UserError as error:
        said = str(error)
    else:
        # A byte of no weight, such as that of a time.
        assert not cut
        assert found.manifest == bundle.manifest
        return
    assert said.startswith(str(damaged))
    assert "\n" not in said
    assert not list(cache.glob(".part-*"))


def test_a_cache_that_cannot_be_written_is_named(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"cannot be unpacked into .*file.* or name another folder in XDG_CACHE_HOME"
    ):
        read_bundle(packed)


@pytest.mark.usefixtures("cache")
def test_verbs_take_a_zip(packed: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    write_image(photo, CROPS[0])
    command = ["predict", str(photo), "--bundle", str(packed), "--box", "-0.5,-0.5,15.5,15.5", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (face,) = json.loads(done.stdout)["faces"]
    np.testing.assert_allclose(face["points"], expected_points(1)[0], atol=1e-6)
    linted = CliRunner().invoke(app, ["lint", str(packed), "--target", "raspberry-pi-5", "--json"])
    assert linted.exit_code == 0, linted.output


@pytest.mark.usefixtures("cache")
def test_an_export_of_a_zip_writes_zips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = dotted_faces(3)
    source = tmp_path / "kept.zip"
    write_bundle(tmp_path / "dots", dot_bench(faces, faces), "torch").write_zip(source)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", str(source), "--formats", "onnx", "--zip"])
    assert done.exit_code == 0, done.output
    out = tmp_path / "exported" / "kept"
    assert sorted(path.name for path in out.iterdir()) == ["dots-onnx", "dots-onnx.zip"]
    assert read_bundle(out / "dots-onnx.zip").manifest == read_bundle(out / "dots-onnx").manifest


def test_opening_a_folder_needs_no_cache(bundle: Bundle, tmp_path: Path) -> None:
    code = f"from slimalign.runtimes.bundle import read_bundle; read_bundle({str(bundle.folder)!r})"
    environment = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path / "nowhere"), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "nowhere").exists()
