"""The memory of a bundle, measured in a process of its own."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from cells import onnx_bundle

from slimalign.benchmarks.memory_here import memory_here
from slimalign.runtimes.memory import ProcessMemory, memory_told_by, peak_mb, resident_mb
from slimalign.runtimes.session import DEFAULT_BACKEND

IMAGE_MB = 3 * 16 * 16 * 4 / 1e6


def test_a_larger_batch_takes_at_least_its_inputs_more(tmp_path: Path) -> None:
    bundle = onnx_bundle(tmp_path)
    few, many = (memory_here(bundle, 1, batch, DEFAULT_BACKEND) for batch in (1, 20_000))
    assert isinstance(few, ProcessMemory)
    assert isinstance(many, ProcessMemory)
    assert 10 < few.libraries_mb <= few.peak_mb
    assert many.peak_mb - few.peak_mb > 0.9 * 20_000 * IMAGE_MB
    # The libraries are the same; what the system lends them differs a little.
    assert many.libraries_mb == pytest.approx(few.libraries_mb, rel=0.1)


def test_what_this_process_holds_does_not_count(tmp_path: Path) -> None:
    held = np.ones((100_000, 1000), dtype=np.uint8)
    found = memory_here(onnx_bundle(tmp_path), 1, 1, DEFAULT_BACKEND)
    assert isinstance(found, ProcessMemory)
    # All of it, with the libraries, is less than this process has.
    assert found.peak_mb < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert held.all()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["sh", "-c", "kill -9 $$"],
            "its process was ended by signal 9, as it is for lack of memory",
        ),
        ([sys.executable, "-c", "raise MemoryError('of 9 GB')"], "MemoryError: of 9 GB"),
        (["sh", "-c", "exit 3"], "no reason told"),
        (["/nowhere/python"], "[Errno 2] No such file or directory: '/nowhere/python'"),
        (["echo", "null"], "this system does not tell it"),
    ],
)
def test_a_process_that_fails_tells_why(command: list[str], said: str) -> None:
    assert memory_told_by(command, {}) == said


def test_a_process_that_has_no_memory_left_does_not_end_its_parent() -> None:
    hungry = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28)); bytearray(2**29)"
    assert memory_told_by([sys.executable, "-c", hungry], {}) == "MemoryError"


def test_kilobytes_of_the_kernel_are_1024_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t  250000 kB\nVmRSS:\t  125000 kB\n")
    assert peak_mb(str(status)) == pytest.approx(256.0)
    assert resident_mb(str(status)) == pytest.approx(128.0)


def test_without_the_kernels_word_the_most_that_was_used_stands_for_it(tmp_path: Path) -> None:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert peak_mb(str(tmp_path / "nowhere")) == pytest.approx(most, rel=0.05)
