"""Bundles opened in each runtime, and the aligner on top: a network whose output is known by arithmetic, see cells."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cells import (
    CROPS,
    LANDMARKS,
    SIZE,
    cell_weights,
    expected_points,
    onnx_bundle,
    write_manifest,
)
from small_onnx import Graph

from slimalign.runtimes.aligner import Aligner, check_box
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import heatmaps_nchw, network_inputs
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.opening import OPENERS, open_session
from slimalign.runtimes.session import Session, available_cores, thread_count

CONVERT = """
import sys, numpy as np, torch, litert_torch
weights = torch.from_numpy(np.load(sys.argv[1]))
net = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Conv2d(3, len(weights), 1, bias=False)).eval()
net[1].weight.data = weights
last = litert_torch.to_channel_last_io(net, args=[0], outputs=[0]).eval()
litert_torch.convert(last, (torch.zeros(1, 16, 16, 3),)).export(sys.argv[2])
"""


@pytest.fixture(scope="module")
def litert_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    # In a process of its own: the converter's imports warn, and here warnings are errors.
    folder = tmp_path_factory.mktemp("litert")
    np.save(folder / "weights.npy", cell_weights())
    command = [sys.executable, "-c", CONVERT, str(folder / "weights.npy"), str(folder / "model.tflite")]
    subprocess.run(command, check=True, capture_output=True)
    return write_manifest(folder, "model.tflite", format="litert", layout="NHWC")


@pytest.fixture(params=["onnx", "litert"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    made = onnx_bundle(tmp_path) if request.param == "onnx" else request.getfixturevalue("litert_bundle")
    return open_session(made, threads=1)


@pytest.mark.parametrize("faces", [1, 3])
def test_session_gives_the_mean_of_each_cell(session: Session, faces: int) -> None:
    with session as opened:
        heatmaps = heatmaps_nchw(opened.run(network_inputs(CROPS[:faces], opened.manifest)), opened.manifest)
    cells = CROPS[:faces].reshape(faces, 4, 4, 4, 4, 3).mean(axis=(2, 4)) / 255.0
    expected = cells.transpose(0, 3, 1, 2)[:, np.arange(LANDMARKS) % 2]
    np.testing.assert_allclose(heatmaps, expected, atol=1e-6)


def test_one_session_runs_one_batch_size_after_another(session: Session) -> None:
    aligner = Aligner(session)
    for faces in (1, 3, 2, 1):
        np.testing.assert_allclose(aligner.align_crops(CROPS[:faces]).points, expected_points(faces))


def test_an_answer_stays_when_the_session_runs_again(session: Session) -> None:
    inputs = network_inputs(CROPS, session.manifest)
    first = session.run(inputs[:1])
    before = first.copy()
    session.run(inputs[1:2])
    np.testing.assert_array_equal(first, before)


def test_litert_hands_the_whole_graph_to_xnnpack(litert_bundle: Bundle) -> None:
    session = LiteRtSession(litert_bundle, threads=1)
    session.run(network_inputs(CROPS, session.manifest))
    operations = [detail["op_name"] for detail in session._interpreter._get_ops_details()]
    assert "DELEGATE" in operations
    assert "TRANSPOSE" not in operations


def test_aligner_maps_points_back_to_the_image(session: Session) -> None:
    # Twice as large, the 32x32 image covers -0.5 to 31.5: crop = 7.5 + (x - 15.5) / 2, so x = 2 * crop + 0.5.
    image = CROPS[0].repeat(2, axis=0).repeat(2, axis=1)
    found = Aligner(session).align(image, np.array([[-0.5, -0.5, 31.5, 31.5]]))
    np.testing.assert_allclose(found.points, 2 * expected_points(1) + 0.5, atol=1e-9)
    assert found.points.dtype == np.float64
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-6)


def test_several_faces_are_found_each_in_its_box(session: Session) -> None:
    image = np.concatenate(list(CROPS), axis=1)
    boxes = np.array([[16.0 * i - 0.5, -0.5, 16.0 * i + 15.5, 15.5] for i in range(3)])
    expected = expected_points(3) + np.array([0.0, 16.0, 32.0])[:, None, None] * [1.0, 0.0]
    np.testing.assert_allclose(Aligner(session).align(image, boxes).points, expected, atol=1e-9)


def test_no_faces_give_empty_landmarks(session: Session) -> None:
    found = Aligner(session).align(CROPS[0], np.zeros((0, 4)))
    assert found.points.shape == (0, LANDMARKS, 2)
    assert found.scores.shape == (0, LANDMARKS)


def test_a_fixed_batch_is_filled_up_and_cut_back(tmp_path: Path) -> None:
    with OnnxRuntimeSession(onnx_bundle(tmp_path, batch=2), threads=1) as opened:
        np.testing.assert_allclose(Aligner(opened).align_crops(CROPS).points, expected_points(3))
        with pytest.raises(UserError, match=r"'cells': batch = 3, the file runs batch 2 only"):
            opened.run(network_inputs(CROPS, opened.manifest))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((5, 5, 5, 9), "box 5,5,5,9: it has no area"),
        ((9, 5, 5, 9), "it has no area"),
        ((0, 0, np.nan, 9), "it has no area"),
        ((-9, 0, -1, 8), "outside the image of 20x10 pixels"),
        ((19.5, 0, 25, 8), "outside the image of 20x10 pixels"),
        ((0, 9.5, 4, 12), "outside the image"),
    ],
)
def test_a_box_that_holds_no_face_is_refused(box: tuple[float, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_box(np.array(box, dtype=float), width=20, height=10)


def test_a_box_that_reaches_into_the_image_is_taken() -> None:
    check_box(np.array([-9.0, -9.0, 0.0, 0.0]), width=20, height=10)
    check_box(np.array([19.0, 9.0, 40.0, 40.0]), width=20, height=10)


def test_an_image_of_another_kind_is_refused(session: Session) -> None:
    with pytest.raises(UserError, match=r"\(16, 16\) and type uint8"):
        Aligner(session).align(CROPS[0, ..., 0], np.zeros((0, 4)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_inputs_are_normalised_in_the_layout_of_the_manifest(tmp_path: Path, layout: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    manifest = onnx_bundle(tmp_path, layout=layout, mean=mean, std=std).manifest
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    inputs = network_inputs(crops, manifest)
    expected = (crops / 255.0 - np.array(mean)) / np.array(std)
    expected = expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected
    np.testing.assert_allclose(inputs, expected, atol=1e-6)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous


def test_crops_of_another_size_are_refused(tmp_path: Path) -> None:
    manifest = onnx_bundle(tmp_path).manifest
    with pytest.raises(UserError, match=r"\(1, 8, 8, 3\) .* takes \(N, 16, 16, 3\) uint8"):
        network_inputs(np.zeros((1, 8, 8, 3), dtype=np.uint8), manifest)
    with pytest.raises(UserError, match="type float32"):
        network_inputs(CROPS.astype(np.float32), manifest)


@pytest.mark.parametrize(
    ("form", "modules", "extra"),
    [
        ("onnx", ["onnxruntime"], r"slimalign\[onnxruntime\]"),
        ("litert", ["ai_edge_litert", "tflite_runtime"], r"slimalign\[litert\]"),
    ],
)
def test_a_missing_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, modules: list[str], extra: str
) -> None:
    made = onnx_bundle(tmp_path, format=form)
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"not installed; run pip install '{extra}'"):
        open_session(made)


@pytest.mark.parametrize(("kind", "precision"), [("onnx", "int8-tensorrt"), ("tensorrt", "int8")])
def test_int8_for_tensorrt_is_summed_without_saturation(tmp_path: Path, kind: str, precision: str) -> None:
    """Its products, of 8 bits signed, are the largest there are: x86 without VNNI would sum two of them in 16 bits."""
    graph = (
        Graph().pair("image", "taken", "in", scale=1 / 127).hold(w=np.ones((LANDMARKS, 3, 4, 4), np.float32))
    )
    graph.pair("w", "weights", "of", scale=np.full(LANDMARKS, 1 / 127), axis=0)
    graph.add("Conv", ["taken", "weights"], "sums", "conv", strides=[4, 4]).pair(
        "sums", "heatmaps", "out", 0.5
    )
    onnx.save(graph.model(out="heatmaps", image=("n", 3, SIZE, SIZE)), tmp_path / "model.onnx")
    bundle = write_manifest(tmp_path, "model.onnx", format=kind, precision=precision)
    with OnnxRuntimeSession(bundle, 1) as opened:
        white = opened.run(np.ones((1, 3, SIZE, SIZE), dtype=np.float32))
    assert white.shape == (1, LANDMARKS, 4, 4)
    assert np.abs(white - 3 * 4 * 4).max() <= 0.5


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, form: str) -> None:
    (tmp_path / "model").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model: .* cannot open it .*; export it again"):
        open_session(write_manifest(tmp_path, "model", format=form))


def test_what_a_broken_off_export_left_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "small-onnx.part").mkdir()
    with pytest.raises(
        UserError, match=r"small-onnx\.part: not a bundle: an export .* broken off; then delete it"
    ):
        read_bundle(tmp_path / "small-onnx.part")


def test_a_format_without_a_runtime_is_refused_and_can_be_added(tmp_path: Path) -> None:
    made = onnx_bundle(tmp_path, format="torch")
    with pytest.raises(
        UserError, match="format = 'torch' has no runtime here; export it as one of onnx, litert, tensorrt"
    ):
        open_session(made)
    opened = open_session(made, 1, openers={**OPENERS, "torch": OnnxRuntimeSession})
    assert opened.runtime == "onnxruntime"


def test_threads_default_to_all_cores(tmp_path: Path) -> None:
    assert thread_count(None) == available_cores() >= 1
    with pytest.raises(UserError, match="threads = 0, must be at least 1"):
        open_session(onnx_bundle(tmp_path), threads=0)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("layout", "CHW", "layout = 'CHW', must be one of NCHW, NHWC"),
        ("decoder", "best", "decoder = 'best'"),
        ("scheme", "5-points", "scheme = '5-points'"),
        ("batch", 0, "batch = 0"),
        ("std", [1.0, 0.0, 1.0], "std and box_scale must be positive"),
        ("batch", "all", r'batch = "all", must be a whole number or null; export'),
        ("batch", 1.5, r"batch = 1\.5, must be a whole number or null"),
        ("input_size", "64", r'input_size = "64", must be a whole number; export'),
        ("input_size", True, "input_size = true, must be a whole number"),
        ("input_size", 0, "input_size = 0, must be at least 1"),
        ("box_scale", None, "box_scale = null, must be a finite number"),
        ("mean", 0.5, r"mean = 0\.5, must be a list of three values, each a finite number; export"),
        ("mean", [0.0, 0.0], r"mean = \[0\.0, 0\.0\], must be a list of three values"),
        ("std", [1.0, "1", 1.0], r'std = \[1\.0, "1", 1\.0\], must be a list of three values'),
        ("std", [1.0, float("inf"), 1.0], r"std = \[1\.0, Infinity, 1\.0\], must be .* each a finite number"),
        ("nme", {"val": float("nan")}, r'nme = \{"val": NaN\}, must be .* each value is a finite number'),
        ("cost", {"params": -1}, r'cost = \{"params": -1\}, must be .* each value is a whole number from 0'),
        ("scheme", ["aflw-19"], r'scheme = \["aflw-19"\], must be text'),
        ("decoder", {}, r"decoder = \{\}, must be text"),
        (
            "files",
            ["model.onnx"],
            r'files = \["model\.onnx"\], must be an object in which each value is text',
        ),
        ("cost", {"params": "many"}, r'cost = \{"params": "many"\}, must be an object .* a whole number'),
        ("calibration", 3, "calibration = 3, must be text or null"),
        ("model", "other.onnx", "model = 'other.onnx' is not among its files"),
        ("files", {"model.onnx": "", "../else": ""}, "must lie in the bundle's folder"),
    ],
)
def test_a_manifest_no_session_could_work_with_is_refused(
    tmp_path: Path, entry: str, value: object, said: str
) -> None:
    onnx_bundle(tmp_path)
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}), encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        read_bundle(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
