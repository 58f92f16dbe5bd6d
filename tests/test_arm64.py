"""The ARM machine that tests run what is meant for devices on: qemu with ARM's own Python and libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arm64 import arm64_python
from numpy.typing import NDArray
from small_litert import IMAGE, computed, constant, litert_file
from small_onnx import CHANNELS, SIDE, Graph

LITERT = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model, given, to = sys.argv[1:]
interpreter = Interpreter(model, num_threads=1)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(given))
interpreter.invoke()
np.save(to, interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""
ONNX = """
import sys
import numpy as np
import onnxruntime
model, given, to = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
np.save(to, session.run(None, {"image": np.load(given)})[0])
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return arm64_python()


def run(python: Path, *arguments: object) -> str:
    command = [str(python), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def computed_there(python: Path, code: str, model: bytes, image: NDArray[Any], folder: Path) -> NDArray[Any]:
    (folder / "model").write_bytes(model)
    np.save(folder / "image.npy", image)
    run(python, "-c", code, folder / "model", folder / "image.npy", folder / "out.npy")
    found: NDArray[Any] = np.load(folder / "out.npy")
    return found


def test_it_is_a_64_bit_arm_machine_whose_python_can_start_itself_anew(python: Path) -> None:
    code = (
        "import json, platform, subprocess, sys; own = [sys.executable, '-c', 'print(6 * 7)'];"
        "print(json.dumps([platform.machine(), sys.version_info[:2], int(subprocess.check_output(own))]))"
    )
    assert json.loads(run(python, "-c", code)) == ["aarch64", [3, 11], 42]


def test_litert_computes_there(python: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=IMAGE).astype(np.float32)
    model = litert_file(
        "ADD", [computed("FLOAT32"), constant(np.full(IMAGE, 3), np.float32)], [computed("FLOAT32")]
    )
    found = computed_there(python, LITERT, model, image, tmp_path)
    np.testing.assert_array_equal(found, image + np.float32(3))


def test_onnx_runtime_computes_there(python: Path, tmp_path: Path) -> None:
    graph = Graph().convolve("image", "out", "conv")
    image = np.random.default_rng(0).normal(size=(1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    found = computed_there(python, ONNX, graph.model().SerializeToString(), image, tmp_path)
    # All weights are 1: each output is the sum of the image around it, over all channels.
    around = np.pad(image.astype(np.float64).sum(axis=1)[0], 1)
    sums = sum(around[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3))
    np.testing.assert_allclose(found[0], np.broadcast_to(sums, (CHANNELS, SIDE, SIDE)), atol=1e-4)
