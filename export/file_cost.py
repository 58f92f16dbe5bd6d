"""What a model file costs, operator by operator: parameters, multiply-adds and bytes moved for one face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slimalign.benchmarks.layers import Layer
from slimalign.export.file_cost_litert import litert_layers
from slimalign.export.file_cost_onnx import onnx_layers
from slimalign.export.litert_model import read_litert_model
from slimalign.export.onnx_graph import read_onnx_graph
from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class FileCost:
    """The operators of a file, in its order, and what they cost in all."""

    layers: tuple[Layer, ...]

    def totals(self) -> dict[str, int]:
        """``params``, ``macs`` (multiply-adds) and ``bytes_moved`` of the whole file, for one face."""
        return {
            "params": sum(layer.params or 0 for layer in self.layers),
            "macs": sum(layer.macs or 0 for layer in self.layers),
            "bytes_moved": sum(layer.bytes_moved or 0 for layer in self.layers),
        }


def count_file(path: Path) -> FileCost:
    """Count the operators of the .onnx or .tflite file at ``path`` for one face.

    Parameters are weights and biases, whatever their number type, each counted with the operator that takes it first;
    shapes, scales and zero points are none. Multiply-adds are those of convolutions and matrix products; elementwise
    work, pooling, normalising and resizing are free of them, as papers count. Bytes moved are those of all tensors that
    an operator takes and gives, in the number types of the file; what only gives a tensor another shape moves none.
    Each operator counts as it is in the file: a runtime that fuses some moves less.
    Raises CheckError that names all operators that cannot be counted: none is taken for zero; UserError for a file that
    is damaged or something else.
    """
    if path.suffix == ".onnx":
        return FileCost(onnx_layers(read_onnx_graph(path), path))
    if path.suffix == ".tflite":
        return FileCost(litert_layers(read_litert_model(path), path))
    raise UserError(f"{path}: not an .onnx or .tflite file; its operators cannot be counted")
