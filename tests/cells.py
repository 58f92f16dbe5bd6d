"""A small network whose output is known by arithmetic, as ONNX, and crops for it.

It averages the red channel over cells of 4x4 pixels for the even heatmaps and the green one for the odd heatmaps, so
that its points are the centres of the cells that were painted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, Manifest, file_sha256, read_bundle

SIZE, STRIDE, LANDMARKS = 16, 4, 19


def cell_weights() -> np.ndarray:
    weights = np.zeros((LANDMARKS, 3, 1, 1), dtype=np.float32)
    weights[0::2, 0] = 1.0
    weights[1::2, 1] = 1.0
    return weights


def onnx_network(batch: int | str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("AveragePool", ["crops"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "weights"], ["heatmaps"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, LANDMARKS, 4, 4])],
        [numpy_helper.from_array(cell_weights(), "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_manifest(folder: Path, model: str, **changes: object) -> Bundle:
    entries: dict[str, object] = {
        "name": "cells",
        "model": model,
        "format": "onnx",
        "precision": "fp32",
        "input_size": SIZE,
        "box_scale": 1.0,
        "layout": "NCHW",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "scheme": "aflw-19",
        "decoder": "local-mean",
        "stride": STRIDE,
        "batch": None,
        "files": {model: file_sha256(folder / model)},
    }
    manifest = Manifest(**{**entries, **changes})  # type: ignore[arg-type]
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return read_bundle(folder)


def onnx_bundle(folder: Path, batch: int | None = None, **changes: object) -> Bundle:
    onnx.save(onnx_network(batch or "n"), folder / "model.onnx")
    return write_manifest(folder, "model.onnx", batch=batch, **changes)


def painted(red: tuple[int, int], green: tuple[int, int]) -> np.ndarray:
    """A black crop whose cell (column, row) ``red`` is red and ``green`` green."""
    crop = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    for channel, (column, row) in enumerate((red, green)):
        crop[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, channel] = 255
    return crop


CROPS = np.stack([painted((1, 2), (3, 0)), painted((0, 0), (2, 3)), painted((3, 1), (1, 1))])
# The centre of a cell in crop pixels: 4 * cell + 1.5.
CENTRES = np.array([[[5.5, 9.5], [13.5, 1.5]], [[1.5, 1.5], [9.5, 13.5]], [[13.5, 5.5], [5.5, 5.5]]])


def expected_points(faces: int) -> np.ndarray:
    return CENTRES[:faces][:, np.arange(LANDMARKS) % 2]
