"""The cost of model files: closed formulas, PyTorch's own counter, and what cannot be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from small_litert import Tensor, computed, constant, litert_file
from small_onnx import CHANNELS, SIDE, Graph
from torch.utils.flop_counter import FlopCounterMode

from slimalign.benchmarks.layers import Layer
from slimalign.export.file_cost import count_file
from slimalign.runtimes.errors import CheckError, UserError

IMAGE_VALUES = CHANNELS * SIDE * SIDE


def counted(graph: Graph, tmp_path: Path, **how: Any) -> tuple[Layer, ...]:
    onnx.save(graph.model(**how), tmp_path / "small.onnx")
    return count_file(tmp_path / "small.onnx").layers


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.float32)


@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_convolution_costs_its_window_at_each_place(tmp_path: Path, groups: int, batch: Any) -> None:
    graph = Graph().convolve("image", "out", "conv", group=groups)
    (layer,) = counted(graph, tmp_path, image=(batch, CHANNELS, SIDE, SIDE))
    window = 3 * 3 * CHANNELS // groups
    params = CHANNELS * window + CHANNELS
    assert (layer.name, layer.kind) == ("conv", "Conv")
    assert (layer.params, layer.macs) == (params, IMAGE_VALUES * window)
    # The image goes in and one of its size comes out; weights are read once for all faces of a batch.
    assert layer.bytes_moved == 4 * (2 * IMAGE_VALUES + params)


def test_a_transposed_convolution_costs_its_window_at_each_place_of_its_input(tmp_path: Path) -> None:
    graph = (
        Graph()
        .hold(w=ones(CHANNELS, 5, 2, 2))
        .add("ConvTranspose", ["image", "w"], "out", "up", strides=[2, 2])
    )
    (layer,) = counted(graph, tmp_path)
    with FlopCounterMode(display=False) as flops:
        torch.nn.ConvTranspose2d(CHANNELS, 5, 2, 2, bias=False)(torch.zeros(1, CHANNELS, SIDE, SIDE))
    assert layer.macs == flops.get_total_flops() // 2 == IMAGE_VALUES * 5 * 2 * 2
    assert layer.params == CHANNELS * 5 * 2 * 2
    assert layer.bytes_moved == 4 * (IMAGE_VALUES + CHANNELS * 5 * 4 + 5 * (2 * SIDE) ** 2)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_costs_rows_times_columns(tmp_path: Path, turned: int) -> None:
    weights = ones(7, IMAGE_VALUES) if turned else ones(IMAGE_VALUES, 7)
    graph = Graph().hold(w=weights, b=ones(7)).add("Flatten", ["image"], "flat", "flatten")
    flatten, gemm = counted(graph.add("Gemm", ["flat", "w", "b"], "out", "fc", transB=turned), tmp_path)
    assert (gemm.macs, gemm.params) == (7 * IMAGE_VALUES, 7 * IMAGE_VALUES + 7)
    assert (flatten.macs, flatten.params, flatten.bytes_moved) == (0, 0, 0)


def test_a_matrix_product_of_two_images_is_counted_and_a_bias_added_to_one_is_a_parameter(
    tmp_path: Path,
) -> None:
    graph = Graph().hold(b=ones(SIDE), w=ones(SIDE, SIDE), one=ones(1))
    graph.add("MatMul", ["image", "image"], "squared", "both").add("Add", ["squared", "b"], "biased", "bias")
    graph.add("Add", ["biased", "one"], "more", "shift").add("MatMul", ["more", "w"], "out", "weighted")
    both, bias, shift, weighted = counted(graph, tmp_path)
    assert (both.macs, both.params) == (IMAGE_VALUES * SIDE, 0)
    assert both.bytes_moved == 4 * 2 * IMAGE_VALUES  # one image, though it is taken twice
    assert (bias.macs, bias.params, bias.kind) == (0, SIDE, "Add")
    assert shift.params == 0
    assert (weighted.macs, weighted.params) == (IMAGE_VALUES * SIDE, SIDE * SIDE)


def test_quantised_weights_are_counted_with_their_convolution_and_scales_are_none(tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in counted(Graph().quantised("image", "out", "conv"), tmp_path)}
    window, weights = 9 * CHANNELS, 9 * CHANNELS**2
    assert (layers["conv"].params, layers["conv"].macs) == (weights + CHANNELS, IMAGE_VALUES * window)
    assert sum(layer.params or 0 for layer in layers.values()) == weights + CHANNELS
    # Float32 in, a scale and a zero point, int8 out.
    assert layers["conv.in.Q"].bytes_moved == 4 * IMAGE_VALUES + 4 + 1 + IMAGE_VALUES
    assert layers["conv.weights.DQ"].bytes_moved == weights + 5 * CHANNELS + 4 * weights


def test_weights_in_fewer_bits_and_integer_convolutions_are_counted(tmp_path: Path) -> None:
    weights = np.ones((CHANNELS, CHANNELS, 1, 1), dtype=np.int8)
    graph = Graph().hold(w=weights, s=np.float32(0.1), z=np.int8(0), b=np.zeros(CHANNELS, dtype=np.int32))
    graph.add("QuantizeLinear", ["image", "s", "z"], "x", "q")
    graph.add("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z", "b"], "y", "conv")
    graph.add("DequantizeLinear", ["y", "s", "z"], "out", "dq")
    _, conv, _ = counted(graph, tmp_path)
    assert (conv.params, conv.macs) == (CHANNELS**2 + CHANNELS, IMAGE_VALUES * CHANNELS)
    assert conv.bytes_moved == 2 * IMAGE_VALUES + CHANNELS**2 + 4 * CHANNELS + 4 + 1


def test_equal_weights_of_two_operators_are_parameters_once(tmp_path: Path) -> None:
    graph = Graph().convolve("image", "a", "first").convolve("a", "out", "second", weights="first.w")
    first, second = counted(graph, tmp_path)
    assert (first.params, second.params) == (9 * CHANNELS**2 + CHANNELS, CHANNELS)
    assert first.macs == second.macs


def test_shapes_that_the_graph_computes_are_followed(tmp_path: Path) -> None:
    # As older exporters flatten: the shape is taken apart and put together again.
    graph = Graph().hold(zero=np.int64(0), rest=np.array([-1]), w=ones(IMAGE_VALUES, 3), axes=np.array([0]))
    graph.add("Shape", ["image"], "shape", "shape").add("Gather", ["shape", "zero"], "batch", "gather")
    graph.add("Unsqueeze", ["batch", "axes"], "first", "unsqueeze")
    graph.add("Concat", ["first", "rest"], "wanted", "concat", axis=0)
    graph.add("Reshape", ["image", "wanted"], "flat", "reshape").add("MatMul", ["flat", "w"], "out", "fc")
    assert counted(graph, tmp_path)[-1].macs == 3 * IMAGE_VALUES


def test_operators_that_cannot_be_counted_are_all_named_in_one_line(tmp_path: Path) -> None:
    graph = Graph().hold(w=ones(4, 4)).add("Det", ["image"], "a", "det")
    graph.add("Mine", ["a"], "b", "mine", domain="com.example").add(
        "Mine", ["b"], "out", "again", domain="com.example"
    )
    with pytest.raises(
        CheckError, match="operators whose cost is not known: Det, com.example.Mine; add"
    ) as caught:
        counted(graph, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'small.onnx'}: ")
    assert "\n" not in str(caught.value)


def test_a_branch_cannot_be_counted(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["image"], ["out"])], "branch", [], [value])
    graph = Graph().hold(yes=np.array(True))
    graph.add("If", ["yes"], "out", "if", then_branch=branch, else_branch=branch)
    with pytest.raises(CheckError, match="operators whose cost is not known: If; "):
        counted(graph, tmp_path)


def test_an_input_of_any_size_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the shape of its input 'image' is not fixed; export it for one"):
        counted(Graph().convolve("image", "out", "conv"), tmp_path, image=("n", CHANNELS, "h", "w"))


def test_what_is_no_model_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"weights.pth: not an .onnx or .tflite file"):
        count_file(tmp_path / "weights.pth")


def litert_counted(tmp_path: Path, kind: str, taken: list[Tensor], given: Tensor, **options: Any) -> Layer:
    (tmp_path / "small.tflite").write_bytes(litert_file(kind, taken, [given], **options))
    (layer,) = count_file(tmp_path / "small.tflite").layers
    assert (layer.name, layer.kind) == ("out0", kind)
    return layer


@pytest.mark.parametrize("batch", [1, 2])
def test_a_tflite_convolution_costs_its_window_at_each_place(tmp_path: Path, batch: int) -> None:
    image, out = computed("INT8", (batch, 4, 4, 8)), computed("INT8", (batch, 2, 2, 6))
    weights, bias = constant(np.ones((6, 3, 3, 8)), np.int8), constant(np.ones(6), np.int32)
    layer = litert_counted(tmp_path, "CONV_2D", [image, weights, bias], out)
    assert (layer.params, layer.macs) == (6 * 9 * 8 + 6, 2 * 2 * 6 * 9 * 8)
    assert layer.bytes_moved == 4 * 4 * 8 + 6 * 9 * 8 + 4 * 6 + 2 * 2 * 6


def test_other_tflite_products_follow_their_own_formulas(tmp_path: Path) -> None:
    def floats(*shape: int) -> Tensor:
        return constant(np.ones(shape), np.float32)

    image = computed("FLOAT32", (1, 4, 4, 8))
    depthwise = litert_counted(
        tmp_path,
        "DEPTHWISE_CONV_2D",
        [image, floats(1, 3, 3, 8), floats(8)],
        computed("FLOAT32", (1, 4, 4, 8)),
    )
    assert (depthwise.params, depthwise.macs) == (9 * 8 + 8, 4 * 4 * 8 * 9)
    up = litert_counted(
        tmp_path,
        "TRANSPOSE_CONV",
        [constant([1, 8, 8, 5]), floats(5, 2, 2, 8), image],
        computed("FLOAT32", (1, 8, 8, 5)),
    )
    assert (up.params, up.macs) == (5 * 4 * 8, 4 * 4 * 8 * 5 * 4)
    full = litert_counted(
        tmp_path,
        "FULLY_CONNECTED",
        [computed("FLOAT32", (1, 32)), floats(10, 32), floats(10)],
        computed("FLOAT32", (1, 10)),
    )
    assert (full.params, full.macs) == (330, 320)


def test_tflite_operators_that_multiply_nothing_move_bytes(tmp_path: Path) -> None:
    image = computed("FLOAT32", (1, 4, 4, 8))
    added = litert_counted(tmp_path, "ADD", [image, constant(np.ones(8), np.float32)], image)
    assert (added.params, added.macs, added.bytes_moved) == (0, 0, 4 * (128 + 8 + 128))
    shaped = litert_counted(tmp_path, "RESHAPE", [image, constant([1, 128])], computed("FLOAT32", (1, 128)))
    assert shaped.bytes_moved == 0


def test_a_tflite_operator_that_cannot_be_counted_is_named(tmp_path: Path) -> None:
    image = computed("FLOAT32", (1, 4, 4, 8))
    for kind, custom, said in (("CUSTOM", "Mine", "CUSTOM.Mine"), ("CONV_3D", "", "CONV_3D")):
        with pytest.raises(CheckError, match=f"operators whose cost is not known: {said}; add"):
            litert_counted(tmp_path, kind, [image], image, custom=custom)
