"""int8 ONNX by TensorRT's rules: where pairs of Q and DQ stand, and what a real TensorRT makes of the file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from dots import SIZE, dot_bench, dotted_faces
from onnx import TensorProto, helper, numpy_helper

from slimalign.export.bundle_writer import write_bundle
from slimalign.export.onnx_tensorrt_int8 import (
    insert_pairs,
    largest_values,
    quantised_places,
    shared_by_concatenation,
    weight_scales,
)
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError

CHANNELS = 4


def conv(name: str, taken: str, given: str) -> Any:
    return helper.make_node(
        "Conv", [taken, f"{name}.w", f"{name}.b"], [given], name=name, kernel_shape=[1, 1]
    )


def model_of(nodes: list[Any], out: str = "out") -> onnx.ModelProto:
    """``image`` (n, 4, 3, 3) through ``nodes``, whose convolutions are 1x1 from 4 to 4 channels."""
    rng = np.random.default_rng(0)
    constants = []
    for node in nodes:
        if node.op_type == "Conv":
            weights = rng.normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
            biases = rng.normal(size=CHANNELS).astype(np.float32)
            constants += [
                numpy_helper.from_array(array, name)
                for name, array in zip(node.input[1:], (weights, biases), strict=True)
            ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", CHANNELS, 3, 3])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", None, 3, 3])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def taken_quantised(nodes: list[Any]) -> set[tuple[str, int]]:
    places = quantised_places(model_of(nodes).graph)
    return {(node.name, place) for readers in places.readers.values() for node, place in readers}


def test_a_residual_addition_takes_its_skip_branch_quantised() -> None:
    """Whichever side it stands on; the convolution's own output is left, to be fused."""
    for order in (["image", "a"], ["a", "image"]):
        nodes = [conv("first", "image", "a"), helper.make_node("Add", order, ["out"], name="sum")]
        assert taken_quantised(nodes) == {("first", 0), ("sum", order.index("image"))}


def test_of_two_convolutions_one_is_fused_and_of_none_nothing_is_quantised() -> None:
    both = [
        conv("a", "image", "a"),
        conv("b", "image", "b"),
        helper.make_node("Add", ["a", "b"], ["out"], name="sum"),
    ]
    assert taken_quantised(both) == {("a", 0), ("b", 0), ("sum", 0)}
    neither = [
        helper.make_node("Relu", ["image"], ["r"], name="relu"),
        helper.make_node("Add", ["image", "r"], ["out"], name="sum"),
    ]
    assert taken_quantised(neither) == set()


def test_the_head_stays_in_float() -> None:
    nodes = [conv("body/0", "image", "a"), conv("/head/hidden/Conv", "a", "out")]
    assert taken_quantised(nodes) == {("body/0", 0)}


def test_tensors_around_concatenations_share_a_scale_those_of_others_do_not() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
        helper.make_node("Concat", ["ab", "c"], ["abc"], axis=1),
        helper.make_node("Concat", ["x", "y"], ["xy"], axis=1, name="/head/Concat"),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    largest = {"a": 1.0, "b": 5.0, "c": 2.0, "ab": 5.0, "abc": 5.0, "other": 9.0, "x": 1.0, "y": 2.0}
    shared = shared_by_concatenation(graph, largest)
    assert shared == largest | dict.fromkeys(("a", "b", "c", "ab", "abc"), 5.0)


def test_scales_of_weights_are_by_output_channel() -> None:
    weights = np.zeros((3, 2, 1, 1), dtype=np.float32)
    weights[0, :, 0, 0] = 1, -254
    weights[1, 0] = 0.5
    # A channel of zeros has a positive scale too: TensorRT takes no other.
    assert weight_scales(weights).tolist() == pytest.approx([2.0, 0.5 / 127, 1 / 127])


def quantised(largest: float) -> onnx.ModelProto:
    """One convolution whose input's largest value is ``largest``."""
    model = model_of([conv("first", "image", "out")])
    insert_pairs(model.graph, quantised_places(model.graph), {"image": largest})
    return model


def test_pairs_compute_what_rounding_to_127_steps_does() -> None:
    import onnxruntime

    model = quantised(2.0)
    weights, biases = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer[:2])
    model.graph.node.sort(key=lambda node: node.op_type == "Conv")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).uniform(-3, 3, (2, CHANNELS, 3, 3)).astype(np.float32)
    (found,) = session.run(None, {"image": image})
    step = 2 / 127
    taken = np.clip(np.rint(image / step), -128, 127) * step
    steps = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    rounded = (np.rint(weights / steps) * steps)[:, :, 0, 0]
    expected = np.einsum("oc,nchw->nohw", rounded, taken) + biases[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_tensor_that_is_zero_on_all_faces_has_a_positive_scale() -> None:
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised(0.0).graph.initializer}
    assert scales["image_scale"] == pytest.approx(1 / 127)


@pytest.mark.parametrize("largest", [float("inf"), float("nan")])
def test_a_tensor_without_a_range_is_named(largest: float) -> None:
    with pytest.raises(UserError, match="tensor image: its largest value over the calibration faces is"):
        quantised(largest)


def test_the_largest_values_are_magnitudes_over_all_faces() -> None:
    model = model_of([helper.make_node("Neg", ["image"], ["n"]), helper.make_node("Relu", ["n"], ["out"])])
    faces = np.zeros((2, CHANNELS, 3, 3), dtype=np.float32)
    faces[0, 0, 0, 0], faces[1, 1, 1, 1] = 3, -2
    assert largest_values(model, ["image", "n", "out"], [faces[:1], faces[1:]]) == {
        "image": 3.0,
        "n": 3.0,
        "out": 2.0,
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    faces = dotted_faces(40)
    bench = dot_bench(faces, faces[:20])
    return write_bundle(tmp_path_factory.mktemp("trt") / "dots", bench, "onnx-int8-tensorrt")


def test_every_quantiser_is_as_tensorrt_asks(bundle: Bundle) -> None:
    graph = onnx.load(str(bundle.model_path)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        scale, zero = (constants[name] for name in node.input[1:])
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
    dequantised = {node.output[0] for node in pairs if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type == "Conv":
            quantised_ones = [name in dequantised for name in node.input]
            assert quantised_ones == ([False] * 3 if "head/" in node.name else [True, True, False]), node.name
    assert bundle.manifest.int8_share == 1.0


def test_a_real_tensorrt_parses_and_builds_it(bundle: Bundle) -> None:
    """On a CPU, for compute capability 8.6 in place of a Jetson's, which this TensorRT does not know; it is not run."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    warnings = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                warnings.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(bundle.model_path.read_bytes()), [
        parser.get_error(i).desc() for i in range(parser.num_errors)
    ]
    kinds = Counter(network.get_layer(index).type for index in range(network.num_layers))
    assert kinds[trt.LayerType.QUANTIZE] == kinds[trt.LayerType.DEQUANTIZE] > 0
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((batch, 3, SIZE, SIZE) for batch in (1, 1, 8)))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert warnings == []
