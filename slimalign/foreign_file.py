"""What a model file from elsewhere takes and gives, as the runtime that opens it here says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import is_number, open_interpreter
from slimalign.runtimes.onnxruntime_session import open_onnx

MEND = "give a whole file, or update the runtime"


@dataclass(frozen=True)
class Ends:
    """How crops go into a file: ``layout`` NCHW or NHWC, their size, and the batch, None where any will do."""

    layout: str
    input_size: int
    batch: int | None


@dataclass(frozen=True)
class _End:
    """An input or output: a dimension of any size is None; ``fits`` says whether sessions know its numbers."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    fits: bool

    @property
    def told(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} [{sizes}]"


def ends_of(model: Path, path: Path, entries: Mapping[str, Any]) -> Ends:
    """How crops go into ``model`` by the ``entries`` of the TOML ``path``.

    Raises UserError where they do not go together, or the file takes or gives what no session knows.
    """
    inputs, outputs = (_onnx_ends if model.suffix == ".onnx" else _litert_ends)(model)
    _check_output(outputs, path, entries)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UserError(
            f"{path}: {model.name} takes {_listed(inputs)}; only files that take one batch of images can be used"
        )
    taken = inputs[0]
    if not taken.fits:
        raise UserError(
            f"{path}: {model.name} takes {taken.told}; float32 is needed, or in a .tflite file int8, uint8 or int16"
            " with a scale: convert it with such an input"
        )
    layout = _agreed("layout", entries.get("layout"), _layout(taken.shape), taken, path)
    sides = taken.shape[2:] if layout == "NCHW" else taken.shape[1:3]
    if len(set(sides)) > 1:
        raise UserError(f"{path}: {model.name} takes {taken.told}; only square crops can be cut")
    size = _agreed("input_size", entries.get("input_size"), sides[0], taken, path)
    return Ends(layout, size, taken.shape[0])


def _check_output(outputs: Sequence[_End], path: Path, entries: Mapping[str, Any]) -> None:
    wanted = entries.get("output_name")
    chosen = [one for one in outputs if wanted in (None, one.name)]
    if wanted is not None and not chosen:
        raise UserError(
            f'{path}: output_name = "{wanted}": the file gives {_listed(outputs)}; name one of them'
        )
    if len(chosen) > 1:
        raise UserError(f"{path}: the file gives {_listed(outputs)}; say which by output_name")
    if not chosen or not chosen[0].fits:
        raise UserError(
            f"{path}: the file gives {_listed(chosen)}; float32 is needed, or in a .tflite file int8, uint8 or int16"
            " with a scale: convert it with such an output"
        )
    # Such as heatmaps, which could be taken for coordinates as well.
    sizes, each = [size for size in chosen[0].shape[1:] if size != 1], entries.get("values_per_point", 2)
    if entries["output"] != "heatmaps" and (
        len(sizes) > 2 or (len(sizes) == 2 and sizes[1] not in (None, each))
    ):
        raise UserError(
            f"{path}: the file gives {_listed(chosen)}, which are not {each} values for each point; mend output or"
            " values_per_point"
        )


def _listed(ends: Sequence[_End]) -> str:
    return ", ".join(one.told for one in ends) or "nothing"


def _layout(shape: tuple[int | None, ...]) -> str | None:
    """By where the three channels are; None where that may be at either place."""
    channels_first, channels_last = shape[1] == 3, shape[3] == 3
    if channels_first == channels_last:
        return None
    return "NCHW" if channels_first else "NHWC"


def _agreed(entry: str, given: Any, found: Any, taken: _End, path: Path) -> Any:
    if given is None and found is None:
        raise UserError(
            f"{path}: {entry} is missing, and the file, which takes {taken.told}, fixes none; add it"
        )
    if None not in (given, found) and given != found:
        raise UserError(
            f"{path}: {entry} = {given}, but the file takes {taken.told}; leave it out or mend it"
        )
    return found if given is None else given


def _onnx_ends(model: Path) -> tuple[list[_End], list[_End]]:
    def end(value: Any) -> _End:
        shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
        dtype = value.type.removeprefix("tensor(").removesuffix(")")
        return _End(value.name, "float32" if dtype == "float" else dtype, shape, dtype == "float")

    session = open_onnx(model, 1, MEND)
    return [end(value) for value in session.get_inputs()], [end(value) for value in session.get_outputs()]


def _litert_ends(model: Path) -> tuple[list[_End], list[_End]]:
    def end(detail: Mapping[str, Any]) -> _End:
        shape = tuple(int(size) if size > 0 else None for size in detail["shape_signature"])
        return _End(detail["name"], str(np.dtype(detail["dtype"])), shape, is_number(detail))

    interpreter = open_interpreter(model, 1, MEND)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return [end(detail) for detail in inputs], [end(detail) for detail in outputs]
