"""int8 ONNX by TensorRT's rules for explicit quantisation, from a float32 file.

Activations are signed and symmetric, one scale a tensor; weights are signed, one scale an output channel, and stay
float32 in the file in front of their own pair of Q and DQ; biases are not quantised. Before an addition only the
branch that is no convolution's own output is quantised, so that TensorRT fuses convolution and addition. All tensors
around a concatenation share a scale. The head stays in float.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.export.blocks import onnx_block
from slimalign.export.int8_share import HEAD
from slimalign.export.onnx_file import save_onnx
from slimalign.export.onnx_from_torch import INPUT
from slimalign.runtimes.errors import UserError

Float32 = NDArray[np.float32]
INT8_MAX = 127.0


@dataclass
class Places:
    """Where pairs of Q and DQ go in a graph.

    ``readers`` are, by tensor, the nodes that take it quantised and at which of their inputs; ``weights`` are the
    convolutions whose weights are quantised.
    """

    readers: dict[str, list[tuple[Any, int]]] = field(default_factory=dict)
    weights: list[Any] = field(default_factory=list)

    def read(self, node: Any, place: int) -> None:
        """``node`` takes its input number ``place`` quantised."""
        self.readers.setdefault(node.input[place], []).append((node, place))


def calibrated_largest(source: Path, batches: Iterable[Float32]) -> dict[str, float]:
    """The largest magnitude over ``batches`` (N, 3, S, S) of each tensor of ``source`` that may be quantised."""
    import onnx

    model = onnx.load(str(source))
    return largest_values(model, list(quantised_places(model.graph).readers), batches)


def write_onnx_int8_tensorrt(
    source: Path, largest: Mapping[str, float], path: Path, float_blocks: Collection[str] = ()
) -> None:
    """Write the optimised model ``source`` with Q and DQ; ``largest`` is what ``calibrated_largest`` gives.

    Blocks named in ``float_blocks`` stay in float32.
    """
    import onnx

    model = onnx.load(str(source))
    places = quantised_places(model.graph, float_blocks)
    taken = {name: largest[name] for name in places.readers}
    insert_pairs(model.graph, places, shared_by_concatenation(model.graph, taken))
    save_onnx(model, path)


def quantised_places(graph: Any, float_blocks: Collection[str] = ()) -> Places:
    """Where pairs go in the ONNX ``graph``: at convolutions and at the other branch of their additions.

    There are none in the head and in ``float_blocks``.
    """
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    places = Places()
    for node in graph.node:
        if HEAD in node.name or onnx_block(node.name) in float_blocks:
            continue
        if node.op_type == "Conv":
            places.read(node, 0)
            places.weights.append(node)
        elif node.op_type == "Add" and not constants.intersection(node.input):
            convolved = [_is_convolution(makers.get(name)) for name in node.input]
            if any(convolved):
                # Of two convolutions the second is fused, as the one that is done last.
                places.read(node, 0 if convolved[1] else 1)
    return places


def _is_convolution(node: Any | None) -> bool:
    return node is not None and node.op_type == "Conv"


def largest_values(model: Any, names: Iterable[str], batches: Iterable[Float32]) -> dict[str, float]:
    """The largest magnitude of each tensor in ``names`` over ``batches`` (N, 3, S, S)."""
    import onnx
    import onnxruntime

    names = list(names)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in {INPUT, *there}
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    made = [name for name in names if name != INPUT]
    largest = dict.fromkeys(names, 0.0)
    for batch in batches:
        found = dict(zip(made, session.run(made, {INPUT: batch}), strict=True))
        for name in names:
            values = batch if name == INPUT else found[name]
            largest[name] = max(largest[name], float(np.abs(values).max()))
    return largest


def shared_by_concatenation(graph: Any, largest: Mapping[str, float]) -> dict[str, float]:
    """``largest``, where the tensors into and out of one concatenation have the largest of them all."""
    shared = dict(largest)
    changed = True
    while changed:  # a concatenation may be an input of another
        changed = False
        for node in graph.node:
            if node.op_type == "Concat" and HEAD not in node.name:
                group = [name for name in (*node.input, *node.output) if name in shared]
                top = max((shared[name] for name in group), default=0.0)
                changed = changed or any(shared[name] != top for name in group)
                shared.update(dict.fromkeys(group, top))
    return shared


def insert_pairs(graph: Any, places: Places, largest: Mapping[str, float]) -> None:
    """Put a pair of Q and DQ behind every tensor of ``places``, and one before every weight, into ``graph``."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for name, readers in places.readers.items():
        if not largest[name] < np.inf:
            raise UserError(
                f"tensor {name}: its largest value over the calibration faces is {largest[name]:g}; it has no range "
                "to quantise, train the network again"
            )
        # A tensor that is 0 on all faces has a positive scale too: TensorRT takes no other.
        quantised = _pair(graph, name, np.float32((largest[name] or 1.0) / INT8_MAX))
        for node, place in readers:
            node.input[place] = quantised
    # Equal weights are kept once, and so is their pair.
    pairs: dict[str, str] = {}
    for node in places.weights:
        name = node.input[1]
        if name not in pairs:
            pairs[name] = _pair(graph, name, weight_scales(numpy_helper.to_array(constants[name])))
        node.input[1] = pairs[name]


def weight_scales(weights: Float32) -> Float32:
    """One scale an output channel of ``weights`` (C, ...), by its largest magnitude; a channel of zeros has one too."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    return np.asarray(np.where(largest > 0, largest, 1.0) / INT8_MAX, dtype=np.float32)


def _pair(graph: Any, name: str, scale: np.float32 | Float32) -> str:
    """Append Q and DQ of tensor ``name`` to ``graph``, by channel where ``scale`` is (C,); the name of their output."""
    from onnx import helper, numpy_helper

    scales = np.asarray(scale, dtype=np.float32)
    zeros = np.zeros(scales.shape, dtype=np.int8)
    by = [f"{name}_scale", f"{name}_zero"]
    graph.initializer.extend([numpy_helper.from_array(scales, by[0]), numpy_helper.from_array(zeros, by[1])])
    pair = [
        helper.make_node("QuantizeLinear", [name, *by], [f"{name}_q"], name=f"{name}_Q"),
        helper.make_node("DequantizeLinear", [f"{name}_q", *by], [f"{name}_dq"], name=f"{name}_DQ"),
    ]
    if scales.ndim:
        for node in pair:
            node.attribute.append(helper.make_attribute("axis", 0))
    graph.node.extend(pair)
    return f"{name}_dq"
