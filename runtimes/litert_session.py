"""Bundles in LiteRT (TensorFlow Lite) on the CPU, with XNNPACK."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import Float32, check_batch, joined, thread_count

PACKAGES = ("ai_edge_litert", "tflite_runtime")
"""Where the Interpreter may come from, the one to prefer first; the second serves older devices."""


@dataclass(frozen=True)
class _End:
    """The input or the output of a model: whole numbers stand for (number - zero_point) * scale."""

    index: int
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def stored(self, values: Float32) -> NDArray[Any]:
        """``values`` as the model takes them."""
        if self.dtype == np.float32:
            return values
        limits = np.iinfo(self.dtype)
        whole = np.rint(values / np.float32(self.scale)) + self.zero_point
        stored: NDArray[Any] = np.clip(whole, limits.min, limits.max).astype(self.dtype)
        return stored

    def real(self, stored: NDArray[Any]) -> Float32:
        """What the model's numbers ``stored`` stand for."""
        if self.dtype == np.float32:
            return stored
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class LiteRtSession:
    """A .tflite file in LiteRT's interpreter; ``threads`` None means all cores.

    Raises UserError where no interpreter is installed or it cannot open the file.
    """

    runtime = "litert"

    def __init__(self, bundle: Bundle, threads: int | None = None):
        self.manifest = bundle.manifest
        self.threads = thread_count(threads)
        self._path = bundle.model_path
        self._interpreter = open_interpreter(
            self._path, self.threads, mend="export it again or update LiteRT"
        )
        self._input = _only(bundle, "inputs", self._interpreter.get_input_details())
        self._outputs = _outputs(bundle, self._interpreter.get_output_details())
        self._shape: tuple[int, ...] | None = None  # what the tensors are planned for

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, see Session."""
        if inputs.shape != self._shape:
            self._resize(inputs)
        self._interpreter.set_tensor(self._input.index, self._input.stored(inputs))
        self._interpreter.invoke()
        found = [end.real(self._interpreter.get_tensor(end.index)) for end in self._outputs]
        return found[0] if self.manifest.output == "heatmaps" else joined(*found)

    def _resize(self, inputs: Float32) -> None:
        """Plan the tensors anew for the shape of ``inputs``."""
        check_batch(inputs, self.manifest)
        self._shape = None
        try:
            self._interpreter.resize_tensor_input(self._input.index, inputs.shape)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self._path}: LiteRT cannot run it on input of shape {inputs.shape}"
                f" ({str(error).splitlines()[0]}); run the batch size it was exported with"
            ) from error
        self._shape = inputs.shape

    def __enter__(self) -> LiteRtSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._interpreter


def open_interpreter(path: Path, threads: int, mend: str) -> Any:
    """LiteRT's interpreter of the file ``path``, of the first of ``PACKAGES`` that is installed.

    Raises UserError where none is, or where it cannot open the file: then ``mend`` is the way out.
    """
    package = next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)
    if package is None:
        raise UserError(f"{path}: LiteRT is not installed; run pip install 'slimalign[litert]'")
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter
    try:
        return interpreter(model_path=str(path), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: {package} cannot open it ({str(error).splitlines()[0]}); {mend}") from error


def _only(bundle: Bundle, what: str, details: list[dict[str, Any]]) -> _End:
    """The one input or output of the model."""
    if len(details) != 1 or details[0]["dtype"] not in (np.float32, np.int8, np.int16):
        found = ", ".join(f"{detail['name']} {np.dtype(detail['dtype'])}" for detail in details)
        raise UserError(
            f"{bundle.model_path}: its {what} are {found}; exactly one of float32, int8 or int16 is needed, export it"
            " again"
        )
    return _end(details[0])


def _outputs(bundle: Bundle, details: list[dict[str, Any]]) -> list[_End]:
    """The heatmaps, or the points and their scores."""
    if bundle.manifest.output == "heatmaps":
        return [_only(bundle, "outputs", details)]
    by_rank = {len(detail["shape"]): detail for detail in details if detail["dtype"] is np.float32}
    if set(by_rank) != {2, 3} or len(details) != len(by_rank):
        found = ", ".join(f"{d['name']} {np.dtype(d['dtype'])} {list(d['shape'])}" for d in details)
        raise UserError(
            f"{bundle.model_path}: its outputs are {found}; points (N, K, 2) and scores (N, K) are needed, export it"
            " again"
        )
    return [_end(by_rank[3]), _end(by_rank[2])]


def _end(detail: dict[str, Any]) -> _End:
    scale, zero_point = detail["quantization"]
    return _End(detail["index"], np.dtype(detail["dtype"]), scale, zero_point)
