"""Files for one batch size alone: the same landmarks, and no other batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from dots import SIZE, dot_bench, dotted_faces

from slimalign.compress.data.sample import cut_crops
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.formats import FORMATS
from slimalign.export.workbench import GraphOptions
from slimalign.runtimes.aligner import Aligner, Landmarks
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.engine_builder import Settings, batches_of, engine_for, trtexec_line
from slimalign.runtimes.errors import UserError

BATCH = 3
CROPS = cut_crops(dotted_faces(7, seed=200), CropRule(SIZE, 1.25))
"""Two batches and a face."""
NAMES = ("onnx", "onnx-int8", "onnx-int8-tensorrt", "litert", "litert-int8", "tensorrt-int8")


def written(folder: Path, options: GraphOptions) -> dict[str, Bundle]:
    # As many faces as make no whole batches.
    bench = dot_bench(dotted_faces(32), dotted_faces(8, seed=100), options)
    return {name: write_bundle(folder / name, bench, name) for name in NAMES}


@pytest.fixture(scope="module")
def any_batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return written(tmp_path_factory.mktemp("any"), GraphOptions())


@pytest.fixture(scope="module", params=[False, True], ids=["heatmaps", "points"])
def fixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    options = GraphOptions(decode_inside=request.param, batch=BATCH)
    return written(tmp_path_factory.mktemp("fixed"), options)


def landmarks(name: str, bundle: Bundle) -> Landmarks:
    with FORMATS[name].opener(bundle, 1) as session:
        return Aligner(session).align_crops(CROPS)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_one_batch_size_finds_the_same_landmarks(
    name: str, any_batch: dict[str, Bundle], fixed: dict[str, Bundle]
) -> None:
    assert fixed[name].manifest.batch == BATCH
    expected, found = landmarks(name, any_batch[name]), landmarks(name, fixed[name])
    # LiteRT's int8 ranges are means of what each batch reaches: a step of the heatmaps apart.
    looser = 5 if name == "litert-int8" else 1
    np.testing.assert_allclose(found.points, expected.points, rtol=0, atol=0.05 * looser)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=0.01 * looser)


@pytest.mark.parametrize("name", NAMES)
def test_its_graph_has_that_batch_and_no_other_runs(name: str, fixed: dict[str, Bundle]) -> None:
    if not name.startswith("litert"):
        graph = onnx.load(str(fixed[name].model_path)).graph
        assert [value.type.tensor_type.shape.dim[0].dim_value for value in (*graph.input, *graph.output)] == [
            BATCH
        ] * (1 + len(graph.output))
    with FORMATS[name].opener(fixed[name], 1) as session:
        shape = (1, SIZE, SIZE, 3) if name.startswith("litert") else (1, 3, SIZE, SIZE)
        with pytest.raises(UserError, match="batch"):
            session.run(np.zeros(shape, dtype=np.float32))


def test_an_engine_is_built_for_that_batch(fixed: dict[str, Bundle]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    path = engine_for(str(fixed["tensorrt-int8"].folder), Settings((1, 1, 8), "8.6"))
    assert Path(path).name == f"sm86-b{BATCH}-{BATCH}-{BATCH}.engine"


def test_trtexec_is_told_no_shapes_that_the_file_fixes() -> None:
    manifest = {"model": "m.onnx", "input_size": 64, "precision": "fp16", "output": "heatmaps", "batch": 4}
    assert batches_of(manifest, (1, 1, 8)) == (4, 4, 4)
    assert batches_of({**manifest, "batch": None}, (1, 1, 8)) == (1, 1, 8)
    line = trtexec_line(manifest, "10.3.0", (4, 4, 4))
    assert line.startswith("trtexec --onnx=m.onnx --saveEngine=model.engine --fp16 ")


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="--batch 0: give a whole number of at least 1"):
        GraphOptions(batch=0)
