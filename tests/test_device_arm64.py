"""The agent on a 64-bit ARM machine, reached by ssh: the same landmarks there as here."""

from __future__ import annotations

import numpy as np
import pytest
from arm64 import arm64_python
from dots import SIZE, dot_bench, dotted_faces
from sshd import Sshd

from slimalign.benchmarks.device_latency import sweep_on
from slimalign.benchmarks.latency import Wanted
from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.sample import cut_crops
from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.session import DEFAULT_BACKEND
from slimalign.runtimes.timing import Protocol
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.device_aligner import DeviceAligner
from slimalign.targets.device_job import Device

FACES = dotted_faces(40)
CROPS = cut_crops(dotted_faces(6, seed=100), CropRule(SIZE, 1.25))
SHORT = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(2, 0.0), rounds=1)


@pytest.fixture
def arm(sshd: Sshd) -> Device:
    shell = shell_of(sshd.address)
    assert shell is not None
    return Device(shell, str(arm64_python()))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder, bench = tmp_path_factory.mktemp("bundles"), dot_bench(FACES, FACES[:20])
    forms = ("litert", "onnx", "litert-int8", "onnx-int8")
    return {form: write_bundle(folder / form, bench, form) for form in forms}


@pytest.mark.parametrize(
    ("form", "most"), [("litert", 0.05), ("onnx", 0.05), ("litert-int8", 0.25), ("onnx-int8", 0.25)]
)
def test_arm_finds_the_landmarks_that_this_machine_finds(
    arm: Device, bundles: dict[str, Bundle], form: str, most: float
) -> None:
    bundle = bundles[form]
    with open_bundle(bundle, threads=1) as session:
        here = Aligner(session).align_crops(CROPS)
    there = DeviceAligner(arm, bundle, 1, DEFAULT_BACKEND)
    found = there.align_crops(CROPS)
    assert there.runtime == {"litert": "litert", "onnx": "onnxruntime"}[form.split("-")[0]]
    assert np.abs(found.points - here.points).max() < most
    assert np.abs(found.scores - here.scores).max() < 0.05


def test_latency_on_arm_names_the_machine(arm: Device, bundles: dict[str, Bundle]) -> None:
    """By qemu: what it takes says nothing of a real one."""
    (record,) = sweep_on(arm, Wanted([bundles["litert"]], (1,), (1,), lambda rule: CROPS, SHORT))
    assert (record.runtime, record.target) == ("litert", arm.address)
    assert len(record.samples_ms) == 2
