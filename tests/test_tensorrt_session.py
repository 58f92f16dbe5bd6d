"""The TensorRT session on stand-ins for TensorRT and CUDA; nothing here has run on a GPU."""

from __future__ import annotations

import ctypes
import importlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from needs import needed
from onnx import TensorProto, helper, numpy_helper
from small_manifest import small_manifest
from stand_in_tensorrt import tensorrt

from slimalign.runtimes import cuda, tensorrt_session
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, read_bundle
from slimalign.runtimes.cuda import CudaRuntime
from slimalign.runtimes.engine_builder import Gpu, Library, gpu
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import Backend, Float32
from slimalign.runtimes.tensorrt_session import TensorRtSession

SIZE, LANDMARKS = 16, 19


@pytest.fixture(scope="module", params=["", "-DBEFORE_11_4"])
def stand_in(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = needed("gcc", "apt-get install gcc")
    library = tmp_path_factory.mktemp("cuda") / "libcudart.so"
    source = Path(__file__).with_name("stand_in_cuda.c")
    flags = ["-Wall", "-Werror", *([request.param] if request.param else [])]
    subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", library, source], check=True)
    return library


@dataclass
class Gpus:
    """A machine with a stand-in for a GPU."""

    library: ctypes.CDLL

    @property
    def live(self) -> int:
        return int(self.library.standInLive())


@pytest.fixture(params=[True, False], ids=["by-name", "by-index"])
def gpus(request: pytest.FixtureRequest, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    library = ctypes.CDLL(str(stand_in))
    module = tensorrt(library, request.param)
    monkeypatch.setattr(cuda, "_places", lambda: [str(stand_in)])
    for place in (tensorrt_session, importlib.import_module("slimalign.runtimes.engine_builder")):
        monkeypatch.setattr(place, "gpu", lambda: Gpu("a stand-in", "8.7"))
        monkeypatch.setattr(place, "library_for", lambda _: Library(module, "tensorrt", module.__version__))
    yield Gpus(library)
    library.standInMost(ctypes.c_size_t(-1 % 2**64))
    assert library.standInLive() == 0, "a session that is closed has left memory behind"


def bundle_of(folder: Path, points: bool = False, batch: int | None = None) -> Bundle:
    """Heatmaps that are the picture's three channels over and over, or points and scores that are its first pixels."""
    folder.mkdir(exist_ok=True)
    weights = np.zeros((LANDMARKS, 3, 1, 1), dtype=np.float32)
    weights[np.arange(LANDMARKS), np.arange(LANDMARKS) % 3] = 1
    shape = [batch or "n", 3, SIZE, SIZE]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    if points:
        # The scores come first: which output is which must be told by their ranks.
        nodes = [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Gather", ["flat", "some"], ["scores"], axis=1),
            helper.make_node("Gather", ["flat", "pairs"], ["points"], axis=1),
        ]
        some = np.arange(LANDMARKS)
        constants = {"some": some, "pairs": np.stack([some, some + 100], axis=1)}
        shapes: dict[str, list[int | str]] = {"scores": [LANDMARKS], "points": [LANDMARKS, 2]}
    else:
        nodes = [helper.make_node("Conv", ["image", "weights"], ["heatmaps"], kernel_shape=[1, 1])]
        constants, shapes = {"weights": weights}, {"heatmaps": [LANDMARKS, SIZE, SIZE]}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], *rest])
        for name, rest in shapes.items()
    ]
    held = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "small", [image], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    manifest = small_manifest(folder, ("model.onnx",), "tensorrt", SIZE)
    output = "points" if points else "heatmaps"
    (folder / MANIFEST_NAME).write_text(replace(manifest, output=output, batch=batch, stride=1).to_json())
    return read_bundle(folder)


def pictures(count: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).random((count, 3, SIZE, SIZE), dtype=np.float32)


def heatmaps_of(images: Float32) -> Float32:
    return images[:, np.arange(LANDMARKS) % 3]


@pytest.mark.parametrize("graph", [False, True])
def test_a_session_gives_what_its_engine_computes(gpus: Gpus, tmp_path: Path, graph: bool) -> None:
    """Batch sizes come by turns, and more faces than the engine is built for go through in several runs."""
    backend = Backend(cuda_graph=graph)
    with TensorRtSession(bundle_of(tmp_path), None, backend) as session:
        kept = session.run(pictures(1))
        for turn, count in enumerate((3, 1, 8, 3, 20)):
            images = pictures(count, turn)
            assert np.array_equal(session.run(images), heatmaps_of(images))
        assert np.array_equal(kept, heatmaps_of(pictures(1))), "a later run has changed an answer"
        assert session.runtime == ("tensorrt-graph" if graph else "tensorrt")
        assert session.version.startswith("tensorrt ")
        assert gpus.live > 0


def test_points_and_scores_are_told_apart_by_their_ranks(gpus: Gpus, tmp_path: Path) -> None:
    images = pictures(2)
    flat = images.reshape(2, -1)
    with TensorRtSession(bundle_of(tmp_path, points=True)) as session:
        found = session.run(images)
    assert np.array_equal(found[..., 0], flat[:, :LANDMARKS])
    assert np.array_equal(found[..., 1], flat[:, 100 : 100 + LANDMARKS])
    assert np.array_equal(found[..., 2], flat[:, :LANDMARKS])


def test_a_fixed_batch_is_run_as_it_is(gpus: Gpus, tmp_path: Path) -> None:
    images = pictures(2)
    with TensorRtSession(bundle_of(tmp_path, batch=2)) as session:
        assert np.array_equal(session.run(images), heatmaps_of(images))
        for count in (1, 4):
            with pytest.raises(UserError, match=f"batch = {count}, the file runs batch 2 only"):
                session.run(pictures(count))


def test_a_gpu_without_room_is_told_in_one_line(gpus: Gpus, tmp_path: Path) -> None:
    gpus.library.standInMost(ctypes.c_size_t(100))
    with (
        TensorRtSession(bundle_of(tmp_path)) as session,
        pytest.raises(UserError, match=r"CUDA: cudaMalloc failed \(2, out of memory\); see that nvidia-smi"),
    ):
        session.run(pictures(1))


def test_a_batch_that_the_engine_is_not_built_for_is_refused(gpus: Gpus, tmp_path: Path) -> None:
    with (
        TensorRtSession(bundle_of(tmp_path), None, Backend(batches=(1, 1, 16))) as session,
        pytest.raises(UserError, match="its engine is not built for batch = 9"),
    ):
        session.run(pictures(9))


def test_the_engine_is_built_for_the_batches_that_are_asked_for(gpus: Gpus, tmp_path: Path) -> None:
    made = bundle_of(tmp_path)
    for batches in ((1, 1, 8), (4, 4, 4)):
        with TensorRtSession(made, None, Backend(batches=batches)):
            pass
    engines = {path.name for path in (tmp_path / "engines").glob("*.engine")}
    assert engines == {"sm87-b1-1-8.engine", "sm87-b4-4-4.engine"}


def test_an_engine_that_cannot_be_loaded_leaves_nothing_behind(gpus: Gpus, tmp_path: Path) -> None:
    made = bundle_of(tmp_path)
    with TensorRtSession(made):
        pass
    (engine,) = (tmp_path / "engines").glob("*.engine")
    sidecar = engine.with_name(engine.name + ".json")
    engine.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the sha256 of nothing
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "engine_sha256": empty}))
    with pytest.raises(UserError, match=r"\.engine: tensorrt .* cannot load it, see above"):
        TensorRtSession(made)


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no GPU here to run TensorRT on; run it on the device"):
        TensorRtSession(bundle_of(tmp_path))


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_the_real_cuda_runtime_says_that_there_is_no_gpu() -> None:
    try:
        cuda._library()
    except UserError as error:
        pytest.skip(str(error))
    with pytest.raises(UserError, match=r"CUDA: cudaStreamCreate failed \(\d+, .+\); see that nvidia-smi"):
        CudaRuntime()


def test_a_machine_without_cuda_is_told_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_places", lambda: ["libcudart-of-nowhere.so"])
    with pytest.raises(UserError, match="libcudart is not found; it comes with JetPack"):
        CudaRuntime()
