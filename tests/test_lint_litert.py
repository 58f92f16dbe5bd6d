"""Lint of .tflite files: each rule on a file with one fault, and what the real delegate XNNPACK takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from small_litert import IMAGE, Tensor, computed, constant, litert_file

from slimalign.export.lint.findings import Report
from slimalign.export.lint.lint import lint
from slimalign.export.lint.litert_rules import ONE_SCALE, RULES
from slimalign.export.litert_model import read_litert_model
from slimalign.runtimes.errors import UserError
from slimalign.targets.profile import target_named
from slimalign.targets.target import Target

PI = target_named("raspberry-pi-5")
PHONE = target_named("android")


def convolution(
    taken: str = "INT8", weights: str = "INT8", channels: int = 8, zero: int = 0, given: str = ""
) -> bytes:
    """1x1, from 8 channels."""
    quantised = {"scale": np.full(channels, 0.1), "zero": zero} if weights == "INT8" else {}
    kernel = constant(np.ones((channels, 1, 1, 8)), np.dtype(weights.lower()), **quantised)
    bias_dtype = {"INT8": np.int32, "INT16": np.int64}.get(taken, np.float32)
    scale = {"scale": np.full(channels, 0.01)} if taken != "FLOAT32" else {}
    bias = constant(np.zeros(channels), bias_dtype, **scale)
    out = computed(given or taken, (*IMAGE[:3], channels))
    version = {"INT8": 3, "INT16": 4}.get(taken, 1)
    return litert_file("CONV_2D", [computed(taken), kernel, bias], [out], version, strideH=1, strideW=1)


def resize(
    kind: str = "RESIZE_BILINEAR", dtype: str = "FLOAT32", scale: float = 0.1, **options: Any
) -> bytes:
    out = computed(dtype, (1, 8, 8, 8), scale)
    return litert_file(
        kind, [computed(dtype), constant([8, 8])], [out], 3, **{"halfPixelCenters": True} | options
    )


def concatenation(second: float = 0.1, count: int = 2) -> bytes:
    taken = [computed("INT8"), *(computed("INT8", scale=second) for _ in range(count - 1))]
    return litert_file("CONCATENATION", taken, [computed("INT8", (1, 4, 4, 8 * count))], 2, axis=3)


def transpose() -> bytes:
    out = computed("FLOAT32", (1, 8, 4, 4))
    return litert_file("TRANSPOSE", [computed("FLOAT32"), constant([0, 3, 1, 2])], [out])


def on_image(kind: str, dtype: str = "FLOAT32", inputs: int = 1, **options: Any) -> bytes:
    version = 2 if dtype == "INT8" else 1
    return litert_file(kind, [computed(dtype)] * inputs, [computed(dtype)], version, **options)


def arithmetic(kind: str, share: float) -> bytes:
    """In int8, one input's scale a ``share`` of the output's, the other's 1."""
    taken = [computed("INT8", scale=1.0), computed("INT8", scale=share)]
    return litert_file(kind, taken, [computed("INT8", scale=1.0)], 2)


def copying(kind: str, dtype: str, scale: float) -> bytes:
    """An operator that hands values in ``dtype`` on as they are, its output's scale ``scale``, its input's 0.1."""
    image = computed(dtype)
    version = 1 if dtype == "UINT8" or kind in ("EXPAND_DIMS", "RESHAPE") else 2
    edges = constant([[0, 0], [0, 1], [0, 1], [0, 0]])
    start, end, steps = constant([0, 0, 0, 0]), constant([1, 2, 2, 8]), constant([1, 1, 1, 1])
    pool = dict.fromkeys(("filterHeight", "filterWidth", "strideH", "strideW"), 2)
    zero = Tensor((1,), dtype, np.zeros(1, np.dtype(dtype.lower())), scale)
    parts: dict[str, tuple[list[Tensor], tuple[int, ...], dict[str, Any]]] = {
        "AVERAGE_POOL_2D": ([image], (1, 2, 2, 8), pool),
        "CONCATENATION": ([image, computed(dtype)], (1, 4, 4, 16), {"axis": 3}),
        "DEPTH_TO_SPACE": ([image], (1, 8, 8, 2), {"blockSize": 2}),
        "EXPAND_DIMS": ([image, constant(0)], (1, 1, 4, 4, 8), {}),
        "GATHER": ([image, constant([0, 1])], (1, 4, 4, 2), {"axis": 3}),
        "MAXIMUM": ([image, image], IMAGE, {}),
        "MAX_POOL_2D": ([image], (1, 2, 2, 8), pool),
        "MINIMUM": ([image, image], IMAGE, {}),
        "MIRROR_PAD": ([image, edges], (1, 5, 5, 8), {}),
        "PAD": ([image, edges], (1, 5, 5, 8), {}),
        "PADV2": ([image, edges, zero], (1, 5, 5, 8), {}),
        "REDUCE_MAX": ([image, constant([1, 2])], (1, 1, 1, 8), {"keepDims": True}),
        "REDUCE_MIN": ([image, constant([1, 2])], (1, 1, 1, 8), {"keepDims": True}),
        "RELU": ([image], IMAGE, {}),
        "RESHAPE": ([image, constant([1, 128])], (1, 128), {}),
        "RESIZE_BILINEAR": ([image, constant([8, 8])], (1, 8, 8, 8), {"halfPixelCenters": True}),
        "RESIZE_NEAREST_NEIGHBOR": ([image, constant([8, 8])], (1, 8, 8, 8), {"halfPixelCenters": True}),
        "SLICE": ([image, start, end], (1, 2, 2, 8), {}),
        "SPACE_TO_DEPTH": ([image], (1, 2, 2, 32), {"blockSize": 2}),
        "SPLIT": ([constant(3), image], (1, 4, 4, 4), {"numSplits": 2}),
        "SQUEEZE": ([image], (4, 4, 8), {"squeezeDims": [0]}),
        "STRIDED_SLICE": ([image, start, end, steps], (1, 2, 2, 8), {}),
        "TILE": ([image, constant([1, 1, 1, 2])], (1, 4, 4, 16), {}),
        "TRANSPOSE": ([image, constant([0, 3, 1, 2])], (1, 8, 4, 4), {}),
    }
    taken, shape, options = parts[kind]
    given = [computed(dtype, shape, scale)] * options.get("numSplits", 1)
    return litert_file(kind, taken, given, version, **options)


@dataclass(frozen=True)
class Row:
    """A file with one fault, the rule that finds it, and its operator or tensor."""

    rule: str
    node: str
    file: bytes
    target: Target = PI


ROWS = [
    Row("custom-operator", "CUSTOM -> out0", litert_file("CUSTOM", [Tensor()], [Tensor()], custom="FlexErf")),
    Row("float64", "in0", on_image("ADD", "FLOAT64", inputs=2)),
    Row("weight-zero-point", "CONV_2D -> out0", convolution(zero=3)),
    Row("scale-changes", "RESIZE_BILINEAR -> out0", resize(dtype="INT8", scale=0.2)),
    Row("scale-changes", "CONCATENATION -> out0", concatenation(0.2)),
    Row("scale-changes", "MAX_POOL_2D -> out0", copying("MAX_POOL_2D", "UINT8", 0.2)),
    Row("scale-changes", "PAD -> out0", copying("PAD", "INT16", 0.2)),
    Row("transpose", "TRANSPOSE -> out0", transpose()),
    Row("resize-alignment", "RESIZE_BILINEAR -> out0", resize(halfPixelCenters=False)),
    Row("resize-alignment", "RESIZE_BILINEAR -> out0", resize(halfPixelCenters=False, alignCorners=True)),
    Row("plain-kernel", "RELU -> out0", on_image("RELU", "INT8")),
    Row("plain-kernel", "RELU_0_TO_1 -> out0", on_image("RELU_0_TO_1")),
    Row("plain-kernel", "CEIL -> out0", on_image("CEIL"), PHONE),
    Row("uneven-scales", "ADD -> out0", arithmetic("ADD", 1e-4)),
    Row("uneven-scales", "SUB -> out0", arithmetic("SUB", 1e-4)),
    Row("uneven-scales", "MUL -> out0", arithmetic("MUL", 1e-5)),
    Row("int16", "CONV_2D -> out0", convolution("INT16")),
    Row("dynamic-range", "CONV_2D -> out0", convolution("FLOAT32")),
    Row("int8-channels", "CONV_2D -> out0", convolution(channels=12)),
    Row("int8-on-gpu", "(the file)", convolution(), PHONE),
    Row("nearest-resize", "RESIZE_NEAREST_NEIGHBOR -> out0", resize("RESIZE_NEAREST_NEIGHBOR")),
]

FAULTLESS = {
    "int8": convolution(),
    "float32": convolution("FLOAT32", "FLOAT32"),
    "float32 of any channels": convolution("FLOAT32", "FLOAT32", channels=12),
    "resize": resize(),
    "int8 resize": resize(dtype="INT8"),
    "concatenation": concatenation(),
    "relu": on_image("RELU"),
    "addition": arithmetic("ADD", 1e-2),
    "product": arithmetic("MUL", 1e-4),
}


def linted(file: bytes, target: Target, folder: Path) -> Report:
    path = folder / "model.tflite"
    path.write_bytes(file)
    return lint(path, target)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule} at {row.node}")
def test_the_fault_is_found_where_it_is_and_no_other_error_is(row: Row, tmp_path: Path) -> None:
    report = linted(row.file, row.target, tmp_path)
    assert [found.nodes[0] for found in report.findings if found.rule == row.rule] == [row.node]
    assert {found.rule for found in report.findings if found.level == "error"} <= {row.rule}


@pytest.mark.parametrize("name", FAULTLESS)
def test_nothing_is_found_in_a_file_without_fault(name: str, tmp_path: Path) -> None:
    assert linted(FAULTLESS[name], PI, tmp_path).findings == ()


def test_every_rule_has_a_row() -> None:
    assert {row.rule for row in ROWS} == {rule.name for rule in RULES}


def test_an_operator_without_tensors_is_no_stumbling_block(tmp_path: Path) -> None:
    assert linted(litert_file("CALL_ONCE", [], []), PI, tmp_path).findings == ()


def test_int8_without_scales_is_no_stumbling_block(tmp_path: Path) -> None:
    plain = Tensor(dtype="INT8")
    assert linted(litert_file("ADD", [plain, plain], [plain], 2), PI, tmp_path).findings == ()


def test_a_phone_has_two_delegates(tmp_path: Path) -> None:
    (found,) = linted(on_image("RELU_0_TO_1"), PHONE, tmp_path).findings
    assert found.message == "RELU_0_TO_1 in float32 runs in a plain kernel, not in xnnpack or gpu"
    (found,) = linted(on_image("CEIL"), PHONE, tmp_path).findings
    assert found.message == "CEIL in float32 runs in a plain kernel, not in gpu"


def is_delegated(file: bytes) -> bool:
    """Whether XNNPACK, as it is installed here, takes the one operator of a file."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    return any(one["op_name"] == "DELEGATE" for one in interpreter._get_ops_details())


def reduction(kind: str, dtype: str) -> bytes:
    out = computed(dtype, (1, 1, 1, 8))
    version = 2 if dtype == "INT8" else 1
    return litert_file(kind, [computed(dtype), constant([1, 2])], [out], version, keepDims=True)


def moved(kind: str, dtype: str, numbers: Sequence[Any], shape: tuple[int, ...], **options: Any) -> bytes:
    version = 2 if dtype == "INT8" else 1
    return litert_file(
        kind, [computed(dtype), constant(numbers)], [computed(dtype, shape)], version, **options
    )


def one_operator_files() -> dict[str, bytes]:
    """Operators of networks and decoders, each in float32 and, where LiteRT has it so, in int8."""
    files = {}
    for kind in (
        "ABS",
        "CEIL",
        "ELU",
        "EXP",
        "FLOOR",
        "GELU",
        "HARD_SWISH",
        "LOG",
        "LOGISTIC",
        "NEG",
        "ROUND",
    ):
        files[f"{kind} in float32"] = on_image(kind)
    for kind in ("RELU_N1_TO_1", "RELU_0_TO_1", "RSQRT", "SIGN", "SQRT", "SQUARE", "TANH", "COS", "SIN"):
        files[f"{kind} in float32"] = on_image(kind)
    files["SOFTMAX in float32"] = on_image("SOFTMAX", beta=1.0)
    for dtype in ("FLOAT32", "INT8"):
        tail = f" in {dtype.lower()}"
        for kind in ("RELU", "RELU6"):
            files[kind + tail] = on_image(kind, dtype)
        files["LEAKY_RELU" + tail] = on_image("LEAKY_RELU", dtype, alpha=0.1)
        for kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
            files[kind + tail] = on_image(kind, dtype, inputs=2)
        for kind in ("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
            files[kind + tail] = reduction(kind, dtype)
        files["PAD" + tail] = moved("PAD", dtype, [[0, 0], [0, 1], [0, 1], [0, 0]], (1, 5, 5, 8))
        flat = [computed(dtype, (1, 128))]
        files["RESHAPE" + tail] = litert_file("RESHAPE", [computed(dtype), constant([1, 128])], flat)
        files["TRANSPOSE" + tail] = moved("TRANSPOSE", dtype, [0, 3, 1, 2], (1, 8, 4, 4))
        files["TILE" + tail] = moved("TILE", dtype, [1, 1, 1, 2], (1, 4, 4, 16))
        for kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
            files[kind + tail] = resize(kind, dtype)
        files["MAX_POOL_2D" + tail] = pooling("MAX_POOL_2D", dtype)
        files["AVERAGE_POOL_2D" + tail] = pooling("AVERAGE_POOL_2D", dtype)
        files["CONV_2D" + tail] = convolution(dtype, dtype)
    files["DIV in float32"] = on_image("DIV", inputs=2)
    files["CONCATENATION in int8"] = concatenation()
    return files


def pooling(kind: str, dtype: str) -> bytes:
    sizes = dict.fromkeys(("filterHeight", "filterWidth", "strideH", "strideW"), 2)
    version = 2 if dtype == "INT8" else 1
    return litert_file(kind, [computed(dtype)], [computed(dtype, (1, 2, 2, 8))], version, **sizes)


@pytest.mark.parametrize(("name", "file"), one_operator_files().items(), ids=list(one_operator_files()))
def test_xnnpack_takes_what_the_table_says(name: str, file: bytes, tmp_path: Path) -> None:
    report = linted(file, PI, tmp_path)
    left = [found.message for found in report.findings if found.rule == "plain-kernel"]
    assert left == ([] if is_delegated(file) else [f"{name} runs in a plain kernel, not in xnnpack"])


@pytest.mark.parametrize("share", [1 / 70000, 1 / 65536, 1 / 1100, 1 / 1024, 200, 256])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_xnnpack_takes_arithmetic_with_scales_that_are_near(kind: str, share: float, tmp_path: Path) -> None:
    file = arithmetic(kind, share)
    left = [found.rule for found in linted(file, PI, tmp_path).findings]
    assert left == ([] if is_delegated(file) else ["uneven-scales"])


def values(file: bytes) -> NDArray[Any]:
    """What a file of one operator makes of the same random numbers, by its output's scale."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for taken in interpreter.get_input_details():
        numbers = random.integers(20, 60, taken["shape"]).astype(taken["dtype"])
        interpreter.set_tensor(taken["index"], numbers)
    interpreter.invoke()
    given = interpreter.get_output_details()[0]
    return np.asarray(interpreter.get_tensor(given["index"]) * given["quantization"][0])


def keeps_values(kind: str, dtype: str) -> bool:
    """Whether an output of twice the input's scale has, within its step of 0.2, the values of one of equal scale."""
    before = values(copying(kind, dtype, 0.1))
    try:
        after = values(copying(kind, dtype, 0.2))
    except RuntimeError:
        return False
    return bool(np.abs(after - before).max() < 0.21)


COPIES = [(kind, dtype) for kind in [*sorted(ONE_SCALE), "RELU"] for dtype in ("INT8", "UINT8", "INT16")]
NOT_IN_LITERT = {("DEPTH_TO_SPACE", "INT16"), ("SPACE_TO_DEPTH", "INT16")}


@pytest.mark.parametrize(("kind", "dtype"), [one for one in COPIES if one not in NOT_IN_LITERT])
def test_operators_that_copy_cannot_change_scales(kind: str, dtype: str, tmp_path: Path) -> None:
    rules = {found.rule for found in linted(copying(kind, dtype, 0.2), PI, tmp_path).findings}
    assert ("scale-changes" in rules) == (not keeps_values(kind, dtype))
    assert "scale-changes" not in {
        found.rule for found in linted(copying(kind, dtype, 0.1), PI, tmp_path).findings
    }


def test_xnnpack_leaves_depthwise_convolutions_of_a_dynamic_range_to_a_plain_kernel(tmp_path: Path) -> None:
    """Why such files are slower than those in float32."""
    kernel = constant(np.ones((1, 3, 3, 8)), np.int8, scale=np.full(8, 0.1), axis=3)
    taken = [computed("FLOAT32"), kernel, constant(np.zeros(8), np.float32)]
    options = {"strideH": 1, "strideW": 1, "depthMultiplier": 1}
    file = litert_file("DEPTHWISE_CONV_2D", taken, [computed("FLOAT32")], 6, **options)
    assert not is_delegated(file)
    assert [found.rule for found in linted(file, PI, tmp_path).findings] == ["dynamic-range"]


@pytest.mark.parametrize("file", [resize(dtype="INT8", scale=0.2), concatenation(0.2)])
def test_xnnpack_cannot_prepare_what_changes_scales(file: bytes) -> None:
    with pytest.raises(RuntimeError, match="failed to delegate|failed to prepare"):
        is_delegated(file)


@pytest.mark.parametrize("kept", [0, 3, 8, 40, 200])
def test_a_file_cut_short_is_told_in_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(convolution()[:kept])
    with pytest.raises(UserError, match="model.tflite: (no .tflite file|cut short or damaged)") as caught:
        read_litert_model(path)
    assert "\n" not in str(caught.value)


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    facts = linted(resize(dtype="INT8"), PI, tmp_path).facts
    assert facts.version == "schema 3"
    assert facts.operators == {"RESIZE_BILINEAR": 1}
    assert facts.tensors == {"int8": 2, "int32": 1}
    assert facts.weight_bytes == {"int32": 8}
    assert (facts.transposes, facts.resizes, facts.int8_share) == (0, {"linear half_pixel": 1}, None)
    assert linted(convolution(), PI, tmp_path).facts.int8_share == 1.0
    assert linted(convolution("FLOAT32"), PI, tmp_path).facts.int8_share == 0.0
