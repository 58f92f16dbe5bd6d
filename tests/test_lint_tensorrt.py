"""Lint of ONNX graphs for TensorRT: each rule on a graph with one fault, and what a real parser says of the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_onnx import CHANNELS, IMAGE, SIDE, Graph

from slimalign.export.lint.findings import Report
from slimalign.export.lint.lint import TENSORRT, lint
from slimalign.export.lint.tensorrt_versions import first_version, parser_of
from slimalign.targets.profile import target_named
from slimalign.targets.target import Target

ORIN = target_named("jetson-orin-nano")
NANO = target_named("jetson-nano", "4.6.1")
XAVIER = target_named("jetson-xavier-nx", "4.6")
ORIN_8_5 = target_named("jetson-orin-nano", "5.1")
ORIN_8_6 = target_named("jetson-orin-nano", "6.0")
NEWEST = Target("pc", "A PC", "x86_64", ("tensorrt-int8",), tensorrt="11.0", compute_capability="8.6")
"""What stands for the parser that is installed here, TensorRT for RTX."""


def resize(mode: str = "linear", place: str = "half_pixel", **attributes: Any) -> onnx.ModelProto:
    graph = Graph().hold(scales=np.array([1, 1, 2, 2], dtype=np.float32))
    places = {"coordinate_transformation_mode": place, **attributes}
    return graph.add("Resize", ["image", "", "scales"], "out", "up", mode=mode, **places).model()


def resize_to_computed_size() -> onnx.ModelProto:
    graph = Graph().hold(twice=np.array([1, 1, 2, 2], dtype=np.int64))
    graph.add("Shape", ["image"], "shape", "shape").add("Mul", ["shape", "twice"], "size", "size")
    return graph.add("Resize", ["image", "", "", "size"], "out", "up", mode="linear").model()


def operator(kind: str, *more: str, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    return Graph().add(kind, ["image", *more], "out", "it", **attributes).model(opset)


def grid_sample(*sizes: int) -> onnx.ModelProto:
    rank = len(sizes)
    grid = {"grid": helper.make_tensor_value_info("grid", TensorProto.FLOAT, [1, *sizes[2:], rank - 2])}
    graph = Graph().add("GridSample", ["image", "grid"], "out", "sample")
    return graph.model(20, image=sizes, more=grid)


def top_k(count: int) -> onnx.ModelProto:
    graph = Graph().hold(k=np.array([count], dtype=np.int64))
    graph.nodes.append(helper.make_node("TopK", ["image", "k"], ["out", "places"], name="best"))
    return graph.model(image=(1, 4000))


def computed_top_k() -> onnx.ModelProto:
    graph = Graph().add("Shape", ["image"], "k", "shape", end=1)
    graph.nodes.append(helper.make_node("TopK", ["image", "k"], ["out", "places"], name="best"))
    return graph.model(image=(1, 4000))


def resize_of_a_part() -> onnx.ModelProto:
    """As ``resize``, of a region of interest that is the whole."""
    model = resize(place="tf_crop_and_resize")
    whole = onnx.numpy_helper.from_array(np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.float32), "whole")
    model.graph.initializer.append(whole)
    model.graph.node[0].input[1] = "whole"
    return model


def resize_symmetric() -> onnx.ModelProto:
    model = resize(place="half_pixel_symmetric")
    model.opset_import[0].version = 19
    return model


def batch_norm() -> onnx.ModelProto:
    graph = Graph().convolve("image", "a", "conv")
    names = ["gain", "shift", "mean", "var"]
    graph.hold(**dict.fromkeys(names, np.ones(CHANNELS, dtype=np.float32)))
    return graph.add("BatchNormalization", ["a", *names], "out", "norm").model()


def conv_integer() -> onnx.ModelProto:
    graph = Graph().hold(w=np.ones((CHANNELS, CHANNELS, 1, 1), dtype=np.int8))
    graph.add("ConvInteger", ["extra", "w"], "c", "conv").add(
        "Cast", ["c"], "f", "cast", to=TensorProto.FLOAT
    )
    return graph.add("Add", ["image", "f"], "out", "sum").model(more=int8_input())


def int8_input() -> dict[str, Any]:
    return {"extra": helper.make_tensor_value_info("extra", TensorProto.INT8, ["n", CHANNELS, SIDE, SIDE])}


def float64() -> onnx.ModelProto:
    graph = Graph().hold(half=np.float64(0.5))
    graph.add("Cast", ["half"], "half32", "cast", to=TensorProto.FLOAT)
    return graph.add("Mul", ["image", "half32"], "out", "it").model()


def non_zero() -> onnx.ModelProto:
    return Graph().add("NonZero", ["image"], "out", "it").model(given=TensorProto.INT64)


def float_convolution(*image: Any) -> onnx.ModelProto:
    return Graph().convolve("image", "out", "conv").model(image=image or IMAGE)


def branch() -> onnx.ModelProto:
    parts = [
        helper.make_graph(
            [helper.make_node(kind, ["image"], [kind], name=kind)],
            kind,
            [],
            [helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)],
        )
        for kind in ("Relu", "Abs")
    ]
    graph = Graph().add("If", ["flag"], "out", "choice", then_branch=parts[0], else_branch=parts[1])
    return graph.model(more={"flag": helper.make_tensor_value_info("flag", TensorProto.BOOL, [])})


def quantised(**attributes: Any) -> Graph:
    return Graph().quantised("image", "out", "conv", **attributes)


def with_pair(**changes: Any) -> onnx.ModelProto:
    """A convolution of float weights behind one pair."""
    return Graph().pair("image", "x", "pair", **changes).convolve("x", "out", "conv").model()


def with_weights(kind: str, axis: int, opset: int = 17) -> onnx.ModelProto:
    graph = Graph().hold(w=np.ones((CHANNELS, CHANNELS, 1, 1), dtype=np.float32)).pair("image", "x", "in")
    graph.pair("w", "wdq", "weights", scale=np.full(CHANNELS, 0.1), axis=axis)
    return graph.add(kind, ["x", "wdq"], "out", "conv").model(opset)


def old_per_channel() -> onnx.ModelProto:
    model = with_weights("Conv", 0, opset=12)
    for node in model.graph.node:
        if node.op_type != "Conv":
            del node.attribute[:]  # that of the axis came with opset 13
    return model


def computed_scale() -> onnx.ModelProto:
    graph = Graph().hold(z=np.int8(0)).add("ReduceMax", ["image"], "s", "largest", keepdims=0)
    graph.add("QuantizeLinear", ["image", "s", "z"], "q", "Q").add(
        "DequantizeLinear", ["q", "s", "z"], "x", "DQ"
    )
    return graph.convolve("x", "out", "conv").model()


def without_zero_point() -> onnx.ModelProto:
    graph = Graph().hold(s=np.float32(0.1)).add("QuantizeLinear", ["image", "s"], "q", "Q")
    return graph.add("DequantizeLinear", ["q", "s"], "x", "DQ").convolve("x", "out", "conv").model()


def with_number_type() -> onnx.ModelProto:
    """A Q whose attribute says int8, as from opset 21 on it can."""
    graph = Graph().hold(s=np.float32(0.1))
    graph.add("QuantizeLinear", ["image", "s"], "q", "Q", output_dtype=TensorProto.INT8)
    graph.add("DequantizeLinear", ["q", "s"], "x", "DQ")
    return graph.convolve("x", "out", "conv").model(21)


def scale_of_an_operator() -> onnx.ModelProto:
    graph = Graph().pair("image", "x", "pair").convolve("x", "out", "conv")
    scale = helper.make_node("Constant", [], ["pair.s"], name="scale", value_float=0.1)
    graph.nodes.insert(0, scale)
    graph.constants.pop("pair.s")
    return graph.model()


def quantised_bias() -> onnx.ModelProto:
    graph = quantised().hold(
        bq=np.ones(CHANNELS, dtype=np.int32), bs=np.full(CHANNELS, 0.01, dtype=np.float32)
    )
    graph.constants.pop("conv.b")
    graph.nodes.insert(
        0, helper.make_node("DequantizeLinear", ["bq", "bs"], ["conv.b"], name="bias.DQ", axis=0)
    )
    return graph.model()


def lone_q() -> onnx.ModelProto:
    graph = Graph().hold(s=np.float32(0.1), z=np.int8(0)).convolve("image", "a", "conv")
    return graph.add("QuantizeLinear", ["a", "s", "z"], "out", "Q").model(given=TensorProto.INT8)


def lone_dq() -> onnx.ModelProto:
    graph = (
        Graph().hold(s=np.float32(0.1), z=np.int8(0)).add("DequantizeLinear", ["extra", "s", "z"], "e", "DQ")
    )
    graph.add("Add", ["image", "e"], "out", "sum")
    return graph.model(more=int8_input())


def residual(both: bool) -> onnx.ModelProto:
    graph = quantised().add("Relu", ["image"], "skip", "relu").pair("skip", "skip.dq", "skip")
    if both:
        graph.pair("out", "conv.dq", "own")
    return graph.add("Add", ["conv.dq" if both else "out", "skip.dq"], "sum", "sum").model(out="sum")


def concatenation(second: float) -> onnx.ModelProto:
    graph = Graph().pair("image", "a", "first", scale=0.1).add("Relu", ["image"], "r", "relu")
    return (
        graph.pair("r", "b", "second", scale=second).add("Concat", ["a", "b"], "out", "both", axis=1).model()
    )


def at_the_end() -> onnx.ModelProto:
    return quantised().pair("out", "end", "end").model(out="end")


def before_relu() -> onnx.ModelProto:
    return quantised().pair("out", "a", "mid").add("Relu", ["a"], "end", "relu").model(out="end")


def in_the_head() -> onnx.ModelProto:
    return Graph().quantised("image", "out", "/head/conv").model()


@dataclass(frozen=True)
class Row:
    """A graph with one fault: the rule that finds it and where.

    ``parser_differs`` says why the parser here sees it otherwise than the rules for its version do.
    """

    rule: str
    node: str
    graph: Callable[[], onnx.ModelProto]
    target: Target = ORIN
    parser_differs: str = ""


ROWS = [
    Row("unknown-operator", "it", lambda: operator("Einsum", opset=13, equation="nchw->nc"), XAVIER),
    Row("unknown-operator", "it", lambda: operator("Det")),
    Row("unknown-operator", "it", lambda: operator("Odd", domain="my.own")),
    Row("unknown-operator", "conv", conv_integer),
    Row("opset-too-new", "(the file)", lambda: operator("Relu"), NANO),
    Row("opset-too-new", "(the file)", lambda: operator("Relu", opset=26)),
    Row("grid-sample-rank", "sample", lambda: grid_sample(1, 2, 4, 4, 4)),
    Row("top-k-too-large", "best", lambda: top_k(3841)),
    Row("computed-top-k", "best", computed_top_k, ORIN_8_5),
    Row("cubic-resize", "up", lambda: resize("cubic"), ORIN_8_6),
    Row("resize-unread", "up", resize_of_a_part),
    Row("resize-unread", "up", resize_of_a_part, XAVIER),
    Row("resize-unread", "up", resize_symmetric),
    Row("float64", "half", float64),
    Row("computed-resize", "up", resize_to_computed_size),
    Row("resize-alignment", "up", lambda: resize(place="align_corners")),
    Row("resize-alignment", "up", lambda: resize(place="asymmetric")),
    Row("data-dependent-shape", "it", non_zero, parser_differs="its plugin for NonZero is not there"),
    Row("data-dependent-shape", "choice", branch),
    Row("dynamic-dimension", "image", lambda: float_convolution("n", 16, "h", "w")),
    Row("batch-norm", "norm", batch_norm),
    Row("float32-engine", "(the file)", float_convolution, NEWEST),
    Row("nearest-resize", "up", lambda: resize("nearest", "asymmetric", nearest_mode="floor")),
    Row("zero-point", "pair.Q", lambda: with_pair(zero=3)),
    Row("unsigned", "pair.Q", lambda: with_pair(dtype=np.uint8), parser_differs="warns and reads int8"),
    Row("unsigned", "Q", without_zero_point, parser_differs="reads int8"),
    Row("computed-scale", "Q", computed_scale),
    Row("scale-not-positive", "pair.Q", lambda: with_pair(scale=0.0)),
    Row("activation-by-channel", "pair.Q", lambda: with_pair(scale=np.full(CHANNELS, 0.1), axis=1)),
    Row("weight-axis", "conv", lambda: with_weights("Conv", 1)),
    Row("weight-axis", "conv", lambda: with_weights("ConvTranspose", 0)),
    Row("by-channel-opset", "weights.Q", old_per_channel),
    Row("quantised-bias", "conv", quantised_bias),
    Row("unpaired", "Q", lone_q),
    Row("unpaired", "DQ", lone_dq),
    Row("slow-int8", "(the file)", lambda: quantised().model(13), NANO),
    Row("quantised-output", "end", at_the_end),
    Row("both-branches", "sum", lambda: residual(both=True)),
    Row("concat-scales", "both", lambda: concatenation(0.2)),
    Row("pair-without-gain", "relu", before_relu),
    Row("int8-channels", "conv", lambda: quantised(shape=(12, CHANNELS, 3, 3)).model()),
    Row("int8-depthwise", "conv", lambda: quantised(shape=(CHANNELS, 1, 1, 1), group=CHANNELS).model()),
    Row("int8-head", "/head/conv", in_the_head),
]

FAULTLESS: dict[str, Callable[[], onnx.ModelProto]] = {
    "float": float_convolution,
    "resize": resize,
    "cubic resize": lambda: resize("cubic"),
    "computed top-k": computed_top_k,
    "grid": lambda: grid_sample(1, 2, 4, 4),
    "top-k": lambda: top_k(3840),
    "int8": lambda: quantised().model(),
    "depthwise": lambda: quantised(group=CHANNELS).model(),
    "picture": lambda: (
        Graph().quantised("image", "out", "conv", (CHANNELS, 3, 3, 3)).model(image=("n", 3, 8, 8))
    ),
    "transposed": lambda: with_weights("ConvTranspose", 1),
    "one scale a tensor": with_pair,
    "a scale out of a Constant": scale_of_an_operator,
    "one scale a weight": lambda: with_weights("Conv", 0),
    "residual": lambda: residual(both=False),
    "concatenation": lambda: concatenation(0.1),
    "relu before a pair": lambda: (
        Graph().add("Relu", ["image"], "r", "relu").quantised("r", "out", "conv").model()
    ),
}


def linted(model: onnx.ModelProto, target: Target, folder: Path) -> Report:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return lint(path, target)


def row_name(row: Row) -> str:
    return f"{row.rule} at {row.node}"


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_the_fault_is_found_where_it_is_and_no_other_error_is(row: Row, tmp_path: Path) -> None:
    report = linted(row.graph(), row.target, tmp_path)
    assert [found.nodes[0] for found in report.findings if found.rule == row.rule] == [row.node]
    assert {found.rule for found in report.findings if found.level == "error"} <= {row.rule}


@pytest.mark.parametrize("name", FAULTLESS)
def test_nothing_is_found_in_a_graph_without_fault(name: str, tmp_path: Path) -> None:
    assert linted(FAULTLESS[name](), ORIN, tmp_path).findings == ()


def test_a_q_that_names_int8_needs_no_zero_point(tmp_path: Path) -> None:
    assert linted(with_number_type(), NEWEST, tmp_path).findings == ()


def test_every_rule_has_a_row() -> None:
    assert {row.rule for row in ROWS} == {rule.name for rule in TENSORRT}


@dataclass
class RealTensorRT:
    """The installed TensorRT for RTX: whether it parses a graph and builds an engine of it, and what it says."""

    module: Any

    def takes(self, model: onnx.ModelProto) -> tuple[bool, list[str]]:
        trt, said = self.module, []

        class Logger(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.WARNING, trt.ILogger.ERROR):
                    said.append(message)

        logger = Logger()
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model.SerializeToString()):
            return False, said
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        config.add_optimization_profile(self._profile(builder, network))
        return builder.build_serialized_network(network, config) is not None, said

    def _profile(self, builder: Any, network: Any) -> Any:
        profile = builder.create_optimization_profile()
        for place in range(network.num_inputs):
            tensor = network.get_input(place)
            if not tensor.is_shape_tensor:
                sizes = [SIDE if size < 0 else size for size in tensor.shape]
                profile.set_shape(tensor.name, sizes, sizes, sizes)
        return profile


@pytest.fixture(scope="module")
def tensorrt() -> RealTensorRT:
    return RealTensorRT(pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux"))


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_a_real_tensorrt_takes_what_has_no_error(row: Row, tensorrt: RealTensorRT, tmp_path: Path) -> None:
    taken, _ = tensorrt.takes(row.graph())
    agrees = taken == (linted(row.graph(), NEWEST, tmp_path).errors == 0)
    assert agrees == (not row.parser_differs)


@pytest.mark.parametrize("name", FAULTLESS)
def test_a_real_tensorrt_takes_every_graph_without_fault(name: str, tensorrt: RealTensorRT) -> None:
    assert tensorrt.takes(FAULTLESS[name]()) == (True, [])


def test_a_real_tensorrt_takes_a_q_that_names_int8(tensorrt: RealTensorRT) -> None:
    assert tensorrt.takes(with_number_type()) == (True, [])


def test_a_real_tensorrt_says_itself_that_it_reads_uint8_as_int8(tensorrt: RealTensorRT) -> None:
    taken, said = tensorrt.takes(with_pair(dtype=np.uint8))
    assert taken
    assert any("UINT8" in line and "INT8 instead" in line for line in said)


def test_the_table_of_operators_is_what_a_real_parser_knows(tensorrt: RealTensorRT) -> None:
    trt = tensorrt.module
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    # That of DeformConv is a plugin, which TensorRT for RTX does not bring.
    expected = {name for name in known if parser.supports_operator(name)} | {"DeformConv"}
    assert parser_of("11.0").operators == expected


VERSIONS = ["8.0.1", "8.2.1", "8.4.1", "8.5.2", "8.6.2", "10.3"]


@pytest.mark.parametrize(
    ("operator", "first", "without"),
    [
        ("Conv", "8.0", []),
        ("Einsum", "8.2", VERSIONS[:1]),
        ("HardSwish", "8.5", VERSIONS[:3]),
        ("LayerNormalization", "8.6", VERSIONS[:4]),
        ("Mish", "10.0", VERSIONS[:5]),
        ("QLinearConv", None, VERSIONS),
    ],
)
def test_operators_by_the_first_version_that_has_them(
    operator: str, first: str | None, without: list[str]
) -> None:
    assert first_version(operator) == first
    assert [version for version in VERSIONS if operator not in parser_of(version).operators] == without


def test_the_greatest_opset_of_each_jetpack() -> None:
    found = {version: parser_of(version).opset for version in VERSIONS}
    assert found == {"8.0.1": 13, "8.2.1": 13, "8.4.1": 13, "8.5.2": 17, "8.6.2": 17, "10.3": 20}
