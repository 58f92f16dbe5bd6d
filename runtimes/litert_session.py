"""Bundles in LiteRT (TensorFlow Lite) on the CPU, with XNNPACK."""

from __future__ import annotations

import importlib
import importlib.util
from types import TracebackType
from typing import Any

import numpy as np

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import Float32, check_batch, thread_count

PACKAGES = ("ai_edge_litert", "tflite_runtime")
"""Where the Interpreter may come from, the one to prefer first; the second serves older devices."""


class LiteRtSession:
    """A .tflite file in LiteRT's interpreter; ``threads`` None means all cores.

    Raises UserError where no interpreter is installed or it cannot open the file.
    """

    runtime = "litert"

    def __init__(self, bundle: Bundle, threads: int | None = None):
        self.manifest = bundle.manifest
        self.threads = thread_count(threads)
        self._path = bundle.model_path
        self._interpreter = _open(bundle, self.threads)
        self._input: int = _only(bundle, "inputs", self._interpreter.get_input_details())["index"]
        self._output: int = _only(bundle, "outputs", self._interpreter.get_output_details())["index"]
        self._shape: tuple[int, ...] | None = None  # what the tensors are planned for

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, see Session."""
        if inputs.shape != self._shape:
            self._resize(inputs)
        self._interpreter.set_tensor(self._input, inputs)
        self._interpreter.invoke()
        heatmaps: Float32 = self._interpreter.get_tensor(self._output)
        return heatmaps

    def _resize(self, inputs: Float32) -> None:
        """Plan the tensors anew for the shape of ``inputs``."""
        check_batch(inputs, self.manifest)
        self._shape = None
        try:
            self._interpreter.resize_tensor_input(self._input, inputs.shape)
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


def _open(bundle: Bundle, threads: int) -> Any:
    package = next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)
    if package is None:
        raise UserError(f"{bundle.model_path}: LiteRT is not installed; run pip install 'slimalign[litert]'")
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter
    try:
        return interpreter(model_path=str(bundle.model_path), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{bundle.model_path}: {package} cannot open it ({str(error).splitlines()[0]});"
            " export it again or update LiteRT"
        ) from error


def _only(bundle: Bundle, what: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    """The one input or output of the model, float32."""
    if len(details) != 1 or details[0]["dtype"] is not np.float32:
        found = ", ".join(f"{detail['name']} {np.dtype(detail['dtype'])}" for detail in details)
        raise UserError(
            f"{bundle.model_path}: its {what} are {found}; exactly one of float32 is needed, export it again"
        )
    return details[0]
