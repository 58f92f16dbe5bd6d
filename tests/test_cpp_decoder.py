"""The decoder in C++ of examples/: it finds what runtimes/decode.py and runtimes/crop.py find."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needed

from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import Workbench
from slimalign.runtimes.crop import CropRule, invert, transform_points
from slimalign.runtimes.decode import DECODERS, decode
from slimalign.runtimes.images import load_image
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession

EXAMPLES = Path(__file__).parent.parent / "examples"
STRIDE = 4


@dataclass(frozen=True)
class Decoder:
    """The compiled program, and the file that it is given heatmaps in."""

    program: Path
    raw: Path

    def run(self, *given: object) -> subprocess.CompletedProcess[str]:
        """What it says of the heatmaps in the file."""
        command = [str(self.program), str(self.raw), *map(str, given)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def lines(self, heatmaps: np.ndarray, layout: str, decoder: str, *crop: object) -> list[list[str]]:
        """The words of each line that it prints for ``heatmaps`` (K, H, W)."""
        stored = heatmaps if layout == "NCHW" else heatmaps.transpose(1, 2, 0)
        self.raw.write_bytes(np.ascontiguousarray(stored, dtype=np.float32).tobytes())
        done = self.run(layout, *heatmaps.shape, STRIDE, decoder, *crop)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = tmp_path_factory.mktemp("cpp")
    compiler = needed("g++", "apt-get install g++")
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
    program = folder / "check_golden"
    command = [compiler, "-std=c++17", "-O2", *strict, "-o", str(program), str(EXAMPLES / "check_golden.cpp")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Decoder(program, folder / "heatmaps.raw")


def many_heatmaps(height: int, width: int) -> np.ndarray:
    """Noise, steps with ties as of int8, none above zero, logits that overflow an exponential, peaks at each place."""
    rng = np.random.default_rng(height * width)
    noise = rng.normal(size=(12, height, width))
    peaks = 0.1 * rng.random((height * width, height * width)) + 3 * np.eye(height * width)
    flat = np.zeros((1, height, width))
    kinds = (
        noise,
        noise.round(),
        -np.abs(noise),
        200 * noise,
        peaks.reshape(-1, height, width),
        flat,
        flat - 2,
    )
    return np.concatenate(kinds).astype(np.float32)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 12), (16, 16)])
def test_points_and_scores_are_those_of_python(
    cpp: Decoder, size: tuple[int, int], decoder: str, layout: str
) -> None:
    heatmaps = many_heatmaps(*size)
    points, scores = decode(heatmaps[None], STRIDE, decoder)
    found = np.array(cpp.lines(heatmaps, layout, decoder), dtype=float)
    np.testing.assert_allclose(found[:, :2], points[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:, 2], scores[0], rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(-50, 900), st.floats(-50, 900), st.floats(2, 700), st.floats(2, 700)),
    st.integers(16, 300),
    st.floats(0.8, 2),
)
def test_the_matrix_and_the_way_back_are_those_of_python(
    cpp: Decoder, corner_and_sides: tuple[float, float, float, float], size: int, box_scale: float
) -> None:
    x, y, width, height = corner_and_sides
    box = np.array([x, y, x + width, y + height])
    heatmaps = many_heatmaps(4, 5)
    (name, *numbers), *rest = cpp.lines(heatmaps, "NCHW", "local-mean", size, box_scale, *box.tolist())
    matrix = CropRule(size, box_scale).matrix(box)
    assert name == "image_to_crop"
    np.testing.assert_allclose(np.array(numbers, dtype=float).reshape(2, 3), matrix, rtol=1e-12, atol=1e-9)
    points, _ = decode(heatmaps[None], STRIDE, "local-mean")
    expected = transform_points(points[0].astype(float), invert(matrix))
    found = np.array(rest, dtype=float)[:, 3:]
    # 1e-4 pixels of the crop; of a crop smaller than the face they are more pixels of the image.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, 1 / matrix[0, 0]))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_real_bundles_golden_face_is_found_from_its_heatmaps(
    cpp: Decoder, lively_supernet: HRSuperNet, decoder: str, tmp_path: Path
) -> None:
    """With nothing but the bundle: what a port has to do."""
    subject = ExportSubject("small", lively_supernet, 64, 1.25, "aflw-19", decoder, STRIDE)
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    bundle = write_bundle(tmp_path / "small", Workbench(subject, crops), "onnx")
    golden = json.loads((bundle.folder / "golden.json").read_text())
    image, box = load_image(str(bundle.folder / golden["image"])), np.array(golden["box"])
    crop = bundle.manifest.crop_rule.crop(image, box)
    with OnnxRuntimeSession(bundle, 1) as session:
        heatmaps = session.run(network_inputs(crop[None], bundle.manifest))[0]
    (_, *numbers), *rest = cpp.lines(heatmaps, "NCHW", decoder, 64, 1.25, *golden["box"])
    np.testing.assert_allclose(np.array(numbers, float).reshape(2, 3), golden["image_to_crop"], rtol=1e-12)
    found = np.array(rest, dtype=float)
    np.testing.assert_allclose(found[:, :2], golden["crop_points"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:, 3:], golden["points"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[:, 2], golden["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("NCHW", 1), "give FILE LAYOUT K H W STRIDE DECODER [INPUT_SIZE BOX_SCALE X0 Y0 X1 Y1]"),
        (("NCHW", 0, 2, 2, 4, "local-mean"), "'0': a whole number from 1 is needed"),
        (("NCHW", 1, 2, 2, "4px", "local-mean"), "'4px' is not a number"),
        (("NCHW", 2, 2, 2, 4, "local-mean"), "does not hold 2 x 2 x 2 float32 numbers"),
        (("NCHW", 1, 1, 2, 4, "local-mean"), "does not hold 1 x 1 x 2 float32 numbers"),
        (("HWC", 1, 2, 2, 4, "local-mean"), "layout 'HWC' is unknown; it is NCHW or NHWC"),
        (("NCHW", 1, 2, 2, 4, "mean"), "decoder 'mean' is unknown"),
        (("NCHW", 1, 2, 2, 4, "local-mean", 64, 1.25, 9, 9, 9, 9), "a box needs x1 > x0 and y1 > y0"),
    ],
)
def test_what_it_cannot_decode_is_told_in_one_line(
    cpp: Decoder, given: tuple[object, ...], said: str
) -> None:
    cpp.raw.write_bytes(np.zeros(4, np.float32).tobytes())
    done = cpp.run(*given)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_heatmaps_that_are_not_finite_are_refused(cpp: Decoder, value: float) -> None:
    cpp.raw.write_bytes(np.array([0, 1, value, 0], np.float32).tobytes())
    done = cpp.run("NCHW", 1, 2, 2, 4, "local-softmax")
    assert (done.returncode, done.stderr) == (2, "the heatmaps hold NaN or infinite values\n")
