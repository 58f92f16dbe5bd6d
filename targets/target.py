"""A device to export for, and the JetPack releases that bring a Jetson its TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from slimalign.runtimes.errors import UserError
from slimalign.targets.toml_files import read_toml

JETPACKS = Path(__file__).with_name("jetpack.toml")
OPSET = 17
"""Of ONNX files for a device that has no JetPack."""
PYTHON = "python3"
"""The interpreter of a device, where nobody names another."""


def at_home(path: str) -> str:
    """``path`` on a device, where commands run in the user's home."""
    return path.removeprefix("~/")


"""The command of a device's Python where its profile names none."""


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, as in ``8.5.2``, to compare it by."""
    return tuple(int(part) for part in text.split("."))


@dataclass(frozen=True)
class JetPack:
    """A JetPack release, the TensorRT and CUDA that it brings, and the opset of ONNX files for it."""

    version: str
    tensorrt: str
    cuda: str
    opset: int

    @property
    def told(self) -> str:
        """As people read it."""
        return f"JetPack {self.version}: TensorRT {self.tensorrt}, opset {self.opset}"


@cache
def jetpacks() -> dict[str, JetPack]:
    """All known JetPack releases by their version, oldest first."""
    return {version: JetPack(version, **entries) for version, entries in read_toml(JETPACKS).items()}


@dataclass(frozen=True)
class Target:
    """A device as its profile describes it.

    ``formats`` are the names of the formats worth having there, the best first. Where it runs TensorRT, ``tensorrt``
    is its version, ``compute_capability`` its GPU's, as in ``8.7``, and ``int8`` says whether that GPU is quicker in
    int8 than in float16; on a Jetson ``jetpacks`` are the releases that it can have, oldest first, and ``jetpack`` is
    the one that is meant. Where it runs LiteRT, ``delegates`` are those that it may run in. ``memory_gb`` are the sizes
    it is sold with, ``power_modes`` those of nvpmodel; none where nothing is known of them. ``address`` says how to
    reach it, and ``python`` is the command of its Python.
    """

    name: str
    title: str
    architecture: str
    formats: tuple[str, ...]
    delegates: tuple[str, ...] = ()
    compute_capability: str | None = None
    int8: bool = True
    tensorrt: str | None = None
    jetpacks: tuple[JetPack, ...] = ()
    jetpack: JetPack | None = None
    memory_gb: tuple[float, ...] = ()
    power_modes: tuple[str, ...] = ()
    address: str | None = None
    python: str = PYTHON

    @property
    def runtimes(self) -> tuple[str, ...]:
        """What runs there: ``tensorrt``, ``onnx``, ``litert``; the first part of its formats' names."""
        return tuple(dict.fromkeys(runtime_of(name) for name in self.formats))

    @property
    def opset(self) -> int:
        """The opset to export ONNX files with."""
        return OPSET if self.jetpack is None else self.jetpack.opset

    @property
    def told(self) -> str:
        """Its name and the versions that files are judged by, as people read them."""
        versions = [f"JetPack {self.jetpack.version}"] if self.jetpack else []
        versions += [f"TensorRT {self.tensorrt}"] if self.tensorrt else []
        return f"{self.name} ({', '.join(versions)})" if versions else self.name

    def with_jetpack(self, version: str) -> Target:
        """The same device with another JetPack; raises UserError that lists those it can have."""
        if not self.jetpacks:
            raise UserError(f"target {self.name} has no JetPack; leave --jetpack {version} out")
        found = _release(version, self.jetpacks)
        if found is None:
            known = ", ".join(one.version for one in self.jetpacks)
            raise UserError(f"JetPack '{version}' is none of {self.name}'s; choose one of {known}")
        return replace(self, jetpack=found, tensorrt=found.tensorrt)

    def to_dict(self) -> dict[str, Any]:
        """What ``targets --json`` prints of it."""
        return {
            "name": self.name,
            "title": self.title,
            "architecture": self.architecture,
            "formats": self.formats,
            "delegates": self.delegates,
            "compute_capability": self.compute_capability,
            "int8": self.int8,
            "tensorrt": self.tensorrt,
            "opset": self.opset,
            "jetpacks": [vars(one) for one in self.jetpacks],
            "memory_gb": self.memory_gb,
            "power_modes": self.power_modes,
            "address": self.address,
            "python": self.python,
        }


def runtime_of(format_name: str) -> str:
    """The runtime of a format, as in ``tensorrt-int8``."""
    return format_name.split("-")[0]


def _release(version: str, known: Sequence[JetPack]) -> JetPack | None:
    """The newest of ``known``, oldest first, that ``version`` is or is a patch of."""
    try:
        wanted = version_numbers(version)
    except ValueError:
        return None
    for one in reversed(known):
        numbers = version_numbers(one.version)
        if numbers[:2] == wanted[:2] and numbers <= wanted:
            return one
    return None
