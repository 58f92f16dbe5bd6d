"""ONNX in float32 from a PyTorch network."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.decoding import Decoding, InGraphDecoder
from slimalign.export.fold import folded
from slimalign.runtimes.errors import UserError
from slimalign.targets.target import OPSET

OPSETS = (13, OPSET)
"""What TensorRT 8.0 to 8.4 reads (JetPack 4 and 5.0), and what later ones do."""
INPUT, HEATMAPS, POINTS, BATCH = "image", "heatmaps", ("points", "scores"), "batch"


def write_onnx(
    network: nn.Module,
    input_size: int,
    path: Path,
    decoder: InGraphDecoder | None = None,
    opset: int = OPSET,
    batch: int | None = None,
) -> None:
    """Write ``network`` as one file: ``image`` (N, 3, S, S) -> ``heatmaps`` (N, K, H, W).

    N is ``batch``, or any where that is None. With a ``decoder`` the file gives ``points`` (N, K, 2) and ``scores``
    (N, K) instead.

    Raises UserError where the onnx package is missing or the file is not as it must be: another opset, a resize that is
    not by constant scales with half-pixel centres.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError(f"{path}: onnx is not installed; run pip install 'slimalign[export]'")
    import onnx

    whole = folded(network)
    if isinstance(network, Cascade):
        _trace(whole, input_size, path, opset, batch, list(POINTS))
    elif decoder is None:
        _trace(whole, input_size, path, opset, batch, [HEATMAPS])
    else:
        _trace(Decoding(whole, decoder).eval(), input_size, path, opset, batch, list(POINTS))
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    if faults := _faults(model, opset):
        raise UserError(
            f"{path}: {'; '.join(faults)}; the installed PyTorch {torch.__version__} cannot export it"
        )


def _trace(
    network: nn.Module, input_size: int, path: Path, opset: int, batch: int | None, outputs: list[str]
) -> None:
    """Write the model with PyTorch's tracing exporter.

    The newer exporter takes ten times as long for the same graph, and silently leaves opset 18 for 13.
    """
    with warnings.catch_warnings(), _graph_unprinted():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            torch.onnx.export(
                network,
                (torch.zeros(batch or 1, 3, input_size, input_size),),
                str(path),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_axes=None if batch else {name: {0: BATCH} for name in (INPUT, *outputs)},
                opset_version=opset,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{type(network).__name__}, as ONNX: {reason}; use other operations in the network"
            ) from None


@contextmanager
def _graph_unprinted() -> Iterator[None]:
    """Without the whole graph, which PyTorch prints of a network that it cannot export, asked to or not."""
    printing = getattr(torch._C, "_jit_onnx_log", None)
    if printing is not None:
        torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        if printing is not None:
            torch._C._jit_onnx_log = printing


def _faults(model: Any, opset: int) -> list[str]:
    """What is wrong with an exported graph, each in a few words."""
    faults = []
    written = {entry.domain: entry.version for entry in model.opset_import}
    if written != {"": opset}:
        faults.append(f"opset = {written}, must be {opset}")
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    return faults + [f"{node.name}: {fault}" for node in resizes if (fault := _resize_fault(node, constants))]


def _resize_fault(node: Any, constants: set[str]) -> str | None:
    inputs = [*node.input, "", "", ""]
    scales, sizes = inputs[2], inputs[3]
    if sizes or scales not in constants:
        return "resizes to a computed size, must be by constant scales"
    modes = {
        a.name: a.s.decode() for a in node.attribute if a.name in ("mode", "coordinate_transformation_mode")
    }
    if (
        modes.get("coordinate_transformation_mode", "half_pixel") != "half_pixel"
        or modes.get("mode") != "linear"
    ):
        return f"resizes by {modes}, must be linear with half-pixel centres"
    return None
