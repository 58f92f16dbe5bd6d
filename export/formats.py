"""The formats that a network can be exported in: one table, one entry each."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from torch import nn

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.torch_files import write_network
from slimalign.export.blocks import litert_blocks, onnx_blocks
from slimalign.export.fold import folded
from slimalign.export.int8_share import litert_int8_share, onnx_int8_share
from slimalign.export.litert_graph import shorten_names
from slimalign.export.litert_quantised import write_litert_quantised
from slimalign.export.onnx_quantised import write_onnx_fp16, write_onnx_int8
from slimalign.export.onnx_tensorrt_int8 import write_onnx_int8_tensorrt
from slimalign.export.workbench import Workbench
from slimalign.runtimes import engine_builder
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.opening import SessionOpener

SLOW_FACES = 32
"""Validation faces on which a format is judged that has no quick kernels here."""

Write = Callable[[Workbench, Path, Collection[str]], tuple[str, ...]]
"""Puts the files of a network into a folder, with some blocks left in float, and returns their names."""


@dataclass(frozen=True)
class Format:
    """How a network becomes files.

    ``write`` makes them, the model file first; ``computed`` is the network
    as the file computes it, whose cost is the file's. ``kind`` is the runtime's, as in a manifest, ``layout`` that of
    input and heatmaps, ``tools`` the packages whose versions the bundle records, ``imports`` the modules that writing
    and checking a file takes. ``calibrated`` says that the activations' ranges are those of faces. Of int8 formats
    ``blocks`` lists what can be left in float, ``int8_share`` measures which share of the multiply-adds outside the
    head is in int8. ``gate_faces`` is how many validation faces the file is judged on, None for all, ``opener`` what it
    is judged in.
    """

    kind: str
    precision: str
    layout: str
    tools: tuple[str, ...]
    imports: tuple[str, ...]
    write: Write
    computed: Callable[[nn.Module], nn.Module]
    calibrated: bool = False
    blocks: Callable[[Workbench], list[str]] | None = None
    int8_share: Callable[[Path], float] | None = None
    gate_faces: int | None = None
    opener: SessionOpener = open_bundle

    @property
    def exact(self) -> bool:
        """Whether the file computes what PyTorch does, but for rounding in float32."""
        return self.precision == "fp32"

    @property
    def runs_here(self) -> bool:
        """Whether what it is judged in is what it is for, so that its latency here means something."""
        return self.opener is open_bundle


def _itself(network: nn.Module) -> nn.Module:
    return network


def _write_torch(bench: Workbench, folder: Path, _: Collection[str]) -> tuple[str, ...]:
    return write_network(folder, bench.subject.network)


ONNX, LITERT, BUILD_SCRIPT = "model.onnx", "model.tflite", "build_engine.py"


def _write_onnx(bench: Workbench, folder: Path, _: Collection[str]) -> tuple[str, ...]:
    shutil.copyfile(bench.onnx, folder / ONNX)
    return (ONNX,)


def _write_onnx_fp16(bench: Workbench, folder: Path, _: Collection[str]) -> tuple[str, ...]:
    # The optimised file has its constants as such, of which scales of resizes must stay float32.
    write_onnx_fp16(bench.onnx_optimised, folder / ONNX)
    return (ONNX,)


def _write_onnx_int8(bench: Workbench, folder: Path, float_blocks: Collection[str]) -> tuple[str, ...]:
    batches = bench.calibration_batches("NCHW")
    write_onnx_int8(bench.onnx_optimised, batches, folder / ONNX, float_blocks)
    return (ONNX,)


def _write_onnx_int8_tensorrt(
    bench: Workbench, folder: Path, float_blocks: Collection[str]
) -> tuple[str, ...]:
    write_onnx_int8_tensorrt(bench.onnx_optimised, bench.onnx_largest, folder / ONNX, float_blocks)
    return (ONNX,)


def _write_litert(bench: Workbench, folder: Path, _: Collection[str]) -> tuple[str, ...]:
    shorten_names(bench.litert, folder / LITERT)
    return (LITERT,)


def _write_litert_quantised(
    scheme: str, calibrated: bool, bench: Workbench, folder: Path, float_blocks: Collection[str]
) -> tuple[str, ...]:
    path = folder / LITERT
    ranges = bench.litert_ranges if calibrated else None
    write_litert_quantised(bench.litert, scheme, ranges, path, float_blocks)
    shorten_names(path, path)
    return (LITERT,)


def _onnx(precision: str, write: Write, calibrated: bool = False) -> Format:
    tools = ("torch", "onnx") if precision == "fp32" else ("torch", "onnx", "onnxruntime")
    blocks, share = (_onnx_blocks, onnx_int8_share) if calibrated else (None, None)
    imports = ("onnx", "onnxscript", "onnxruntime")
    return Format("onnx", precision, "NCHW", tools, imports, write, folded, calibrated, blocks, share)


def _onnx_blocks(bench: Workbench) -> list[str]:
    return onnx_blocks(bench.onnx_optimised)


def _litert_blocks(bench: Workbench) -> list[str]:
    return litert_blocks(bench.litert)


def _tensorrt(onnx: Format, precision: str) -> Format:
    """The ONNX file with what builds its engine on a device; it is judged in ONNX Runtime, by the same arithmetic."""

    def write(bench: Workbench, folder: Path, float_blocks: Collection[str]) -> tuple[str, ...]:
        names = onnx.write(bench, folder, float_blocks)
        shutil.copyfile(str(engine_builder.__file__), folder / BUILD_SCRIPT)
        return (*names, BUILD_SCRIPT)

    return replace(onnx, kind="tensorrt", precision=precision, write=write, opener=OnnxRuntimeSession)


def _litert() -> Format:
    tools, imports = ("torch", "litert-torch", "litert-converter"), ("litert_torch", "ai_edge_litert")
    return Format("litert", "fp32", "NHWC", tools, imports, _write_litert, folded)


def _litert_quantised(
    precision: str, calibrated: bool = False, int8: bool = False, gate_faces: int | None = None
) -> Format:
    plain = _litert()
    return replace(
        plain,
        precision=precision,
        tools=(*plain.tools, "ai-edge-quantizer"),
        imports=(*plain.imports, "ai_edge_quantizer"),
        write=partial(_write_litert_quantised, precision, calibrated),
        calibrated=calibrated,
        blocks=_litert_blocks if int8 else None,
        int8_share=litert_int8_share if int8 else None,
        gate_faces=gate_faces,
    )


ONNX_FP16 = _onnx("fp16", _write_onnx_fp16)
# It is judged in ONNX Runtime, by the same arithmetic, but is not for it.
ONNX_INT8_TENSORRT = replace(
    _onnx("int8-tensorrt", _write_onnx_int8_tensorrt, calibrated=True), opener=OnnxRuntimeSession
)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": _onnx("fp32", _write_onnx),
        "onnx-fp16": ONNX_FP16,
        "onnx-int8": _onnx("int8", _write_onnx_int8, calibrated=True),
        "onnx-int8-tensorrt": ONNX_INT8_TENSORRT,
        "litert": _litert(),
        "litert-fp16": _litert_quantised("fp16"),
        "litert-dynamic": _litert_quantised("dynamic"),
        "litert-int8": _litert_quantised("int8", calibrated=True, int8=True),
        "litert-int8-io": _litert_quantised("int8-io", calibrated=True, int8=True),
        "litert-int16x8": _litert_quantised("int16x8", calibrated=True, gate_faces=SLOW_FACES),
        "tensorrt-fp16": _tensorrt(ONNX_FP16, "fp16"),
        "tensorrt-int8": _tensorrt(ONNX_INT8_TENSORRT, "int8"),
        "torch": Format(
            "torch",
            "fp32",
            "NCHW",
            ("torch", "safetensors"),
            ("torch", "safetensors"),
            _write_torch,
            _itself,
        ),
    }
)
"""Each format by its name, that of the runtime and, where it is not fp32, of the precision."""


def format_named(name: str) -> Format:
    """The format called ``name``; raises UserError that lists the known ones."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UserError(f"format '{name}' is unknown; choose one of {', '.join(FORMATS)}") from None


def check_imports(names: Iterable[str]) -> None:
    """Raise what the import of a missing module would raise, before hours of training; nothing is imported."""
    for name in names:
        for module in format_named(name).imports:
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(f"No module named '{module}'", name=module)
