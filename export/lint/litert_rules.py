"""Rules for .tflite files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path

from slimalign.export.lint.findings import WHOLE_FILE, Fault, Rule
from slimalign.export.litert_graph import has_half_pixel_centres
from slimalign.export.litert_model import LiteRtModel, LiteRtOperator, LiteRtTensor
from slimalign.targets.target import Target
from slimalign.targets.toml_files import read_toml

TABLE = Path(__file__).with_name("delegate_operators.toml")
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
QUANTISED = ("int8", "uint8", "int16")
ONE_SCALE = frozenset(
    {
        *("AVERAGE_POOL_2D", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"),
        *("CONCATENATION", "GATHER", "MIRROR_PAD", "PAD", "PADV2", "SLICE", "SPLIT", "STRIDED_SLICE", "TILE"),
        *("DEPTH_TO_SPACE", "EXPAND_DIMS", "RESHAPE", "SPACE_TO_DEPTH", "SQUEEZE", "TRANSPOSE"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    }
)
"""Operators that hand on quantised values as they are, so that what goes in and out must have one scale."""
MULTIPLE = 8
"""Channels that int8 convolutions compute at once."""
PICTURE_CHANNELS = 3
SUMMED, MULTIPLIED = (2.0**-10, 2.0**8), (2.0**-16, 2.0**8)
SCALES = {"ADD": SUMMED, "SUB": SUMMED, "MUL": MULTIPLIED}
"""From where to below where the scales of what XNNPACK adds or multiplies may lie, in parts of the output's."""


@cache
def _delegate(name: str) -> dict[str, frozenset[str]]:
    return {dtype: frozenset(kinds) for dtype, kinds in read_toml(TABLE)[name].items()}


def _name(operator: LiteRtOperator) -> str:
    return f"{operator.kind} -> {operator.outputs[0].name}" if operator.outputs else operator.kind


def _computed(operator: LiteRtOperator) -> list[LiteRtTensor]:
    """The inputs that are no constants, or the outputs of an operator that has no others."""
    there = [tensor for tensor in operator.inputs if tensor is not None and not tensor.size_bytes]
    return there or list(operator.outputs)


def _dtype(operator: LiteRtOperator) -> str | None:
    """The number type that an operator computes in; None where it takes and gives no tensor."""
    tensors = _computed(operator)
    return tensors[0].dtype if tensors else None


def _weights(operator: LiteRtOperator) -> LiteRtTensor | None:
    return operator.inputs[1] if operator.kind in CONVOLUTIONS and len(operator.inputs) > 1 else None


def custom_operators(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Operators that an app would have to bring itself."""
    for operator in model.operators:
        if operator.kind == "CUSTOM":
            yield Fault(_name(operator), f"{operator.custom_name} is none of LiteRT's own operators")


def float64_tensors(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Tensors in float64, for which there are next to no kernels."""
    for tensor in model.tensors:
        if tensor.dtype == "float64":
            yield Fault(tensor.name, "is in float64")


def weight_zero_points(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Weights in int8 with a zero point, which the kernels take to be 0."""
    for operator in model.operators:
        weights = _weights(operator)
        if weights is not None and weights.dtype == "int8" and any(weights.zero_points):
            yield Fault(_name(operator), "has weights with a zero point that is not 0")


def changed_scales(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Operators that hand on quantised values between tensors of different scales."""
    for operator in model.operators:
        dtype = _dtype(operator)
        # A concatenation in uint8 quantises anew.
        if operator.kind not in ONE_SCALE or (operator.kind, dtype) == ("CONCATENATION", "uint8"):
            continue
        around = [one for one in (*operator.inputs, *operator.outputs) if one is not None]
        scales = {(one.scales, one.zero_points) for one in around if one.dtype == dtype}
        if dtype in QUANTISED and len(scales) > 1:
            yield Fault(_name(operator), f"is a {operator.kind} whose tensors differ in scale or zero point")


def transposes(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Operators that move whole tensors between layouts."""
    for operator in model.operators:
        if operator.kind == "TRANSPOSE":
            yield Fault(_name(operator), "moves a whole tensor between layouts")


def resize_alignments(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Bilinear resizes that take the pixels to lie elsewhere than PyTorch does."""
    for operator in model.operators:
        if operator.kind == "RESIZE_BILINEAR" and not has_half_pixel_centres(operator):
            aligned = "with align_corners" if operator.options.alignCorners else "without half_pixel_centers"
            yield Fault(_name(operator), f"resizes {aligned}")


def resizes_to_nearest(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Resizes that repeat pixels."""
    for operator in model.operators:
        if operator.kind == "RESIZE_NEAREST_NEIGHBOR":
            yield Fault(_name(operator), "resizes by repeating pixels")


def left_to_plain_kernels(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Operators that a delegate of the target leaves to the plain kernels; those in int16 have a rule of their own."""
    for operator in model.operators:
        dtype = _dtype(operator)
        if operator.kind == "CUSTOM" or dtype is None or dtype in ("int16", "float64"):
            continue
        without = [name for name in target.delegates if not _takes(name, operator.kind, dtype)]
        if without:
            yield Fault(
                _name(operator),
                f"{operator.kind} in {dtype} runs in a plain kernel, not in {' or '.join(without)}",
            )


def _takes(delegate: str, kind: str, dtype: str) -> bool:
    taken = _delegate(delegate)
    # Where a delegate has no int8 of its own it computes in float.
    as_float = dtype == "float16" or (dtype == "int8" and "int8" not in taken)
    return kind in taken.get("float32" if as_float else dtype, frozenset())


def uneven_scales(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Arithmetic in int8 with next to nothing, which XNNPACK does not take."""
    for operator in model.operators:
        if operator.kind not in SCALES or _dtype(operator) != "int8" or "xnnpack" not in target.delegates:
            continue
        least, most = SCALES[operator.kind]
        if not all(least <= share < most for share in _shares(operator)):
            message = f"is a {operator.kind} of values so unlike in scale that it runs in a plain kernel"
            yield Fault(_name(operator), message)


def _shares(operator: LiteRtOperator) -> list[float]:
    """The scales of what goes into an operator, of a MUL their product, in parts of the output's."""
    taken = [one.scales[0] for one in operator.inputs if one is not None and one.scales]
    if operator.kind == "MUL":
        taken = [prod(taken)]
    return [scale / given for scale in taken for given in operator.outputs[0].scales]


def int16_activations(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Convolutions of int16, which no delegate takes."""
    for operator in model.operators:
        if _weights(operator) is not None and _dtype(operator) == "int16":
            yield Fault(_name(operator), "takes int16, for which CPUs have plain kernels alone")


def dynamic_ranges(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Convolutions of float32 by int8 weights."""
    for operator in model.operators:
        weights = _weights(operator)
        if weights is not None and (_dtype(operator), weights.dtype) == ("float32", "int8"):
            yield Fault(_name(operator), "quantises its input at each call, slower than float32 in all")


def odd_channels(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Convolutions in int8 of channels that do not fill its instructions."""
    for operator in model.operators:
        weights = _weights(operator)
        if operator.kind != "CONV_2D" or weights is None:
            continue
        if {_dtype(operator), weights.dtype} != {"int8"}:
            continue
        given, taken = weights.shape[0], weights.shape[-1]
        if given % MULTIPLE or (taken != PICTURE_CHANNELS and taken % MULTIPLE):
            yield Fault(_name(operator), f"is in int8 with channels that are no multiple of {MULTIPLE}")


def int8_on_gpus(model: LiteRtModel, target: Target) -> Iterator[Fault]:
    """Files in int8 where a GPU may run them."""
    if "gpu" in target.delegates and any(
        tensor.dtype == "int8" and not tensor.size_bytes for tensor in model.tensors
    ):
        yield Fault(WHOLE_FILE, "is in int8, which the delegate gpu computes in float: smaller, not quicker")


SYMMETRIC = "quantise weights symmetrically, by output channel (slimalign's litert-int8)"
PYTORCH = "convert with half_pixel_centers, as PyTorch's align_corners=False is"

RULES: tuple[Rule[LiteRtModel], ...] = (
    Rule("custom-operator", "error", "use another operator in the network", custom_operators),
    Rule("float64", "error", "export in float32", float64_tensors),
    Rule("weight-zero-point", "error", SYMMETRIC, weight_zero_points),
    Rule("scale-changes", "error", "give all tensors around it one scale and zero point", changed_scales),
    Rule("transpose", "warning", "convert channels last (slimalign's litert), decode in 4-D", transposes),
    Rule("resize-alignment", "warning", PYTORCH, resize_alignments),
    Rule(
        "plain-kernel",
        "warning",
        "use another operator, or compute it outside of the file",
        left_to_plain_kernels,
    ),
    Rule("uneven-scales", "warning", "leave the branch of next to nothing out", uneven_scales),
    Rule("int16", "warning", "export as litert-int8", int16_activations),
    Rule("dynamic-range", "warning", "export as litert-int8, or litert-fp16 for size alone", dynamic_ranges),
    Rule("int8-channels", "warning", f"choose widths that are multiples of {MULTIPLE}", odd_channels),
    Rule("int8-on-gpu", "note", "for the GPU export as litert-fp16", int8_on_gpus),
    Rule("nearest-resize", "note", "right only for a network that was trained so", resizes_to_nearest),
)
