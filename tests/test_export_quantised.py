"""Files of fewer bits: what is in them, how they find landmarks, and what does not get out."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from dots import LANDMARKS, SIZE, dot_bench, dot_subject, dotted_face, dotted_faces
from onnx import TensorProto, helper

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import FormatName
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.calibration import FACES, calibration_set, spread
from slimalign.export.formats import FORMATS
from slimalign.export.gate import Gate, GateError, GateReport, gate_report
from slimalign.export.int8_share import litert_int8_share, onnx_int8_share
from slimalign.export.litert_graph import read_litert_graph, short_name
from slimalign.export.onnx_from_torch import write_onnx
from slimalign.export.onnx_quantised import optimised_onnx, write_onnx_fp16
from slimalign.export.workbench import GraphOptions, Workbench
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError

RULE = CropRule(SIZE, 1.25)
FEWER_BITS = [name for name, kind in FORMATS.items() if not kind.exact]
VALIDATION = dotted_faces(20)
TRAINING = dotted_faces(40, seed=100)


def bench(training: Sequence[Sample] = TRAINING, validation: Sequence[Sample] = VALIDATION) -> Workbench:
    return dot_bench(training, validation)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Every format of the dot finder, from one bench."""
    folder, shared = tmp_path_factory.mktemp("bundles"), bench()
    return {name: write_bundle(folder / name, shared, name) for name in FORMATS}


def points(name: str, bundle: Bundle, crops: np.ndarray) -> np.ndarray:
    with FORMATS[name].opener(bundle, 1) as session:
        return Aligner(session).align_crops(crops).points


@pytest.mark.parametrize("name", FEWER_BITS)
def test_the_file_finds_the_points_that_pytorch_finds(bundles: dict[str, Bundle], name: str) -> None:
    """Singly and as a batch: heatmaps 1/127 of whose range is a step move a sub-pixel mean by a tenth of a pixel."""
    crops = cut_crops(VALIDATION[:5], RULE)
    expected = points("torch", bundles["torch"], crops)
    found = points(name, bundles[name], crops)
    assert np.abs(found - expected).max() < (0.02 if "fp16" in name else 0.3)
    np.testing.assert_allclose(points(name, bundles[name], crops[:1]), found[:1], atol=1e-3)


@pytest.mark.parametrize("name", FEWER_BITS)
def test_the_bundle_says_what_the_file_is(bundles: dict[str, Bundle], name: str) -> None:
    manifest = read_bundle(bundles[name].folder).manifest
    assert name == f"{manifest.format}-{manifest.precision}"
    assert manifest.gate is not None
    assert manifest.gate["faces"] == len(VALIDATION)
    assert manifest.gate["interval_low"] <= manifest.gate["loss"] <= manifest.gate["interval_high"]
    assert manifest.gate["nme"] == pytest.approx(
        manifest.gate["network_nme"] * (1 + manifest.gate["loss"] / 100)
    )
    assert abs(manifest.gate["loss"]) < 1
    assert (manifest.int8_share == 1.0) == ("-int8" in name)
    calibrated = FORMATS[name].calibrated
    assert ("calibration.json" in manifest.files) == calibrated == (manifest.calibration is not None)
    if calibrated:
        text = (bundles[name].folder / "calibration.json").read_text()
        assert hashlib.sha256(text.encode()).hexdigest() == manifest.calibration
        assert set(json.loads(text)) == {sample.name for sample in TRAINING}


def dtypes(bundle: Bundle) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(bundle.model_path))
    details = (*model.get_input_details(), *model.get_output_details())
    first, last = (np.dtype(detail["dtype"]).name for detail in details)
    return first, last


def test_numbers_at_the_interface(bundles: dict[str, Bundle]) -> None:
    found = {name: dtypes(bundles[name]) for name in FORMATS if name.startswith("litert")}
    whole = {"litert-int8-io": ("int8", "int8"), "litert-int16x8": ("int16", "int16")}
    assert found == {name: whole.get(name, ("float32", "float32")) for name in found}


def test_litert_files_have_no_transposes_and_short_names(bundles: dict[str, Bundle]) -> None:
    for name, bundle in bundles.items():
        if name.startswith("litert"):
            assert read_litert_graph(bundle.model_path).faults() == []
            assert b"FoldedSuperNet" not in bundle.model_path.read_bytes()


def test_float16_is_in_the_graph_and_float32_at_its_ends(bundles: dict[str, Bundle]) -> None:
    graph = onnx.load(str(bundles["onnx-fp16"].model_path)).graph
    kinds = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert kinds == {TensorProto.FLOAT16}
    ends = (*graph.input, *graph.output)
    assert {end.type.tensor_type.elem_type for end in ends} == {TensorProto.FLOAT}


def test_int8_weights_are_signed_for_each_channel_of_7_bits_and_activations_unsigned(
    bundles: dict[str, Bundle],
) -> None:
    graph = onnx.load(str(bundles["onnx-int8"].model_path)).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        taken, weights = (makers[name] for name in node.input[:2])
        assert constants[taken.input[2]].data_type == TensorProto.UINT8
        assert constants[weights.input[0]].data_type == TensorProto.INT8
        assert list(constants[weights.input[1]].dims) == [constants[weights.input[0]].dims[0]]
        assert not onnx.numpy_helper.to_array(constants[weights.input[2]]).any()
        # Two products of the largest magnitudes fit into the 16 bits that x86 without VNNI sums them in.
        largest = np.abs(onnx.numpy_helper.to_array(constants[weights.input[0]]).astype(int)).max()
        assert 32 < largest <= (2**15 - 1) / (2 * 255)


def test_the_recipe_knows_the_formats() -> None:
    """Those that run here: engines do on their device alone."""
    assert set(get_args(FormatName)) == {
        name for name, kind in FORMATS.items() if kind.kind in {"onnx", "litert"}
    }


@pytest.mark.parametrize("decode_inside", [False, True])
def test_every_onnx_format_can_be_had_for_older_tensorrts(tmp_path: Path, decode_inside: bool) -> None:
    """Opset 13 is what those of JetPack 4 and 5 read."""
    shared = dot_bench(TRAINING, VALIDATION, GraphOptions(decode_inside, opset=13))
    for name in ("onnx", "onnx-fp16", "onnx-int8", "tensorrt-int8"):
        bundle = write_bundle(tmp_path / name, shared, name)
        assert [(o.domain, o.version) for o in onnx.load(str(bundle.model_path)).opset_import] == [("", 13)]
    with pytest.raises(UserError, match="opset 12: choose one of 13, 17"):
        GraphOptions(opset=12)


def ruined() -> Workbench:
    """Heatmaps so unlike each other in height that 256 steps over all of them leave none for a peak."""
    made = bench()
    with torch.no_grad():
        made.subject.network.get_parameter("head.heatmaps.bias").copy_(torch.linspace(0, 1e4, 19))
    return made


def test_a_file_that_finds_worse_points_is_named_so(tmp_path: Path) -> None:
    shared = ruined()
    with pytest.raises(
        GateError, match="failed-gate: the onnx-int8 file does not pass the gate: .* at most 1 %"
    ) as e:
        write_bundle(tmp_path / "dots", shared, "onnx-int8")
    assert "\n" not in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["dots.failed-gate"]
    assert read_bundle(tmp_path / "dots.failed-gate").manifest.gate is None
    write_bundle(tmp_path / "dots", bench(), "onnx-int8")
    assert [path.name for path in tmp_path.iterdir()] == ["dots"]


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        (
            bench(TRAINING[:31]),
            "31 training faces to calibrate the quantisation on, at least 32 are needed; give",
        ),
        (bench(validation=[]), "no validation faces to judge the file on"),
        (Workbench(dot_subject(), cut_crops(VALIDATION[:3], RULE)), "judged on faces; give them with --data"),
    ],
)
def test_without_faces_nothing_is_written(shared: Workbench, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        write_bundle(tmp_path / "dots", shared, "onnx-int8")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_nan_does_not_get_out(tmp_path: Path) -> None:
    shared = bench()
    with torch.no_grad():
        shared.subject.network.get_parameter("head.heatmaps.bias")[3] = torch.nan
    for name in ("onnx", "onnx-int8", "litert-int8"):
        with pytest.raises(UserError, match="NaN or infinite") as caught:
            write_bundle(tmp_path / "dots", shared, name)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


# The gate's arithmetic.


def test_the_loss_is_that_of_the_mean_nmes_in_percent() -> None:
    network = np.array([2.0, 4.0, 6.0])
    report = gate_report("litert", np.array([2.0, 4.0, 6.6]), network, [("a",), ("a", "b"), ("b",)])
    assert (report.faces, report.nme, report.network_nme) == (3, pytest.approx(4.2), 4.0)
    assert report.loss == pytest.approx(5.0)
    assert report.subset_losses == {"a": pytest.approx(0.0), "b": pytest.approx(6.0)}
    # All resamples of the first face alone lose nothing, of the last alone 10 %.
    assert report.interval == (pytest.approx(0.0), pytest.approx(10.0))


def test_the_interval_covers_the_true_loss_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        network = rng.gamma(9.0, 0.4, 150)
        low, high = gate_report("litert", network * rng.normal(1.01, 0.05, 150), network, [()] * 150).interval
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    ("loss", "subsets", "fault"),
    [
        (1.0, {"a": 2.0}, None),
        (-5.0, {"a": -1.0}, None),
        (
            1.01,
            {"a": 1.0},
            r"its NME is 4.000 %, \+1.01 % of PyTorch's 3.900 % .*; at most 1 % worse is allowed",
        ),
        (
            0.5,
            {"a": 0.1, "b": 2.01},
            "its NME on subset b is 2.01 % above its network's, at most 2 % is allowed",
        ),
        (float("nan"), {}, "at most 1 %"),
    ],
)
def test_what_the_gate_allows(loss: float, subsets: dict[str, float], fault: str | None) -> None:
    report = GateReport("litert", 10, 4.0, 3.9, loss, (loss - 1, loss + 1), subsets)
    if fault is None:
        assert report.fault is None
    else:
        assert report.fault is not None
        assert re.search(fault, report.fault)


def test_a_slow_format_is_judged_on_some_faces_spread_evenly(bundles: dict[str, Bundle]) -> None:
    gate = Gate(dot_subject(), VALIDATION, "inter-ocular")
    with open_bundle(bundles["onnx"], threads=1) as session:
        report = gate.judge(session, 4)
    # 0, 6, 13 and 19 of 20: two even ones, two odd ones.
    assert (report.faces, set(report.subset_losses)) == (4, {"even", "odd"})
    assert report.loss == pytest.approx(0.0, abs=1e-3)


# Calibration.


def test_calibration_faces_are_spread_over_subsets() -> None:
    faces = [dotted_face(0, ("common",))] * 100 + [dotted_face(1, ("rare",))] * 5 + [dotted_face(2)] * 20
    labels = [sample.subsets for sample in spread(faces, 30, seed=0)]
    assert {label: labels.count(label) for label in set(labels)} == {(): 13, ("common",): 12, ("rare",): 5}
    assert len(spread(faces, 1000, seed=0)) == 125
    assert len(spread(faces, 2, seed=0)) == 2


def test_the_calibration_is_the_same_every_time_and_known_by_its_pictures() -> None:
    many = dotted_faces(FACES + 10)
    first, again = calibration_set(many, RULE), calibration_set(many, RULE)
    assert (len(first.names), first.crops.shape) == (FACES, (FACES, SIZE, SIZE, 3))
    assert first.sha256 == again.sha256
    first.crops[0, 0, 0, 0] ^= 1
    assert first.sha256 != again.sha256


# What is read of the files.


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("serving_default_args_0", "serving_default_args_0"),
        ("arith.constant1", "arith.constant1"),
        ("w.Wrapper/m.Net_wrapped/t.Sequential_stem/t.Conv2d_0;1", "stem/0"),
        (
            "w.Wrapper/m.Net_wrapped/t.Sequential_s9_l1/m.MBConv_3/t.Sequential_body/t.BatchNorm2d_4;",
            "s9_l1/3/body/4",
        ),
        (
            "w.W/m.Net_wrapped/t.ReLU_a;;w.W/m.Net_wrapped/m.LevelHead_head/t.Conv2d_heatmaps;2",
            "head/heatmaps",
        ),
    ],
)
def test_short_names_are_those_of_the_modules(name: str, short: str) -> None:
    assert short_name(name) == short


def quantised_conv(name: str, taken: str, given: str, channels: int, int8: bool) -> list[Any]:
    """A 3x3 convolution of ``channels`` channels; its weights and its input are quantised or not."""
    weights, source = f"{name}_w", taken
    nodes = []
    if int8:
        nodes += [
            helper.make_node("QuantizeLinear", [taken, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_x"]),
            helper.make_node("DequantizeLinear", [f"{name}_w8", "scale", "zero"], [weights]),
        ]
        source = f"{name}_x"
    return [*nodes, helper.make_node("Conv", [source, weights], [given], name=name, pads=[1, 1, 1, 1])]


def test_the_int8_share_of_an_onnx_file_is_by_multiply_adds_without_the_head(tmp_path: Path) -> None:
    """10x10 pixels: 8 to 8 channels in int8 are 57600, 8 to 4 in float 28800, the head does not count."""
    shapes = {"a": (8, 8), "b": (4, 8), "/head/c": (2, 4)}
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    nodes = []
    for (name, (out, taken)), (source, given) in zip(
        shapes.items(), (("x", "y"), ("y", "z"), ("z", "heat")), strict=True
    ):
        nodes += quantised_conv(name, source, given, taken, name == "a")
        kind, ending = (TensorProto.INT8, "_w8") if name == "a" else (TensorProto.FLOAT, "_w")
        constants.append(
            helper.make_tensor(f"{name}{ending}", kind, [out, taken, 3, 3], [1] * (out * taken * 9))
        )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 10, 10])],
        [helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", 2, 10, 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert onnx_int8_share(tmp_path / "m.onnx") == pytest.approx(57600 / (57600 + 28800))


def test_resizes_in_float16_have_their_scales_as_float32_constants(tmp_path: Path) -> None:
    """Older TensorRT reads them from nowhere else, such as a conversion of a constant. Of two levels the lower is
    enlarged for the block above and for the head.
    """
    full = full_architecture(LANDMARKS, SIZE, 6, (6, 8), stage_count=3, encoders=1)
    write_onnx(HRSuperNet(full).eval(), SIZE, tmp_path / "float.onnx")
    optimised_onnx(tmp_path / "float.onnx", tmp_path / "optimised.onnx")
    write_onnx_fp16(tmp_path / "optimised.onnx", tmp_path / "half.onnx")
    graph = onnx.load(str(tmp_path / "half.onnx")).graph
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    scales = [constants[node.input[2]] for node in graph.node if node.op_type == "Resize"]
    assert scales == [onnx.TensorProto.FLOAT] * 2
    assert {constants[node.input[1]] for node in graph.node if node.op_type == "Conv"} == {
        onnx.TensorProto.FLOAT16
    }


def test_the_int8_share_of_float_files_is_nothing(bundles: dict[str, Bundle]) -> None:
    assert onnx_int8_share(bundles["onnx"].model_path) == 0
    assert litert_int8_share(bundles["litert"].model_path) == 0
    assert litert_int8_share(bundles["litert-int8"].model_path) == 1
    # Dynamic range computes in int8 too, but takes float.
    assert litert_int8_share(bundles["litert-dynamic"].model_path) == 0


def test_a_file_with_little_int8_is_not_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantiser that leaves everything in float, as one whose version has changed might."""
    formats = sys.modules["slimalign.export.formats"]
    monkeypatch.setattr(
        formats, "write_onnx_int8", lambda source, inputs, path, *rest: path.write_bytes(source.read_bytes())
    )
    with pytest.raises(
        GateError, match="0 % of its multiply-adds outside the head are in int8, at least 90 %"
    ):
        write_bundle(tmp_path / "dots", bench(), "onnx-int8")
    assert [path.name for path in tmp_path.iterdir()] == ["dots.failed-gate"]
