"""Exports for a device by its name, for one batch size, and rescued, on a data set of dots."""

from __future__ import annotations

import csv
from pathlib import Path

import onnx
import pytest
from command_line.place import Command
from dots import LANDMARKS, dot_bench, dotted_faces, hurt_dot_finder, uneven_dot_finder

from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export import qat
from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes.drawing import write_image


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces to calibrate on and to judge by, as a plain folder."""
    folder = tmp_path_factory.mktemp("dots")
    for split, faces in (("train", dotted_faces(64)), ("val", dotted_faces(16, seed=100))):
        rows = [["image", *(f"{axis}{i}" for i in range(LANDMARKS) for axis in "xy")]]
        for face in faces:
            write_image(folder / f"{face.name}.png", face.load())
            rows.append([f"{face.name}.png", *(str(value) for value in face.points.ravel())])
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def torch_bundle(folder: Path, network: HRSuperNet | None = None) -> Path:
    faces = dotted_faces(3)
    return write_bundle(folder / "dots", dot_bench(faces, faces, network=network), "torch").folder


def opsets(folder: Path) -> dict[str, int]:
    return {
        path.parent.name: onnx.load(str(path)).opset_import[0].version for path in folder.glob("*/model.onnx")
    }


@pytest.mark.parametrize(("jetpack", "tensorrt", "opset"), [("5.1.2", "8.5.2", 13), ("6.2", "10.3", 17)])
def test_a_target_chooses_formats_and_opset(
    slimalign: Command, data: Path, tmp_path: Path, jetpack: str, tensorrt: str, opset: int
) -> None:
    source = torch_bundle(tmp_path)
    options = ("--data", data, "--data-format", "folder", "--out", tmp_path / "out")
    done = slimalign("export", source, "--target", "orin-nano", "--jetpack", jetpack, *options)
    assert done.status == 0, done.err
    assert opsets(tmp_path / "out") == {"dots-tensorrt-int8": opset, "dots-tensorrt-fp16": opset}
    linted = [line for line in done.err.splitlines() if f"TensorRT {tensorrt}): lint found " in line]
    assert len(linted) == 2
    # What is found of the dot finder's few channels is shown where it is found.
    (shown,) = (line for line in done.err.splitlines() if "int8-channels" in line)
    assert shown.startswith("  warning int8-channels: ")


def test_a_profile_of_ones_own_does_the_same(slimalign: Command, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text('title = "A board"\narchitecture = "aarch64"\nformats = ["onnx"]\n')
    done = slimalign("export", torch_bundle(tmp_path), "--target", board, "--batch", 4, "--json")
    (made,) = done.json
    assert made["bundle"] == "exported/dots/dots-onnx"
    shape = onnx.load("exported/dots/dots-onnx/model.onnx").graph.input[0].type.tensor_type.shape
    assert [one.dim_value for one in shape.dim] == [4, 3, 64, 64]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target", "jetson-orinnano"), "did you mean jetson-orin-nano?"),
        (("--jetpack", "6.2"), "--jetpack 6.2: name the Jetson, as in --target jetson-orin-nano"),
        (
            ("--target", "tx2", "--jetpack", "6.2"),
            "JetPack '6.2' is none of jetson-tx2's; choose one of 4.6, 4.6.1",
        ),
        (
            ("--target", "iphone", "--formats", "onnx"),
            "--formats onnx: iphone runs litert-int8, litert-fp16, litert",
        ),
        (
            ("--target", "orin-nano", "--compute-capability", "8.6"),
            "--compute-capability 8.6: jetson-orin-nano has 8.7; leave it out and run the bundle's build_engine.py",
        ),
        (("--batch", 0), "--batch 0: give a whole number of at least 1"),
    ],
)
def test_what_no_device_is_or_has_is_one_line(
    slimalign: Command, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    done = slimalign("export", torch_bundle(tmp_path), *options)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    assert said in done.err
    assert not (tmp_path / "exported").exists()


def test_a_format_of_a_profile_that_there_is_not_is_told_with_its_profile(
    slimalign: Command, tmp_path: Path
) -> None:
    (tmp_path / "board.toml").write_text(
        'title = "A board"\narchitecture = "aarch64"\nformats = ["onnx-int4"]\n'
    )
    done = slimalign("export", torch_bundle(tmp_path), "--target", tmp_path / "board.toml")
    assert done.status == 2
    assert done.err.startswith("slimalign: target board: format 'onnx-int4' is unknown; choose one of onnx, ")


def test_a_file_that_fails_can_be_trained(
    slimalign: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of next to no weights learns in as long and as fast as this."""
    monkeypatch.setattr(qat, "EPOCHS", 20)
    monkeypatch.setattr(qat, "PEAK", 3e-3)
    options = ("--formats", "tensorrt-int8", "--data", data, "--data-format", "folder", "--qat")
    done = slimalign("export", torch_bundle(tmp_path, uneven_dot_finder()), *options)
    assert done.status == 0, done.err
    assert "dots-tensorrt-int8: after quantisation-aware training; before it the NME in int8 was" in done.err
    assert {path.name for path in Path("exported/dots").iterdir()} == {"dots-tensorrt-int8", "dots-qat"}


def test_a_file_that_fails_can_be_rescued(slimalign: Command, data: Path, tmp_path: Path) -> None:
    source = torch_bundle(tmp_path, hurt_dot_finder("s3_l0"))
    command = ("export", source, "--formats", "onnx-int8", "--data", data, "--data-format", "folder")
    failed = slimalign(*command)
    assert failed.status == 1
    assert "does not pass the gate" in failed.err
    assert "--rescue keeps its worst blocks in float, --qat trains its network for int8" in failed.err
    assert [path.name for path in Path("exported/dots").iterdir()] == ["dots-onnx-int8.failed-gate"]
    done = slimalign(*command, "--rescue")
    assert done.status == 0, done.err
    assert "in float stay s3_l0 (" in done.err
    assert [path.name for path in Path("exported/dots").iterdir()] == ["dots-onnx-int8"]
