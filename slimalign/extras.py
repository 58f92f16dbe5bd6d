"""Which extra brings a package that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from slimalign.runtimes.errors import UserError

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "train",
        "lightning_fabric": "train",
        "pydantic": "train",
        "safetensors": "train",
        "h5py": "train",
        "scipy": "train",
        "tensorboard": "train",
        "matplotlib": "report",
        "altair": "report",
        "vl_convert": "report",
        "jinja2": "report",
        "onnx": "export",
        "onnxscript": "export",
        "litert_torch": "export",
        "ai_edge_quantizer": "export",
        "onnxruntime": "onnxruntime",
        "ai_edge_litert": "litert",
    }
)
"""The smallest extra of pyproject.toml that brings each package, by the name it is imported under."""


def missing_extra(error: ModuleNotFoundError) -> UserError | None:
    """What to tell the user, in one line; None where the module is not one that an extra brings."""
    package = (error.name or "").split(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return UserError(f"{package} is not installed; run pip install 'slimalign[{extra}]'")
