"""Face boxes by detectors: BlazeFace's anchors and decoding, YuNet in OpenCV, boxes over each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from slimalign.runtimes import blazeface, yunet
from slimalign.runtimes.boxes import merged, moved, overlaps
from slimalign.runtimes.detector import open_detector
from slimalign.runtimes.errors import UserError

CONVERT = """
import sys, torch, litert_torch

class Bright(torch.nn.Module):
    def forward(self, image):
        grey = image.permute(0, 3, 1, 2).mean(dim=1, keepdim=True)
        cells = [torch.nn.functional.avg_pool2d(grey, 128 // n) for n in (16, 8)]
        rows = [cell.permute(0, 2, 3, 1).reshape(1, -1, 1) for cell in cells]
        each = [row.repeat(1, 1, count).reshape(1, -1, 1) for row, count in zip(rows, (2, 6))]
        logits = 20 * torch.cat(each, dim=1) - 10
        box = torch.zeros(1, 1, 16)
        box[0, 0, :4] = torch.tensor([4.0, -2.0, 24.0, 32.0])
        return logits * 0 + box, logits

litert_torch.convert(Bright().eval(), (torch.zeros(1, 128, 128, 3),)).export(sys.argv[1])
"""
"""A network as BlazeFace's that is sure of a face where a cell is bright, and lays the same box about each anchor."""


@pytest.fixture(scope="module")
def bright_blazeface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In a process of its own: the converter's imports warn, and here warnings are errors.
    path = tmp_path_factory.mktemp("blazeface") / "bright.tflite"
    subprocess.run([sys.executable, "-c", CONVERT, str(path)], check=True, capture_output=True)
    return path


def bright_yunet(path: Path) -> Path:
    """A network as YuNet's that is sure of a face where a cell is bright: 32 wide and 48 high about its middle."""
    nodes = [helper.make_node("Conv", ["input", "mean"], ["grey"])]
    sizes = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    for side in (8, 16, 32):
        nodes += [
            helper.make_node(
                "AveragePool", ["grey"], [f"p{side}"], kernel_shape=[side] * 2, strides=[side] * 2
            ),
            helper.make_node("Reshape", [f"p{side}", "rows"], [f"cls_{side}"]),
            helper.make_node("Identity", [f"cls_{side}"], [f"obj_{side}"]),
            helper.make_node("Mul", [f"cls_{side}", "zero"], [f"none{side}"]),
            helper.make_node("Add", [f"none{side}", "box"], [f"bbox_{side}"]),
            helper.make_node("Add", [f"none{side}", "points"], [f"kps_{side}"]),
        ]
    constants = {
        "mean": np.full((1, 3, 1, 1), 1 / 765, np.float32),
        "rows": np.array([1, -1, 1], np.int64),
        "zero": np.zeros(1, np.float32),
        # In cells of 8 pixels, sizes as logarithms.
        "box": np.array([0.5, 0.5, np.log(4), np.log(6)], np.float32),
        "points": np.zeros(10, np.float32),
    }
    outputs = [
        helper.make_tensor_value_info(f"{name}_{side}", TensorProto.FLOAT, [1, None, width])
        for name, width in sizes.items()
        for side in (8, 16, 32)
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def bright_at(width: int, height: int, x: int, y: int, side: int) -> np.ndarray:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def test_the_896_anchors_lie_row_by_row_two_in_a_cell_then_six() -> None:
    centres = blazeface.anchors()
    assert len(centres) == 16 * 16 * 2 + 8 * 8 * 6 == 896
    np.testing.assert_allclose(centres[:4], [[0.5 / 16] * 2] * 2 + [[1.5 / 16, 0.5 / 16]] * 2)
    np.testing.assert_allclose(centres[32], [0.5 / 16, 1.5 / 16])
    np.testing.assert_allclose(centres[512:518], [[1 / 16, 1 / 16]] * 6)
    np.testing.assert_allclose(centres[-1], [15 / 16, 15 / 16])


def test_only_sure_anchors_are_decoded() -> None:
    raw = np.zeros((3, 16))
    raw[:, :4] = [[0, 0, 8, 8], [1, 2, 10, 20], [0, 0, 8, 8]]
    logits = np.array([-0.001, np.log(3), -1e9])
    boxes, scores = blazeface.decoded(raw, logits, np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.1]]))
    # The middle is 1, 2 from the anchor at 32, 96; pixels are counted from their centres.
    np.testing.assert_allclose(boxes, [[33 - 5 - 0.5, 98 - 10 - 0.5, 33 + 5 - 0.5, 98 + 10 - 0.5]])
    np.testing.assert_allclose(scores, [0.75])


def test_blazeface_gives_boxes_in_pixels_of_a_letterboxed_image(bright_blazeface: Path) -> None:
    # Half as large and 32 black rows above: the bright square is cell 5, 7 of the finer grid, its middle at 44, 60.
    image = bright_at(256, 128, 80, 48, 16)
    detector = blazeface.BlazeFace(bright_blazeface)
    boxes, scores = detector.found(image)
    np.testing.assert_allclose(boxes, [[71.5, 19.5, 119.5, 83.5]], atol=1e-4)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-10))], atol=1e-5)
    corrected, _ = open_detector(bright_blazeface).detect(image)
    np.testing.assert_allclose(corrected, moved(boxes, blazeface.SHIFT, blazeface.SCALE), atol=1e-4)
    empty, none = detector.detect(np.zeros_like(image))
    assert (empty.shape, none.shape) == ((0, 4), (0,))


def test_yunet_gives_boxes_in_pixels_of_a_reduced_image(tmp_path: Path) -> None:
    detector = open_detector(bright_yunet(tmp_path / "bright.onnx"))
    # A cell's middle is at 68, 100 as counted from the edges.
    boxes, scores = detector.detect(bright_at(320, 240, 64, 96, 8))
    np.testing.assert_allclose(
        boxes, [[68 - 16 - 0.5, 100 - 24 - 0.5, 68 + 16 - 0.5, 100 + 24 - 0.5]], atol=1e-4
    )
    np.testing.assert_allclose(scores, [1.0], atol=1e-5)
    twice = 2 * yunet.LONGEST_SIDE
    boxes, _ = detector.detect(bright_at(twice, 480, 128, 192, 16))
    np.testing.assert_allclose(
        boxes, [[136 - 32 - 0.5, 200 - 48 - 0.5, 136 + 32 - 0.5, 200 + 48 - 0.5]], atol=1e-4
    )
    empty, none = detector.detect(np.zeros((100, 50, 3), dtype=np.uint8))
    assert (empty.shape, none.shape) == ((0, 4), (0,))


def test_a_detector_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path, bright_blazeface: Path) -> None:
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["out"])], "other", [pixels], [out])
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(other, tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "text.tflite").write_text("no network")
    faults = {
        "face.pth": "not a face detector known here; give BlazeFace short range as .tflite or YuNet as .onnx",
        "none.onnx": "no such file; give the model file",
        "text.onnx": "OpenCV cannot read it; give a YuNet file",
        "other.onnx": "its outputs are not YuNet's; give a file such as",
        "text.tflite": "give BlazeFace's face_detection_short_range.tflite",
    }
    for name, fault in faults.items():
        with pytest.raises(UserError) as caught:
            open_detector(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert fault in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_network_in_litert_is_no_blazeface(tmp_path: Path) -> None:
    from small_litert import computed, litert_file

    path = tmp_path / "other.tflite"
    path.write_bytes(litert_file("ABS", [computed("FLOAT32")], [computed("FLOAT32")]))
    with pytest.raises(UserError, match="not a network as BlazeFace's of short range; give BlazeFace's"):
        open_detector(path)


def test_a_network_of_two_inputs_is_no_blazeface(tmp_path: Path) -> None:
    from small_litert import computed, litert_file

    path, image = tmp_path / "other.tflite", computed("FLOAT32", (1, 128, 128, 3))
    path.write_bytes(litert_file("MAXIMUM", [image, image], [image]))
    with pytest.raises(UserError, match="not a network as BlazeFace's of short range; give BlazeFace's"):
        open_detector(path)


def test_a_network_that_cannot_be_laid_out_is_told_in_one_line(tmp_path: Path) -> None:
    from small_litert import computed, litert_file

    path = tmp_path / "other.tflite"
    outputs = [computed("FLOAT32", (1, 896, 16)), computed("FLOAT32", (1, 896, 1))]
    path.write_bytes(litert_file("ABS", [computed("UINT8", (1, 128, 128, 3))], outputs))
    with pytest.raises(UserError, match="cannot be laid out") as caught:
        open_detector(path)
    assert "\n" not in str(caught.value)


whole_boxes = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda parts: np.array([parts[0], parts[1], parts[0] + parts[2], parts[1] + parts[3]])
)


@given(one=whole_boxes, other=whole_boxes)
def test_the_overlap_is_that_of_the_cells_that_both_cover(one: np.ndarray, other: np.ndarray) -> None:
    covered = []
    for x0, y0, x1, y1 in (one, other):
        cells = np.zeros((20, 20), dtype=bool)
        cells[y0:y1, x0:x1] = True
        covered.append(cells)
    expected = (covered[0] & covered[1]).sum() / (covered[0] | covered[1]).sum()
    assert overlaps(one[None], other)[0] == pytest.approx(expected)


def test_boxes_of_one_face_become_their_mean_weighted_by_score() -> None:
    boxes = np.array([[100, 0, 110, 10], [0, 0, 10, 10], [2, 0, 12, 10]], dtype=float)
    found, scores = merged(boxes, np.array([0.7, 0.9, 0.6]), overlap=0.3)
    share = 0.6 / 1.5
    np.testing.assert_allclose(found, [[2 * share, 0, 10 + 2 * share, 10], [100, 0, 110, 10]])
    np.testing.assert_allclose(scores, [0.9, 0.7])


def test_a_box_is_moved_by_shares_of_its_sides() -> None:
    found = moved(np.array([[0.0, 0.0, 10.0, 20.0]]), shift=(0.1, -0.2), scale=(2.0, 0.5))
    np.testing.assert_allclose(found, [[6 - 10, 6 - 5, 6 + 10, 6 + 5]])
