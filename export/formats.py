"""The formats that a network can be exported in: one table, one entry each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from torch import nn

from slimalign.compress.torch_files import write_network
from slimalign.export.fold import folded
from slimalign.export.litert_from_torch import write_litert
from slimalign.export.onnx_from_torch import write_onnx
from slimalign.export.subject import ExportSubject
from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class Format:
    """How a network becomes files.

    ``write`` puts them into a folder and returns their names, the model file first; ``computed`` is the network
    as the file computes it, whose cost is the file's. ``layout`` is that of input and heatmaps, ``tools`` the
    packages whose versions the bundle records, ``imports`` the modules that writing and checking a file takes.
    """

    name: str
    layout: str
    tools: tuple[str, ...]
    imports: tuple[str, ...]
    write: Callable[[ExportSubject, Path], tuple[str, ...]]
    computed: Callable[[nn.Module], nn.Module]


def _write_onnx(subject: ExportSubject, folder: Path) -> tuple[str, ...]:
    write_onnx(subject.network, subject.input_size, folder / "model.onnx")
    return ("model.onnx",)


def _write_litert(subject: ExportSubject, folder: Path) -> tuple[str, ...]:
    write_litert(subject.network, subject.input_size, folder / "model.tflite")
    return ("model.tflite",)


def _write_torch(subject: ExportSubject, folder: Path) -> tuple[str, ...]:
    return write_network(folder, subject.network)


def _itself(network: nn.Module) -> nn.Module:
    return network


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(
            "onnx", "NCHW", ("torch", "onnx"), ("onnx", "onnxscript", "onnxruntime"), _write_onnx, folded
        ),
        "litert": Format(
            "litert",
            "NHWC",
            ("torch", "litert-torch", "litert-converter"),
            ("litert_torch", "ai_edge_litert"),
            _write_litert,
            folded,
        ),
        "torch": Format(
            "torch", "NCHW", ("torch", "safetensors"), ("torch", "safetensors"), _write_torch, _itself
        ),
    }
)
"""Each format by its name; all are float32 and take any batch size."""


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
