"""Decoding in the graph: the same points as the NumPy decoder's, in every format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dots import SIZE, dot_bench, dotted_faces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slimalign.compress.data.sample import cut_crops
from slimalign.compress.networks.decoding import InGraphDecoder
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.formats import FORMATS
from slimalign.export.litert_graph import read_litert_graph
from slimalign.export.parity import PointsReport
from slimalign.export.workbench import GraphOptions, Workbench
from slimalign.runtimes.aligner import Aligner, Landmarks
from slimalign.runtimes.bundle import Bundle, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.decode import DECODERS, decode
from slimalign.runtimes.errors import UserError

SIDE, STRIDE = 16, 4
DEVICE_FORMATS = [name for name, kind in FORMATS.items() if kind.kind != "torch"]
FACES = dotted_faces(40)
CROPS = cut_crops(FACES[:5], CropRule(SIZE, 1.25))


def assert_decoded_alike(heatmaps: np.ndarray) -> None:
    for decoder in DECODERS:
        points, scores = decode(heatmaps, STRIDE, decoder)
        for channels_last in (False, True):
            inside = InGraphDecoder(decoder, SIDE, STRIDE, channels_last)
            found = [values.numpy() for values in inside(torch.from_numpy(heatmaps))]
            np.testing.assert_allclose(found[0], points, rtol=0, atol=0.01)
            np.testing.assert_allclose(found[1], scores, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    heatmaps=arrays(np.float32, (2, 3, SIDE, SIDE), elements=st.integers(-40, 200).map(lambda v: v / 8)),
)
def test_points_and_scores_are_those_of_numpy(heatmaps: np.ndarray) -> None:
    """Values in steps, as an int8 network gives them: many places are equally high, and the first one counts."""
    assert_decoded_alike(heatmaps)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (SIDE - 1, 0), (0, SIDE - 1), (SIDE - 1, SIDE - 1), (7, 3)])
def test_peaks_on_the_border_are_found(x: int, y: int) -> None:
    heatmaps = np.random.default_rng(0).normal(size=(1, 4, SIDE, SIDE)).astype(np.float32)
    heatmaps[:, :, y, x] = 6.0
    assert_decoded_alike(heatmaps)
    assert_decoded_alike(np.zeros_like(heatmaps))


@pytest.mark.parametrize("height", [1e-3, 0.5, 26.8])
def test_of_two_peaks_a_rounding_apart_the_higher_one_is_found(height: float) -> None:
    heatmaps = np.zeros((1, 2, SIDE, SIDE), dtype=np.float32)
    top = np.float32(height)
    heatmaps[0, :, 10, 12] = top
    heatmaps[0, 0, 3, 2] = np.nextafter(top, np.float32(0))
    heatmaps[0, 1, 3, 2] = np.nextafter(top, np.float32(100))
    assert_decoded_alike(heatmaps)


def bench(decode_inside: bool) -> Workbench:
    return dot_bench(FACES, FACES[:20], GraphOptions(decode_inside))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Bundle]]:
    """Every format, without and with the decoder inside."""
    folder = tmp_path_factory.mktemp("bundles")
    benches = {inside: bench(inside) for inside in (False, True)}
    return {
        inside: {name: write_bundle(folder / f"{name}-{inside}", shared, name) for name in DEVICE_FORMATS}
        for inside, shared in benches.items()
    }


def landmarks(name: str, bundle: Bundle) -> Landmarks:
    with FORMATS[name].opener(bundle, 1) as session:
        return Aligner(session).align_crops(CROPS)


@pytest.mark.parametrize("name", DEVICE_FORMATS)
def test_a_file_decodes_as_numpy_does_what_its_sibling_gives(
    bundles: dict[bool, dict[str, Bundle]], name: str
) -> None:
    outside, inside = (landmarks(name, bundles[where][name]) for where in (False, True))
    # A sibling in int8 may round its heatmaps once more where they leave it.
    np.testing.assert_allclose(inside.points, outside.points, rtol=0, atol=0.05)
    np.testing.assert_allclose(inside.scores, outside.scores, rtol=0, atol=0.01)
    assert read_bundle(bundles[True][name].folder).manifest.output == "points"


def test_litert_decodes_without_a_transpose_one_face_at_a_time(
    bundles: dict[bool, dict[str, Bundle]],
) -> None:
    for name, bundle in bundles[True].items():
        if name.startswith("litert"):
            graph = read_litert_graph(bundle.model_path)
            assert graph.faults() == []
            assert bundle.manifest.batch == 1
            assert graph.operations["REDUCE_MAX"] == 1


@pytest.mark.parametrize("name", ["litert-int8", "litert-int8-io", "litert-int16x8"])
def test_all_of_the_decoder_is_in_float32(bundles: dict[bool, dict[str, Bundle]], name: str) -> None:
    """From the heatmaps' one conversion on: a point that passes through int8 is a multiple of half a pixel."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    (graph,) = flatbuffer_utils.read_model(str(bundles[True][name].model_path)).subgraphs
    kinds = [[graph.tensors[index].type for index in operator.outputs] for operator in graph.operators]
    first = next(
        place for place, made in enumerate(kinds) if place > 1 and made == [schema.TensorType.FLOAT32]
    )
    assert len(kinds) - first > 30
    assert {kind for made in kinds[first:] for kind in made} == {schema.TensorType.FLOAT32}


def test_a_real_tensorrt_parses_the_decoder(bundles: dict[bool, dict[str, Bundle]]) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    logger = trt.Logger(trt.Logger.ERROR)
    for name in ("tensorrt-fp16", "tensorrt-int8"):
        network = trt.Builder(logger).create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        parser = trt.OnnxParser(network, logger)
        assert parser.parse(bundles[True][name].model_path.read_bytes()), name
        assert [network.get_output(index).name for index in range(2)] == ["points", "scores"]


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (PointsReport(3, 0.05, 1e-3, 57, 0), None),
        (PointsReport(3, 0.06, 0.0, 57, 0), "points differ by 0.06 px, at most 0.05 is allowed"),
        (PointsReport(3, 0.0, 2e-3, 57, 0), "scores differ by 0.002, at most 0.001 is allowed"),
        (PointsReport(3, float("nan"), 0.0, 57, 0), "points differ by nan px"),
    ],
)
def test_what_counts_as_the_same_points(report: PointsReport, fault: str | None) -> None:
    assert (report.fault is None) if fault is None else str(report.fault).startswith(fault)


def test_points_of_another_kind_are_refused(bundles: dict[bool, dict[str, Bundle]], tmp_path: Path) -> None:
    """A heatmap file whose manifest says points, and the other way round."""
    for name in ("onnx", "litert"):
        for inside, said in ((False, "points .* are needed"), (True, "exactly one of float32")):
            folder = tmp_path / f"{name}-{inside}"
            shutil.copytree(bundles[inside][name].folder, folder)
            manifest: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
            manifest["output"] = "heatmaps" if inside else "points"
            (folder / "bundle.json").write_text(json.dumps(manifest))
            with pytest.raises(UserError, match=said):
                landmarks(name, read_bundle(folder))
            manifest["output"] = "boxes"
            (folder / "bundle.json").write_text(json.dumps(manifest))
            with pytest.raises(UserError, match="output = 'boxes', must be one of heatmaps, points"):
                read_bundle(folder)
