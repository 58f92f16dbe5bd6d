"""The shape and number type of every tensor of an ONNX graph, as ONNX Runtime makes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slimalign.export.onnx_graph import OnnxGraph
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.onnxruntime_session import ERRORS_ONLY


class OnnxTensor(NamedTuple):
    """A tensor; ``dtype`` is called as in NumPy."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OnnxTensors:
    """Every tensor by its name, for the ``batch`` that the file fixes, or else for one."""

    tensors: Mapping[str, OnnxTensor]
    batch: int


def onnx_tensors(graph: OnnxGraph, path: Path) -> OnnxTensors:
    """Run ``graph``, read from ``path``, once on zeros and look at each tensor.

    What is written in a file, or inferred from it, leaves shapes open that are computed. Raises UserError for a file
    that ONNX Runtime cannot run, and for inputs whose size is not fixed but for the batch.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    failures = (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    )
    names = [name for node in graph.nodes for name in node.output if name]
    shapes = {value.name: _input_shape(value, path) for value in graph.inputs}
    try:
        session = onnxruntime.InferenceSession(
            _with_all_outputs(graph, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        given = {
            value.name: np.zeros(shapes[value.name], _numpy_type(value.type))
            for value in session.get_inputs()
            if value.name in shapes
        }
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in given.items()}
        found = dict(zip(names, session.run_with_ort_values(names, values), strict=True))
    except failures as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: ONNX Runtime cannot run it ({reason}); its operators cannot be counted"
        ) from None
    tensors = {
        name: OnnxTensor(tuple(tensor.dims), graph.dtypes.get(name, "unknown"))
        for name, tensor in graph.constants.items()
    }
    for name, value in (values | found).items():
        tensors[name] = OnnxTensor(tuple(value.shape()), _numpy_type(value.data_type()))
    return OnnxTensors(tensors, max((shape[0] for shape in shapes.values() if shape), default=1))


def _with_all_outputs(graph: OnnxGraph, names: list[str]) -> Any:
    import onnx

    model = copy.deepcopy(graph.model)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model


def _input_shape(value: Any, path: Path) -> tuple[int, ...]:
    first, *others = [size.dim_value for size in value.type.tensor_type.shape.dim] or [1]
    if 0 in others:
        raise UserError(
            f"{path}: the shape of its input '{value.name}' is not fixed; export it for one input size"
        )
    return (first or 1, *others)


def _numpy_type(told: str) -> str:
    """What ONNX Runtime calls ``tensor(float)``, as NumPy calls it."""
    name = told.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
