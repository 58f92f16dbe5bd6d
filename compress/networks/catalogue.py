"""Networks by name: the teacher, the supernet, published students and cascades, or the JSON file of one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from torch import nn

from slimalign.compress.networks.architecture import (
    Architecture,
    architecture_from_keep,
    full_architecture,
    read_architecture,
)
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.cascade_shape import (
    CascadeShape,
    HourglassShape,
    RegressionShape,
    read_cascade_shape,
)
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.runtimes.errors import UserError

DEFAULT_INPUT = 256
DEFAULT_LANDMARKS = 68
CASCADES: Mapping[str, CascadeShape] = MappingProxyType(
    {
        **{
            f"chs-{stages}": CascadeShape(landmarks=98, regression=RegressionShape(stages=stages))
            for stages in (4, 2, 1, 0)
        },
        "awing-4hg": CascadeShape(
            landmarks=98, heatmap=HourglassShape(selective=False), regression=RegressionShape(stages=0)
        ),
    }
)
"""Those of CHS's table 9, which is for WFLW: with so many stages, and without selective features its baseline."""
HRNET_INPUT_MULTIPLE = 32
"""HRNet's lowest branch works at 1/32 of the input."""


@dataclass(frozen=True)
class NamedNetwork:
    """A network built by name, with the input size and the number of landmarks it was built for."""

    name: str
    landmarks: int
    input_size: int
    network: nn.Module


def network_names() -> tuple[str, ...]:
    """Every name that ``build_network`` knows."""
    return ("hrnet-w18", "hrsupernet", *_published_students(), *CASCADES)


def build_network(name: str, landmarks: int | None = None, input_size: int | None = None) -> NamedNetwork:
    """Build a network by its name, or from the path of an architecture's JSON.

    ``landmarks`` and ``input_size`` override what the name stands for. Raises UserError for an unknown name, and
    for a number of landmarks or an input size that the network cannot have.
    """
    if landmarks is not None and landmarks < 1:
        raise UserError(f"{name}: {landmarks} landmarks; give a number of at least 1")
    if name == "hrnet-w18":
        return _hrnet(
            name,
            DEFAULT_LANDMARKS if landmarks is None else landmarks,
            DEFAULT_INPUT if input_size is None else input_size,
        )
    if (shape := _cascade_named(name)) is not None:
        return _cascade(name, shape, landmarks, input_size)
    architecture = _architecture_named(name)
    if landmarks is not None:
        architecture = architecture.with_landmarks(landmarks)
    if input_size is not None:
        _check_input(name, input_size, architecture.input_multiple)
        architecture = architecture.with_input(input_size)
    return NamedNetwork(name, architecture.landmarks, architecture.input_size, HRSuperNet(architecture))


def _cascade_named(name: str) -> CascadeShape | None:
    """The shape of a published cascade, or in the file of one."""
    if name in CASCADES:
        return CASCADES[name]
    path = Path(name)
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        return (
            read_cascade_shape(path) if "regression" in json.loads(path.read_text(encoding="utf-8")) else None
        )
    except (OSError, ValueError, TypeError):
        return None  # which the reader of architectures tells of


def _cascade(name: str, shape: CascadeShape, landmarks: int | None, input_size: int | None) -> NamedNetwork:
    if input_size is not None:
        _check_input(name, input_size, shape.heatmap.input_multiple)
    shape = shape.at(landmarks or shape.landmarks, input_size or shape.input_size)
    return NamedNetwork(name, shape.landmarks, shape.input_size, Cascade(shape))


def _hrnet(name: str, landmarks: int, input_size: int) -> NamedNetwork:
    _check_input(name, input_size, HRNET_INPUT_MULTIPLE)
    return NamedNetwork(name, landmarks, input_size, HRNet(landmarks))


def _check_input(name: str, size: int, multiple: int) -> None:
    if size < 1 or size % multiple:
        raise UserError(f"{name}: input size {size}; give a multiple of {multiple}")


def _architecture_named(name: str) -> Architecture:
    if name == "hrsupernet":
        return full_architecture(DEFAULT_LANDMARKS)
    students = _published_students()
    if name in students:
        return students[name]
    if name.endswith(".json") or Path(name).is_file():
        return _architecture_in(name)
    close = difflib.get_close_matches(name, network_names(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(network_names())}"
    raise UserError(f"network '{name}' is unknown; {hint} (or give the path of an architecture's JSON)")


def _architecture_in(path: str) -> Architecture:
    try:
        return read_architecture(path)
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: not a JSON file that can be read; give an architecture's JSON") from None


def _published_students() -> dict[str, Architecture]:
    text = resources.files(__package__).joinpath("published_students.json").read_text(encoding="utf-8")
    students = json.loads(text)["students"]
    return {
        name: architecture_from_keep(entry["keep"], entry["landmarks"]) for name, entry in students.items()
    }
