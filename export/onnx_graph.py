"""Reading the graph of an ONNX file: who makes a tensor, who takes it, what is constant, what has which shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def read_onnx_graph(path: Path) -> OnnxGraph:
    """The graph of the ONNX file at ``path``; raises UserError where it is cut short or something else."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as ONNX ({reason}); export it again") from None
    if not model.graph.node:
        raise UserError(f"{path}: no ONNX model, it holds no operators; export it again")
    return OnnxGraph(model)


@dataclass(frozen=True)
class OnnxGraph:
    """An ONNX model, and what its tensors are; those inside of branches and loops are left out."""

    model: Any

    @cached_property
    def nodes(self) -> list[Any]:
        """The operators of the main graph, in order."""
        return list(self.model.graph.node)

    @cached_property
    def every_node(self) -> list[Any]:
        """The operators of the main graph and of the branches and loops in it."""
        return list(_nodes_within(self.model.graph))

    @cached_property
    def opset(self) -> int:
        """The version of ONNX's own operators; 1 where the model names none."""
        return max(
            (one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")), default=1
        )

    @cached_property
    def makers(self) -> dict[str, Any]:
        """The operator that gives each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, list[tuple[Any, int]]]:
        """The operators that take each tensor, and as which of their inputs."""
        readers: dict[str, list[tuple[Any, int]]] = {}
        for node in self.nodes:
            for place, name in enumerate(node.input):
                readers.setdefault(name, []).append((node, place))
        return readers

    @cached_property
    def outputs(self) -> set[str]:
        """The names of what the model gives."""
        return {value.name for value in self.model.graph.output}

    @cached_property
    def inputs(self) -> list[Any]:
        """What the model takes; older models name their weights there too, they are left out."""
        return [value for value in self.model.graph.input if value.name not in self.constants]

    @cached_property
    def constants(self) -> dict[str, Any]:
        """The constant tensors, those of Constant operators too."""
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        made = {node.output[0]: _constant(node) for node in self.nodes if node.op_type == "Constant"}
        return found | {name: tensor for name, tensor in made.items() if tensor is not None}

    @cached_property
    def _types(self) -> dict[str, Any]:
        import onnx

        try:
            graph = onnx.shape_inference.infer_shapes(self.model).graph
        except onnx.shape_inference.InferenceError:
            graph = self.model.graph
        values = (*graph.value_info, *graph.input, *graph.output)
        return {value.name: value.type.tensor_type for value in values}

    def shape(self, name: str) -> list[int] | None:
        """The shape of a tensor, 0 where a dimension is not fixed; None where nothing is known of it."""
        if name in self.constants:
            return list(self.constants[name].dims)
        found = self._types.get(name)
        return [one.dim_value for one in found.shape.dim] if found and found.HasField("shape") else None

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """The number type of each tensor of which it is known, as in ``float32``."""
        from onnx import TensorProto

        codes = {name: found.elem_type for name, found in self._types.items()}
        codes |= {name: tensor.data_type for name, tensor in self.constants.items()}
        names = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
        return {
            tensor: names.get(code, TensorProto.DataType.Name(code).lower())
            for tensor, code in codes.items()
            if code
        }

    def source(self, name: str) -> str:
        """The tensor that ``name`` is a copy of: equal weights are kept once and handed on by Identity.

        Raises ValueError where copies are of each other, as in a damaged file.
        """
        copies = {name}
        while name in self.makers and self.makers[name].op_type == "Identity":
            name = self.makers[name].input[0]
            if name in copies:
                raise ValueError(f"'{name}' is a copy of itself")
            copies.add(name)
        return name

    def array(self, name: str) -> NDArray[Any] | None:
        """The values of a constant; None where the tensor is computed."""
        from onnx import numpy_helper

        tensor = self.constants.get(self.source(name))
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def maker(self, name: str) -> Any | None:
        """The operator behind a tensor, copies left out."""
        return self.makers.get(self.source(name))

    def made_by(self, name: str, kind: str) -> bool:
        """Whether an operator of that kind gives the tensor."""
        maker = self.maker(name)
        return maker is not None and maker.op_type == kind

    def dequantised(self, name: str) -> bool:
        """Whether the tensor comes out of a DequantizeLinear."""
        return self.made_by(name, DEQUANTIZE)

    def quantised_dtype(self, name: str) -> str | None:
        """The number type that the DequantizeLinear which gives ``name`` takes."""
        node = self.makers[self.source(name)]
        taken = self.source(node.input[0])
        maker = self.makers.get(taken)
        if maker is not None and maker.op_type == QUANTIZE and len(maker.input) > 2:
            taken = self.source(maker.input[2])
        return self.dtypes.get(taken)

    def weights(self, node: Any) -> tuple[str, str | None]:
        """The float or integer constant behind a convolution's weights, and their DequantizeLinear's output."""
        name = self.source(node.input[1])
        if not self.dequantised(name):
            return name, None
        behind = self.source(self.makers[name].input[0])
        if self.made_by(behind, QUANTIZE):
            return self.source(self.makers[behind].input[0]), name
        return behind, name


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of an operator's attribute; text is decoded."""
    import onnx

    for one in node.attribute:
        if one.name == name:
            value = onnx.helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def node_name(node: Any) -> str:
    """The name of an operator, or what it is and gives where it has none."""
    return node.name or f"{node.op_type} -> {node.output[0]}"


def _constant(node: Any) -> Any | None:
    """The tensor of a Constant operator; None where it is of text, or sparse."""
    from onnx import numpy_helper

    dtypes = {
        "value_float": "float32",
        "value_floats": "float32",
        "value_int": "int64",
        "value_ints": "int64",
    }
    for one in node.attribute:
        if one.name in dtypes:
            values = np.asarray(attribute(node, one.name, None), dtype=dtypes[one.name])
            return numpy_helper.from_array(values, node.output[0])
    return attribute(node, "value", None)


def _nodes_within(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for one in node.attribute:
            for inner in (one.g, *one.graphs):
                yield from _nodes_within(inner)
