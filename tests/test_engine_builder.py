"""The script that builds engines: what a Jetson's Python can read, and what a real TensorRT builds with it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dots import dot_bench, dotted_faces

from slimalign.export.bundle_writer import write_bundle
from slimalign.runtimes import engine_builder
from slimalign.runtimes.bundle import Bundle, read_bundle
from slimalign.runtimes.engine_builder import (
    EngineError,
    Library,
    Settings,
    gpu,
    keep_decoder_float32,
    network_flags,
    parse_batches,
    set_precision,
    set_workspace,
    trtexec_line,
)

SOURCE = Path(engine_builder.__file__)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    faces = dotted_faces(40)
    bench = dot_bench(faces, faces[:20])
    return write_bundle(tmp_path_factory.mktemp("trt") / "dots", bench, "tensorrt-int8")


def test_the_script_is_python_3_6_and_needs_the_standard_library_alone() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    assert imported <= {
        "argparse",
        "ctypes",
        "glob",
        "hashlib",
        "importlib",
        "json",
        "os",
        "re",
        "sys",
        "time",
        "typing",
    }
    # Of the library, what came after 3.6 cannot be seen in the syntax.
    assert "dataclass" not in SOURCE.read_text()


def build(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script that lies in the bundle, as on a device: with nothing of slimalign."""
    command = [sys.executable, "-I", str(bundle / "build_engine.py"), *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def test_an_engine_is_built_once_and_again_where_anything_has_changed(bundle: Bundle) -> None:
    """For compute capability 8.6 in place of a Jetson's, which this TensorRT does not know; it is not run."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    done = build(bundle.folder, "--compute-capability", "8.6", "--batches", "1,2,4")
    engine = bundle.folder / "engines" / "sm86-b1-2-4.engine"
    assert (done.returncode, done.stderr) == (0, f"building {engine}, which takes minutes\n")
    assert done.stdout == f"{engine}\n"
    sidecar = engine.with_name(engine.name + ".json")
    facts = json.loads(sidecar.read_text())
    assert (facts["library"], facts["compute_capability"], facts["batches"]) == (
        "tensorrt_rtx",
        "8.6",
        [1, 2, 4],
    )
    assert facts["onnx_sha256"] == bundle.manifest.files["model.onnx"]
    assert facts["engine_sha256"] == engine_builder.file_sha256(str(engine))
    assert read_bundle(bundle.folder) == bundle  # an engine is no file of the bundle's
    settings = Settings((1, 2, 4), "8.6")

    def built_again() -> bool:
        before = sidecar.stat().st_mtime_ns
        assert engine_builder.engine_for(str(bundle.folder), settings) == str(engine)
        return sidecar.stat().st_mtime_ns != before

    assert not built_again()
    engine.write_bytes(engine.read_bytes()[:-1])
    assert built_again()
    assert not built_again()
    for entry, value in (("version", "8.5.2"), ("onnx_sha256", "0" * 64), ("platform", "R35 (release)")):
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), entry: value}))
        assert built_again(), entry
    sidecar.unlink()
    engine_builder.engine_for(str(bundle.folder), settings)
    assert json.loads(sidecar.read_text())["version"] == facts["version"]
    assert [path.name for path in engine.parent.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--compute-capability", "8.7"],
            "compute capability 8.7: here builds tensorrt_rtx .* for .*8.6.*; build it on",
        ),
        (["--batches", "1,8"], "--batches 1,8: give least, best and largest batch size, as in 1,1,8"),
        (["--batches", "4,2,8"], "--batches 4,2,8: give three sizes from 1 that do not fall"),
        (["--trtexec"], "trtexec comes with TensorRT, which is not installed here; ask on the device"),
        (
            ["nowhere", "--compute-capability", "8.6"],
            "nowhere/bundle.json: cannot be read .*; give a TensorRT bundle",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(bundle: Bundle, options: list[str], said: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    done = build(bundle.folder, *options)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert re.search(said, done.stderr), done.stderr


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_one_must_be_named(bundle: Bundle) -> None:
    done = build(bundle.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "build_engine: no GPU here; name one to build for, as in --compute-capability 8.6\n"
    )


def test_a_changed_model_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"changed")
    manifest: dict[str, Any] = {
        "format": "tensorrt",
        "model": "model.onnx",
        "files": {"model.onnx": "0" * 64},
    }
    for text in ("[]", json.dumps(manifest)):
        (tmp_path / "bundle.json").write_text(text)
        with pytest.raises(
            EngineError, match="bundle.json: lacks some of batch, files, format, .*; export the bundle again"
        ):
            engine_builder.read_manifest(str(tmp_path))
    manifest |= {"precision": "int8", "input_size": 64, "output": "heatmaps", "batch": None}
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="model.onnx: missing, changed or cut short since the export"):
        engine_builder.read_manifest(str(tmp_path))
    (tmp_path / "bundle.json").write_text(json.dumps({**manifest, "format": "onnx"}))
    with pytest.raises(EngineError, match="a bundle of format onnx; give a TensorRT bundle"):
        engine_builder.read_manifest(str(tmp_path))


def test_a_place_that_cannot_be_written_is_told_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    copy = tmp_path / "dots"
    shutil.copytree(bundle.folder, copy, ignore=shutil.ignore_patterns("engines"))
    (copy / "engines").write_text("a file")
    done = build(copy, "--compute-capability", "8.6")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"build_engine: {copy}/engines: cannot be written (File exists); free some space or mend its rights\n"
    )


def flags_of(*names: str) -> Any:
    return SimpleNamespace(**{name: place for place, name in enumerate(names)})


@pytest.mark.skipif(gpu() is not None, reason="this machine has a GPU")
def test_layers_cannot_be_told_without_the_gpu(bundle: Bundle) -> None:
    """TensorRT has said why before."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    done = build(bundle.folder, "--compute-capability", "8.6", "--layers")
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"build_engine: {bundle.folder}/engines/sm86-b1-1-8.engine: cannot be loaded here")


def inspecting(engine: bytes) -> Library:
    """Stands in for a TensorRT that can load ``engine``; it has run on no GPU here."""
    inspector = SimpleNamespace(get_engine_information=lambda kind: json.dumps({"kind": kind}))
    loaded = SimpleNamespace(create_engine_inspector=lambda: inspector)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: loaded if data == engine else None)
    module = SimpleNamespace(
        EngineInspector=object,
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
        Runtime=lambda logger: runtime,
    )
    return Library(module, "tensorrt", "8.5.2")


def test_layers_are_what_the_inspector_tells_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(b"engine")
    assert json.loads(engine_builder.layers_of(str(path), inspecting(b"engine"))) == {"kind": "json"}
    with pytest.raises(EngineError, match="a.engine: cannot be loaded here"):
        engine_builder.layers_of(str(path), inspecting(b"another"))
    with pytest.raises(EngineError, match="--layers: tensorrt 8.0.1 cannot tell them"):
        engine_builder.layers_of(str(path), OLD)


class Config:
    """What of a builder's configuration older and newer versions have."""

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.max_workspace_size = 0

    def set_flag(self, flag: int) -> None:
        self.flags.append(flag)


OLD = Library(
    SimpleNamespace(
        BuilderFlag=flags_of("FP16", "INT8"), NetworkDefinitionCreationFlag=flags_of("EXPLICIT_BATCH")
    ),
    "tensorrt",
    "8.0.1",
)
NEW = Library(
    SimpleNamespace(
        BuilderFlag=flags_of("TF32"), NetworkDefinitionCreationFlag=flags_of("OTHER", "STRONGLY_TYPED")
    ),
    "tensorrt",
    "11.0.0",
)


def test_older_versions_are_told_the_precisions_newer_ones_read_them_in_the_file() -> None:
    for precision, flags in (("fp32", []), ("fp16", [0]), ("int8", [0, 1])):
        config = Config()
        set_precision(config, OLD, precision)
        assert config.flags == flags
        set_precision(config, NEW, precision)
        assert config.flags == flags
    assert (network_flags(OLD), network_flags(NEW)) == (1, 2)
    set_workspace(config, OLD.module)
    assert config.max_workspace_size == 1 << 30


SHAPES = "--minShapes=image:1x3x64x64 --optShapes=image:1x3x64x64 --maxShapes=image:8x3x64x64"


@pytest.mark.parametrize(
    ("version", "ending"),
    [
        ("8.2.1", "--fp16 --int8 --workspace=1024 --buildOnly"),
        ("8.5.2", "--fp16 --int8 --memPoolSize=workspace:1024 --buildOnly"),
        ("10.3.0", "--fp16 --int8 --memPoolSize=workspace:1024 --skipInference"),
        ("11.0.0.1", "--memPoolSize=workspace:1024 --skipInference"),
    ],
)
def test_the_line_for_trtexec_is_that_of_its_version(version: str, ending: str) -> None:
    manifest = {
        "model": "model.onnx",
        "input_size": 64,
        "precision": "int8",
        "output": "heatmaps",
        "batch": None,
    }
    line = trtexec_line(manifest, version, parse_batches("1,1,8"))
    assert line == f"trtexec --onnx=model.onnx --saveEngine=model.engine {SHAPES} {ending}"


def test_trtexec_is_not_named_where_it_would_build_something_else() -> None:
    manifest = {
        "model": "model.onnx",
        "input_size": 64,
        "precision": "int8",
        "output": "points",
        "batch": None,
    }
    with pytest.raises(
        EngineError, match="trtexec would compute the decoder in float16; build with this script"
    ):
        trtexec_line(manifest, "10.3.0", (1, 1, 8))


class Layer:
    """What of a layer is held to a precision."""

    num_outputs = 1

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype
        self.precision, self.output = "any", "any"

    def get_output(self, place: int) -> Any:
        return SimpleNamespace(dtype=self.dtype)

    def set_output_type(self, place: int, dtype: str) -> None:
        self.output = dtype


@pytest.mark.parametrize("flag", ["STRICT_TYPES", "OBEY_PRECISION_CONSTRAINTS"])
def test_older_versions_keep_the_decoder_in_float32(flag: str) -> None:
    """Whole numbers within it, and all that stands before it, are left as they are."""
    layers = [
        Layer("/network/stem/Conv", "f32"),
        Layer("/decoder/Mul", "f32"),
        Layer("/decoder/Shape", "i32"),
    ]
    network = SimpleNamespace(num_layers=3, get_layer=layers.__getitem__)
    names = SimpleNamespace(BuilderFlag=flags_of("FP16", "INT8", flag), float32="f32", float16="f16")
    config = Config()
    keep_decoder_float32(network, config, Library(names, "tensorrt", "8.0.1"))
    assert config.flags == [2]
    assert [(layer.precision, layer.output) for layer in layers] == [
        ("any", "any"),
        ("f32", "f32"),
        ("any", "any"),
    ]
    keep_decoder_float32(network, config, NEW)
    assert config.flags == [2]
