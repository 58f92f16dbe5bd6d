"""The protocol ``end-to-end`` on a device, reached by a real ssh: with OpenCV and without."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cells import CROPS, SIZE, onnx_bundle
from sshd import Sshd

from slimalign.benchmarks.device_latency import sweep_on
from slimalign.runtimes.aligner import Face
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.sweep import TIMED
from slimalign.runtimes.timing import Protocol, Record
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.device_job import Device

SHORT = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(2, 0.0), rounds=1)
BOX = np.array([0.0, 0.0, SIZE, SIZE]) - 0.5


def swept(
    sshd: Sshd, python: str, bundles: list[Bundle], timed: tuple[str, ...], box: np.ndarray = BOX
) -> list[Record]:
    shell = shell_of(sshd.address)
    assert shell is not None

    def faces(rule: CropRule) -> list[Face]:
        return [Face(crop, box) for crop in CROPS]

    device = Device(shell, python)
    return sweep_on(device, bundles, (1, 2), (1,), lambda rule: CROPS, SHORT, timed=timed, faces=faces)


def test_images_to_landmarks_are_timed_on_the_device(sshd: Sshd, tmp_path: Path) -> None:
    cells = onnx_bundle(tmp_path)
    records = swept(sshd, sys.executable, [cells, cells], TIMED)
    assert [(one.batch, one.protocol) for one in records] == [
        (1, "kernel-1-draft"),
        (1, "end-to-end-1-draft"),
        (2, "kernel-1-draft"),
        (2, "end-to-end-1-draft"),
    ] * 2
    assert all(len(one.samples_ms) == 2 and one.first_ms > 0 for one in records)


def test_the_device_cuts_the_faces_out_itself(sshd: Sshd, tmp_path: Path) -> None:
    """A box outside its image is found out by the aligner there, and only where it has to cut."""
    cells = onnx_bundle(tmp_path)
    assert len(swept(sshd, sys.executable, [cells], ("kernel",), BOX + 30)) == 2
    with pytest.raises(UserError, match=f"^{sshd.address}: box .*: outside the image of 16x16 pixels"):
        swept(sshd, sys.executable, [cells], TIMED, BOX + 30)


@pytest.mark.parametrize(("timed", "lacks"), [(("kernel",), False), (TIMED, True)])
def test_a_device_without_opencv_measures_the_kernel(
    sshd: Sshd, tmp_path: Path, timed: tuple[str, ...], lacks: bool
) -> None:
    (sshd.home / "sitecustomize.py").write_text("import sys; sys.modules['cv2'] = None")
    python = sshd.home / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={sshd.home} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = (
        f"^{sshd.address}: OpenCV is not installed there; run .* -m pip install opencv-python-headless, or measure"
        " --timed kernel$"
    )
    with pytest.raises(UserError, match=said) if lacks else nullcontext():
        swept(sshd, str(python), [onnx_bundle(tmp_path)], timed)
