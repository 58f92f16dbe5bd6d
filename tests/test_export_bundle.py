"""Writing bundles: whole or not at all, and only where the file computes what PyTorch computes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.cost import count
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export import bundle_writer
from slimalign.export.bundle_writer import with_nme, write_bundle
from slimalign.export.file_cost import count_file
from slimalign.export.fold import folded
from slimalign.export.parity import ParityError, ParityReport
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import Workbench
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import CheckError, UserError

SIZE = 64


@pytest.fixture
def subject(lively_supernet: HRSuperNet) -> ExportSubject:
    return ExportSubject("small", lively_supernet, SIZE, 1.25, "aflw-19", "local-softmax", 4)


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "files", "runtime"),
    [
        ("onnx", ["bundle.json", "golden.json", "golden.png", "model.onnx"], "onnxruntime"),
        ("torch", ["architecture.json", "bundle.json", "weights.safetensors"], "pytorch"),
    ],
)
def test_a_format_becomes_a_bundle_that_finds_the_same_points(
    kind: str,
    files: list[str],
    runtime: str,
    subject: ExportSubject,
    crops: np.ndarray,
    tmp_path: Path,
) -> None:
    reports: list[ParityReport] = []
    written = write_bundle(tmp_path / "small", Workbench(subject, crops), kind, reports.append)
    assert names(tmp_path) == ["small"]
    assert names(tmp_path / "small") == files
    bundle = read_bundle(tmp_path / "small")
    assert bundle == written
    manifest = bundle.manifest
    assert (manifest.format, manifest.layout) == (kind, "NCHW")
    assert (manifest.precision, manifest.batch) == ("fp32", None)
    assert manifest.files[manifest.model] == hashlib.sha256(bundle.model_path.read_bytes()).hexdigest()
    # What is exported convolves each level of the head at its own size, see test_export_fold.
    computed = subject.network if kind == "torch" else folded(subject.network)
    counted = count(computed, SIZE).totals()
    if kind != "torch":
        in_file = count_file(bundle.model_path).totals()
        assert in_file["macs"] == counted["macs"]
        counted["bytes_moved"] = in_file["bytes_moved"]
    assert manifest.cost == counted
    assert manifest.tools["torch"] == torch.__version__
    (report,) = reports
    assert (report.crops, report.points) == (3, 3 * 19)
    assert report.fault is None
    with open_bundle(bundle, threads=1) as session:
        assert session.runtime == runtime
        points = Aligner(session).align_crops(crops).points
    torch_bundle = write_bundle(tmp_path / "reference", Workbench(subject, crops), "torch")
    with open_bundle(torch_bundle, threads=1) as session:
        expected = Aligner(session).align_crops(crops).points
    np.testing.assert_allclose(points, expected, rtol=0, atol=0.01)


def test_the_subjects_network_is_left_in_training(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    subject.network.train()
    write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    assert subject.network.training


def test_a_bundle_is_replaced_and_what_a_kill_left_is_cleared(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "small", Workbench(subject, crops), "torch")
    (tmp_path / "small.part").mkdir()
    (tmp_path / "small.part" / "model.onnx").write_bytes(b"half a model")
    bundle = write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    assert names(tmp_path) == ["small"]
    assert names(bundle.folder) == ["bundle.json", "golden.json", "golden.png", "model.onnx"]


def test_what_is_no_bundle_is_not_replaced(subject: ExportSubject, crops: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"")
    (tmp_path / "note").write_text("hello")
    for name in ("photos", "note"):
        with pytest.raises(UserError, match=f"{name}: holds something other than a bundle"):
            write_bundle(tmp_path / name, Workbench(subject, crops), "onnx")
    assert names(tmp_path) == ["note", "photos"]


def test_a_network_that_finds_no_points_is_kept_for_training_alone(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    nn.init.zeros_(subject.network.get_parameter("head.heatmaps.weight"))
    write_bundle(tmp_path / "small", Workbench(subject, crops), "torch")
    with pytest.raises(
        CheckError, match="bundle 'small': its network's heatmaps are flat, so it finds no points; train"
    ):
        write_bundle(tmp_path / "device", Workbench(subject, crops), "onnx")
    assert names(tmp_path) == ["small"]


class TracedOtherwise(nn.Module):
    """A network whose exported file computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 19, 1))

    def forward(self, images: Tensor) -> Tensor:
        heatmaps: Tensor = self.body(images)
        return heatmaps + 0.01 if torch.onnx.is_in_onnx_export() else heatmaps


def test_a_file_without_parity_is_named_so(subject: ExportSubject, crops: np.ndarray, tmp_path: Path) -> None:
    kept = write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    for _ in range(2):
        with pytest.raises(ParityError) as caught:
            write_bundle(
                tmp_path / "small", Workbench(replace(subject, network=TracedOtherwise()), crops), "onnx"
            )
        message = str(caught.value)
        assert "small.failed-parity: the onnx file does not compute what PyTorch does" in message
        assert "heatmaps differ by 0.01" in message
        assert "\n" not in message
        assert names(tmp_path) == ["small", "small.failed-parity"]
    assert read_bundle(kept.folder) == kept


def test_where_the_new_bundle_cannot_be_moved_the_old_one_stays(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    kept = write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    with pytest.raises(FileNotFoundError):
        bundle_writer._move(tmp_path / "nowhere", kept.folder)
    assert read_bundle(kept.folder) == kept
    assert names(tmp_path) == ["small"]


BROKEN_OFF = """
import resource, sys, numpy as np
from pathlib import Path
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import Workbench
from slimalign.runtimes.errors import CheckError, UserError

network = HRSuperNet(full_architecture(19, 64, 12, (6, 10, 14), stage_count=4, encoders=1))
subject = ExportSubject("small", network, 64, 1.25, "aflw-19", "local-softmax", 4)
crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
def wait(_):
    print("about to be renamed", flush=True)
    sys.stdin.read()
folder, format_name, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    write_bundle(Path(folder), Workbench(subject, crops), format_name, report=wait)
except UserError as error:
    print(error)
"""


def broken_off(folder: Path, format_name: str, limit: int = 0) -> subprocess.Popen[str]:
    """A process that writes a bundle and waits before its renaming; no file may be larger than ``limit``."""
    command = [sys.executable, "-c", BROKEN_OFF, str(folder), format_name, str(limit)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("format_name", ["onnx", "torch"])
def test_a_full_disk_leaves_nothing_under_the_name(tmp_path: Path, format_name: str) -> None:
    """A quota on file size stands for the disk; the weights have more than 4000 bytes."""
    with broken_off(tmp_path / "small", format_name, limit=4000) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "cannot be written (" in output
    assert "File too large" in output
    assert len(output.splitlines()) == 1
    assert str(tmp_path / "small") in output
    assert names(tmp_path) == []


QUANTISING = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dots import dot_bench, dotted_faces
from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes.errors import UserError

folder, format_name = sys.argv[2:]
bench = dot_bench(dotted_faces(32), dotted_faces(4))
made = bench.litert_ranges if format_name.startswith("litert") else bench.onnx_optimised
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    write_bundle(Path(folder), bench, format_name)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("format_name", ["onnx-int8", "onnx-int8-tensorrt", "litert-int8", "tensorrt-fp16"])
def test_a_disk_that_fills_up_while_quantising_leaves_nothing(tmp_path: Path, format_name: str) -> None:
    """The float file has still been written; some quantisers write it into files of their own."""
    command = [
        sys.executable,
        "-c",
        QUANTISING,
        str(Path(__file__).parent),
        str(tmp_path / "dots"),
        format_name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert str(tmp_path / "dots") in done.stdout
    assert "free some space" in done.stdout
    assert names(tmp_path) == []


class MatrixExponential(torch.nn.Module):
    """A network of an operation that no format has."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, 64, 64) -> (N, 19, 16, 16)."""
        heatmaps = torch.nn.functional.avg_pool2d(images, 4).repeat(1, 7, 1, 1)[:, :19]
        found: torch.Tensor = torch.linalg.matrix_exp(heatmaps / 100)
        return found


@pytest.mark.parametrize(
    ("format_name", "said"),
    [
        (
            "onnx",
            "MatrixExponential, as ONNX: Exporting the operator 'aten::linalg_matrix_exp' to ONNX opset",
        ),
        ("litert", "a network of class MatrixExponential cannot be written as files"),
    ],
)
def test_an_operation_that_no_format_has_is_one_line(
    crops: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str], format_name: str, said: str
) -> None:
    subject = ExportSubject("odd", MatrixExponential().eval(), 64, 1.25, "aflw-19", "local-softmax", 4)
    with pytest.raises(UserError) as raised:
        write_bundle(tmp_path / "odd", Workbench(subject, crops), format_name)
    assert str(raised.value).startswith(said)
    assert len(str(raised.value).splitlines()) == 1
    assert capfd.readouterr().out == ""
    assert names(tmp_path) == []


def test_a_kill_leaves_nothing_under_the_name(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    with broken_off(tmp_path / "small", "onnx") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "about to be renamed\n"
        process.kill()
    assert names(tmp_path) == ["small.part"]
    write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    assert names(tmp_path) == ["small"]


def test_a_measured_nme_enters_the_manifest(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "small", Workbench(subject, crops), "torch")
    bundle = with_nme(with_nme(with_nme(bundle, "test", 5.0), "val", 4.5), "test", 3.25)
    assert bundle == read_bundle(tmp_path / "small")
    manifest = json.loads((tmp_path / "small" / "bundle.json").read_text(encoding="utf-8"))
    assert manifest["nme"] == {"test": 3.25, "val": 4.5}
    assert names(tmp_path / "small") == ["architecture.json", "bundle.json", "weights.safetensors"]
    with pytest.raises(UserError, match="nme of 'test' = nan, must be finite"):
        with_nme(bundle, "test", float("nan"))


def test_what_cannot_be_exported_is_told_before_anything_is_written(
    subject: ExportSubject, crops: np.ndarray, tmp_path: Path
) -> None:
    wrong = {
        "format 'caffe' is unknown; choose one of onnx, onnx-fp16, .*, torch": (
            subject,
            "caffe",
            crops,
        ),
        "landmark scheme 'x' is unknown": (replace(subject, scheme="x"), "onnx", crops),
        r"takes \(N, 64, 64, 3\) uint8 RGB": (subject, "onnx", crops[:, :32]),
        "no crops": (subject, "onnx", crops[:0]),
        "class TracedOtherwise cannot be written as files": (
            replace(subject, network=TracedOtherwise()),
            "torch",
            crops,
        ),
    }
    for message, (given, kind, faces) in wrong.items():
        with pytest.raises(UserError, match=message):
            write_bundle(tmp_path / "small", Workbench(given, faces), kind)
        assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "module", "package"), [("onnx", "onnx", "onnx"), ("litert", "litert_torch", "litert-torch")]
)
def test_a_missing_package_is_named_with_its_extra(
    kind: str,
    module: str,
    package: str,
    subject: ExportSubject,
    crops: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UserError, match=rf"{package} is not installed; run pip install 'slimalign\[export\]'"
    ):
        write_bundle(tmp_path / "small", Workbench(subject, crops), kind)
    assert names(tmp_path) == []
