"""Counting the operators of a .tflite file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from slimalign.benchmarks.layers import Layer
from slimalign.export.litert_model import LiteRtModel, LiteRtOperator, LiteRtTensor
from slimalign.export.tensor_bytes import UncountableError, check_all_counted, tensor_bytes

WEIGHTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "CONV_2D": (1, 2),
        "DEPTHWISE_CONV_2D": (1, 2),
        "TRANSPOSE_CONV": (1, 3),
        "FULLY_CONNECTED": (1, 2),
        "BATCH_MATMUL": (0, 1),
        "PRELU": (1,),
    }
)
"""The places of weights and biases among an operator's inputs."""

FREE = frozenset(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CAST CEIL
    CONCATENATION COS CUMSUM DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV
    FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS
    LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE
    RANGE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SCATTER_ND SELECT SELECT_V2 SHAPE
    SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE UNPACK WHERE ZEROS_LIKE
    """.split()  # noqa: SIM905  # one word a line would be longer than all the rest
)
"""Operators without convolutions and matrix products: elementwise work, pooling, normalising, resizing and moves."""

MOVES_NOTHING = frozenset(("EXPAND_DIMS", "RESHAPE", "SHAPE", "SQUEEZE"))
"""What gives a tensor another shape, or asks for it; none of the values is read."""

COPIES = frozenset(("CAST", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "TRANSPOSE"))
"""What a weight may go through on its way to its operator."""


def litert_layers(model: LiteRtModel, path: Path) -> tuple[Layer, ...]:
    """Each operator with its cost for one face, see slimalign.export.file_cost.count_file.

    An operator has no name: it is called as what it gives, or by its kind and place where that has none.
    """
    kinds = [_kind(operator) for operator in model.operators]
    check_all_counted([kind for kind in kinds if kind not in RULES and kind not in FREE], path)
    counter = _Counter(model)
    layers, unknown = [], []
    for index, operator in enumerate(model.operators):
        name = operator.outputs[0].name or f"{operator.kind}_{index}"
        try:
            layers.append(counter.layer(operator, name))
        except UncountableError as error:
            unknown.append(f"{name} ({error})")
    check_all_counted(unknown, path)
    return tuple(layers)


def _kind(operator: LiteRtOperator) -> str:
    return f"CUSTOM.{operator.custom_name}" if operator.kind == "CUSTOM" else operator.kind


class _Counter:
    """Counts operators in turn: what was counted with one does not count again. Tensors are told by identity."""

    def __init__(self, model: LiteRtModel) -> None:
        self._makers = {id(tensor): operator for operator in model.operators for tensor in operator.outputs}
        self._of_constants = {id(tensor) for tensor in model.tensors if tensor.size_bytes}
        taken = [tensor for operator in model.operators for tensor in operator.inputs if tensor is not None]
        images = [one for one in taken if id(one) not in self._makers and id(one) not in self._of_constants]
        self._batch = max((image.shape[0] for image in images if len(image.shape) == 4), default=1)
        self._counted: set[int] = set()
        for operator in model.operators:
            if all(tensor is None or id(tensor) in self._of_constants for tensor in operator.inputs):
                self._of_constants |= {id(tensor) for tensor in operator.outputs}

    def layer(self, operator: LiteRtOperator, name: str) -> Layer:
        """Raises UncountableError for tensors of a type that is not known."""
        rule = RULES.get(operator.kind)
        macs = 0 if rule is None else rule(operator) // self._batch
        return Layer(name, operator.kind, self._params(operator), macs, self._bytes(operator))

    def _bytes(self, operator: LiteRtOperator) -> int:
        if operator.kind in MOVES_NOTHING:
            return 0
        tensors = {id(one): one for one in (*operator.inputs, *operator.outputs) if one is not None}
        sizes = {key: tensor_bytes(tensor.shape, tensor.dtype) for key, tensor in tensors.items()}
        return sum(size if key in self._of_constants else size // self._batch for key, size in sizes.items())

    def _params(self, operator: LiteRtOperator) -> int:
        places = WEIGHTS.get(operator.kind, (0, 1) if self._adds_bias(operator) else ())
        params = 0
        for place in places:
            weights = self._constant(operator.inputs[place]) if place < len(operator.inputs) else None
            if weights is not None and id(weights) not in self._counted:
                self._counted.add(id(weights))
                params += math.prod(weights.shape)
        return params

    def _constant(self, tensor: LiteRtTensor | None) -> LiteRtTensor | None:
        """The constant behind a tensor; None where it is computed from what goes in."""
        if tensor is None or id(tensor) not in self._of_constants:
            return None
        while not tensor.size_bytes and self._makers[id(tensor)].kind in COPIES:
            (tensor, *_) = (one for one in self._makers[id(tensor)].inputs if one is not None)
        return tensor

    def _adds_bias(self, operator: LiteRtOperator) -> bool:
        """Whether it is an ADD of a constant to what a convolution or product has given."""
        computed = [one for one in operator.inputs if one is not None and id(one) not in self._of_constants]
        if operator.kind != "ADD" or len(computed) == len(operator.inputs):
            return False
        makers = [self._makers.get(id(one)) for one in computed]
        return any(maker is not None and maker.kind in RULES for maker in makers)


def _shape(operator: LiteRtOperator, place: int) -> tuple[int, ...]:
    tensor = operator.inputs[place]
    if tensor is None:
        raise UncountableError("an input is missing")
    return tensor.shape


def _given(operator: LiteRtOperator) -> int:
    return math.prod(operator.outputs[0].shape)


def _convolution(operator: LiteRtOperator) -> int:
    # Weights are (out, height, width, in of one group).
    return _given(operator) * math.prod(_shape(operator, 1)[1:])


def _depthwise(operator: LiteRtOperator) -> int:
    # Weights are (1, height, width, out).
    return _given(operator) * math.prod(_shape(operator, 1)[1:3])


def _transposed(operator: LiteRtOperator) -> int:
    # Weights are (out, height, width, in); the image is the third input, after the output's shape.
    out, height, width, _ = _shape(operator, 1)
    return math.prod(_shape(operator, 2)) * out * height * width


def _fully_connected(operator: LiteRtOperator) -> int:
    return _given(operator) * _shape(operator, 1)[-1]


def _batched(operator: LiteRtOperator) -> int:
    return _given(operator) * _shape(operator, 0)[-2 if operator.options.adjX else -1]


RULES: Mapping[str, Callable[[LiteRtOperator], int]] = MappingProxyType(
    {
        "CONV_2D": _convolution,
        "DEPTHWISE_CONV_2D": _depthwise,
        "TRANSPOSE_CONV": _transposed,
        "FULLY_CONNECTED": _fully_connected,
        "BATCH_MATMUL": _batched,
    }
)
"""The multiply-adds of each kind, from the shapes of its tensors."""
