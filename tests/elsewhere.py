"""A landmark model from elsewhere: an ONNX file whose coordinates are known by arithmetic, and its TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE, LANDMARKS = 8, 19

ENTRIES: Mapping[str, Any] = {
    "model": "model.onnx",
    "scheme": "aflw-19",
    "box_scale": 1.0,
    "colour": "rgb",
    "mean": 0,
    "std": 255,
    "output": "pixels",
}
"""Of a TOML that has what is needed and no more."""


def weights_of(values: int) -> NDArray[np.float32]:
    """(3, values): what each channel's mean adds to each value."""
    return np.random.default_rng(0).random((3, values), dtype=np.float32)


def network(
    values: int,
    size: int = SIZE,
    batch: int | str = "n",
    layout: str = "NCHW",
    more: tuple[str, ...] = (),
    dtype: int = TensorProto.FLOAT,
    axes: tuple[int, ...] = (),
) -> onnx.ModelProto:
    """Gives ``values`` numbers a face, ``weights_of`` times the means of its three channels.

    ``more`` are the names of outputs besides ``points``, which are those means. The numbers of a face have the shape
    ``axes`` where that is named.
    """
    places = [2, 3] if layout == "NCHW" else [1, 2]
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=places, keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["values" if axes else "points"]),
        *([helper.make_node("Reshape", ["values", "shape"], ["points"])] if axes else []),
        *(helper.make_node("Identity", ["means"], [name]) for name in more),
    ]
    weights = weights_of(values).astype(helper.tensor_dtype_to_np_dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "elsewhere",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, None) for name in ("points", *more)],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([-1, *axes]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_toml(path: Path, entries: Mapping[str, Any] = ENTRIES, **changes: Any) -> Path:
    """Write the ``entries`` with some changed, or left out where they are None."""
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in {**entries, **changes}.items() if value is not None
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def elsewhere(folder: Path, values: int = 2 * LANDMARKS, **changes: Any) -> Path:
    """The TOML of such a model in ``folder``, the model beside it."""
    onnx.save(network(values), folder / "model.onnx")
    return write_toml(folder / "mine.toml", **changes)
