"""Writing ONNX graphs that have been changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_onnx(model: Any, path: Path) -> None:
    """Sort, check and write ``model``, which from then on names the operator sets that its nodes are of, each once.

    Optimisers name all that they know, which older runtimes refuse.
    """
    import onnx

    used = {node.domain for node in model.graph.node}
    versions = {entry.domain: entry.version for entry in model.opset_import if entry.domain in used}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in versions.items())
    model = in_order(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def in_order(model: Any) -> Any:
    """``model`` with each node behind those whose outputs it takes: what is added stands at the end."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    whole = ONNXModel(model)
    whole.topological_sort()
    return whole.model
