"""Counting the operators of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimalign.benchmarks.layers import Layer
from slimalign.export.onnx_graph import OnnxGraph, attribute
from slimalign.export.onnx_tensors import onnx_tensors
from slimalign.export.tensor_bytes import UncountableError, check_all_counted, tensor_bytes

DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Those whose operators are known here: ONNX's, and ONNX Runtime's own."""

WEIGHTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Conv": (1, 2),
        "ConvTranspose": (1, 2),
        "FusedConv": (1, 2),
        "Gemm": (1, 2),
        "FusedGemm": (1, 2),
        "MatMul": (0, 1),
        "FusedMatMul": (0, 1),
        "ConvInteger": (1,),
        "MatMulInteger": (0, 1),
        "QLinearConv": (3, 8),
        "QLinearMatMul": (0, 3),
        "QGemm": (3, 6),
        "BatchNormalization": (1, 2),
        "InstanceNormalization": (1, 2),
        "LayerNormalization": (1, 2),
        "GroupNormalization": (1, 2),
        "PRelu": (1,),
    }
)
"""The places of weights and biases among an operator's inputs; running means and variances are statistics."""

FREE = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization BiasGelu Cast CastLike Ceil Celu Clip Concat
    ConstantOfShape Cos CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf
    Exp Expand FastGelu Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization
    IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max
    MaxPool Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearAdd QLinearAveragePool
    QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax
    QuantizeLinear QuickGelu Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements
    ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905  # one word a line would be longer than all the rest
)
"""Operators without convolutions and matrix products: elementwise work, pooling, normalising, resizing and moves."""

MOVES_NOTHING = frozenset(
    ("Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze")
)
"""What gives a tensor another name or shape, or asks for it; none of the values is read."""

COPIES = frozenset(
    (
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""What a weight may go through on its way to its operator."""


def onnx_layers(graph: OnnxGraph, path: Path) -> tuple[Layer, ...]:
    """Each operator of the main graph with its cost for one face, see slimalign.export.file_cost.count_file."""
    nodes = operators(graph)
    kinds = [_kind(node) for node in nodes]
    check_all_counted([kind for kind in kinds if kind not in RULES and kind not in FREE], path)
    counter = _Counter(graph, path)
    layers, unknown = [], []
    for index, node in enumerate(nodes):
        name = _name(node, index)
        try:
            layers.append(counter.layer(node, name))
        except UncountableError as error:
            unknown.append(f"{name} ({error})")
    check_all_counted(unknown, path)
    return tuple(layers)


def _kind(node: Any) -> str:
    return str(node.op_type) if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"


def operators(graph: OnnxGraph) -> list[Any]:
    """The operators of the main graph but Constants: the layers, in their order."""
    return [node for node in graph.nodes if node.op_type != "Constant"]


def _name(node: Any, index: int) -> str:
    """An operator's name; one that has none is called as ONNX Runtime does, by its kind and place among the others."""
    return str(node.name) or f"{node.op_type}_{index}"


class _Counter:
    """Counts the operators of a graph in turn: what was counted with one does not count with the next."""

    def __init__(self, graph: OnnxGraph, path: Path) -> None:
        self._graph = graph
        self._of_constants = _made_of_constants(graph)
        self._counted: set[str] = set()
        found = onnx_tensors(graph, path)
        self._tensors, self._batch = found.tensors, found.batch

    def layer(self, node: Any, name: str) -> Layer:
        """Raises UncountableError for tensors of a type that is not known."""
        rule = RULES.get(node.op_type)
        macs = 0 if rule is None else rule(self._shape, node) // self._batch
        return Layer(name, _kind(node), self._params(node), macs, self._bytes(node))

    def _shape(self, name: str) -> Sequence[int]:
        return self._tensors[name].shape

    def _bytes(self, node: Any) -> int:
        if node.op_type in MOVES_NOTHING:
            return 0
        moved = 0
        for name in dict.fromkeys((*node.input, *node.output)):
            if name:
                size = tensor_bytes(*self._tensors[name])
                moved += size if name in self._of_constants else size // self._batch
        return moved

    def _params(self, node: Any) -> int:
        places = WEIGHTS.get(node.op_type, (0, 1) if self._adds_bias(node) else ())
        found = {self._constant(node.input[place]) for place in places if place < len(node.input)}
        new = {name for name in found if name is not None} - self._counted
        self._counted |= new
        return sum(math.prod(self._shape(name)) for name in new)

    def _constant(self, name: str) -> str | None:
        """The constant behind a tensor; None where it is computed from what goes in."""
        if name not in self._of_constants:
            return None
        while name not in self._graph.constants and self._graph.makers[name].op_type in COPIES:
            name = self._graph.makers[name].input[0]
        return name

    def _adds_bias(self, node: Any) -> bool:
        """Whether it is an Add of a constant to what a convolution or product has given."""
        if node.op_type != "Add" or not any(name in self._of_constants for name in node.input):
            return False
        makers = [self._graph.maker(name) for name in node.input if name not in self._of_constants]
        return any(maker is not None and maker.op_type in RULES for maker in makers)


Shape = Callable[[str], Sequence[int]]


def _convolution(shape: Shape, node: Any, weights: int = 1) -> int:
    return math.prod(shape(node.output[0])) * math.prod(shape(node.input[weights])[1:])


def _transposed(shape: Shape, node: Any) -> int:
    return math.prod(shape(node.input[0])) * math.prod(shape(node.input[1])[1:])


def _product(shape: Shape, node: Any) -> int:
    taken = shape(node.input[0])
    turned = bool(attribute(node, "transA", 0)) and len(taken) > 1
    return math.prod(shape(node.output[0])) * taken[-2 if turned else -1]


def _quantised_convolution(shape: Shape, node: Any) -> int:
    return _convolution(shape, node, weights=3)


RULES: Mapping[str, Callable[[Shape, Any], int]] = MappingProxyType(
    {
        "Conv": _convolution,
        "FusedConv": _convolution,
        "ConvInteger": _convolution,
        "QLinearConv": _quantised_convolution,
        "ConvTranspose": _transposed,
        "Gemm": _product,
        "FusedGemm": _product,
        "QGemm": _product,
        "MatMul": _product,
        "FusedMatMul": _product,
        "MatMulInteger": _product,
        "QLinearMatMul": _product,
    }
)
"""The multiply-adds of each kind, from the shapes of its tensors."""


def _made_of_constants(graph: OnnxGraph) -> set[str]:
    """The constants, and what is computed of them alone."""
    found = set(graph.constants)
    for node in graph.nodes:
        if node.input and all(name in found or not name for name in node.input):
            found |= set(node.output)
    return found
