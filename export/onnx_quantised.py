"""ONNX with fewer bits, from a float32 file: float16, and int8 for ONNX Runtime on CPUs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.export.blocks import onnx_block
from slimalign.export.coordinate_parts import has_coordinates
from slimalign.export.onnx_file import in_order, save_onnx
from slimalign.export.onnx_from_torch import INPUT
from slimalign.runtimes.errors import UserError

Float32 = NDArray[np.float32]


def write_onnx_fp16(source: Path, path: Path) -> None:
    """Write the float32 model ``source`` with weights and arithmetic in float16; input and output stay float32.

    What computes with places in pixels stays float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    left = [node.name for node in model.graph.node if has_coordinates(node.name)]
    with warnings.catch_warnings():
        # Weights that float16 rounds to zero, one warning each: the gate says whether they mattered.
        warnings.simplefilter("ignore", UserWarning)
        # Of all operations Resize, too, or each would stand between two casts.
        half = convert_float_to_float16(model, keep_io_types=True, op_block_list=[], node_block_list=left)
    _join_float32(half.graph)
    save_onnx(in_order(half), path)


def _join_float32(graph: Any) -> None:
    """Take out casts to float16 and back, and casts of one tensor that stand there twice.

    The converter casts what goes into and comes out of each node that stays in float32, also between two of them.
    """
    from onnx import TensorProto

    made_by = {name: node for node in graph.node for name in node.output}
    instead = {}
    for node in graph.node:
        before = made_by.get(node.input[0])
        if before is not None and (_cast_to(before), _cast_to(node)) == (
            TensorProto.FLOAT16,
            TensorProto.FLOAT,
        ):
            instead[node.output[0]] = before.input[0]
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    made: set[str] = set()
    for node in list(graph.node):
        if node.op_type == "Cast" and (node.output[0] not in read or node.output[0] in made):
            graph.node.remove(node)
        made |= set(node.output)


def _cast_to(node: Any) -> int | None:
    """The type that a Cast gives; None of another node."""
    return next((a.i for a in node.attribute if a.name == "to"), None) if node.op_type == "Cast" else None


def optimised_onnx(source: Path, path: Path) -> None:
    """Write the float32 model ``source`` as both int8 schemes start from it: constants folded, shapes told."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet():
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)


def write_onnx_int8(
    source: Path, batches: Iterable[Float32], path: Path, float_blocks: Collection[str] = ()
) -> None:
    """Write the optimised model ``source`` with int8 arithmetic, its ranges those on ``batches`` (N, 3, S, S).

    Blocks named in ``float_blocks`` stay in float32.

    ONNX Runtime's scheme: unsigned asymmetric activations and signed weights for each output channel, which its
    kernels for x86 multiply in one instruction; with signed activations they take twice as long. Weights keep to 7 of
    their 8 bits: without VNNI that instruction sums two products in 16 bits, where those of 8 bits saturate, and the
    file would find other points on one processor than on another. Everything is quantised, the head too: each layer
    left in float stands between conversions.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Faces(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, Float32] | None:
            faces = next(self._batches, None)
            return None if faces is None else {INPUT: faces}

    graph = onnx.load(str(source)).graph
    left = [n.name for n in graph.node if has_coordinates(n.name) or onnx_block(n.name) in float_blocks]
    try:
        with _quiet():
            quantize_static(
                str(source),
                str(path),
                Faces(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                nodes_to_exclude=left,
            )
    except DecodeError:  # it reads files of its own again, and does not look whether they were written
        raise UserError(
            f"{path}: ONNX Runtime's quantiser cut a file short; free some space in {tempfile.gettempdir()}"
        ) from None
    save_onnx(onnx.load(str(path)), path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's log, which tells the root logger of every layer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
