"""The agent in a real Python 3.6, a Jetson's own, with the NumPy, the ONNX Runtime and the OpenCV of its time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from cells import CROPS, SIZE, expected_points, onnx_network, write_manifest
from sshd import Sshd

from slimalign.benchmarks.device_latency import sweep_on
from slimalign.runtimes.aligner import Face
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.session import DEFAULT_BACKEND
from slimalign.runtimes.sweep import TIMED
from slimalign.runtimes.timing import Protocol
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.device_aligner import DeviceAligner
from slimalign.targets.device_job import Device

OF_ITS_TIME = ("numpy==1.19.5", "onnxruntime==1.10.0", "opencv-python-headless==4.5.5.64")
OPSET, IR_VERSION = 13, 7
"""What that ONNX Runtime knows."""
SHORT = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(2, 0.0), rounds=1)


def python36() -> str:
    """An interpreter of version 3.6: no package brings one, so it is a matter of luck."""
    named = [shutil.which("python3.6"), *map(str, Path.home().glob(".pyenv/versions/3.6.*/bin/python3.6"))]
    for path in filter(None, named):
        if subprocess.run([path, "-V"], check=False, capture_output=True).returncode == 0:
            return path
    pytest.skip("there is no Python 3.6 here")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python36")
    subprocess.run([python36(), "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    for wanted in (["--upgrade", "pip<22"], OF_ITS_TIME):
        subprocess.run([*pip, *wanted], check=True, capture_output=True)
    return folder / "bin" / "python"


@pytest.fixture
def device(python: Path, sshd: Sshd) -> Device:
    shell = shell_of(sshd.address)
    assert shell is not None
    return Device(shell, str(python))


@pytest.fixture
def cells(tmp_path: Path) -> Bundle:
    network = onnx_network("n")
    network.opset_import[0].version, network.ir_version = OPSET, IR_VERSION
    onnx.save(network, tmp_path / "model.onnx")
    return write_manifest(tmp_path, "model.onnx")


def test_the_agent_finds_points_and_measures(device: Device, cells: Bundle) -> None:
    found = DeviceAligner(device, cells, 1, DEFAULT_BACKEND).align_crops(CROPS)
    np.testing.assert_allclose(found.points, expected_points(3), atol=1e-3)
    faces = [Face(crop, np.array([0.0, 0.0, SIZE, SIZE]) - 0.5) for crop in CROPS]
    records = sweep_on(
        device, [cells], (1, 2), (1,), lambda rule: CROPS, SHORT, timed=TIMED, faces=lambda rule: faces
    )
    assert [(record.batch, record.protocol, len(record.samples_ms)) for record in records] == [
        (1, "kernel-1-draft", 2),
        (1, "end-to-end-1-draft", 2),
        (2, "kernel-1-draft", 2),
        (2, "end-to-end-1-draft", 2),
    ]
    assert records[0].version == "onnxruntime 1.10.0"
