"""The blocks of an exported network, by the names of its nodes: an LSFF block of a student, or another module that the
network itself calls. What they are for: leaving one of them in float.
"""

from __future__ import annotations

import re
from pathlib import Path

from slimalign.export.litert_graph import MODULE
from slimalign.export.litert_model import CONVOLUTIONS, read_litert_model
from slimalign.export.onnx_graph import read_onnx_graph

WRAPPERS = ("network", "heatmap", "student")
"""What stands around blocks: the network in a graph that decodes its heatmaps, a cascade's heatmap network, and the
student that this may be."""


def onnx_block(name: str) -> str | None:
    """The block of the ONNX node called ``name``, as ``s5_l2`` of ``/s5_l2/s5_t2_f0/s5_t2_f0.0/Conv``.

    None for a node that is in no module.
    """
    modules = name.split("/")[1:-1]
    return _first(modules)


def litert_block(name: str) -> str | None:
    """The block of the operation that makes the tensor of the converter's ``name``; None where it is in no module."""
    # Before it stand what was fused into it, which may be another block's, and places of constants that they share.
    own = [part for part in name.split(";") if "/" in part][-1:]
    modules = [found[1] for part in "".join(own).split("/") if (found := MODULE.search(part))]
    return _first(modules[1:])


def _first(modules: list[str]) -> str | None:
    return next((module for module in modules if module not in WRAPPERS), None)


def litert_block_pattern(block: str) -> str:
    """What the converter's names of the tensors of ``block``, and no others, match."""
    # In front of it are the wrapper that lays out input and output, and what it wraps; behind it numbers of outputs.
    within = rf"[^;/]*/[^;/]*(/[^;/]*_({'|'.join(WRAPPERS)}))*/[^;/]*\.[A-Z][^_;/]*_{re.escape(block)}"
    return rf"(^|;){within}(/[^;]*)?(;\d*)*$"


def onnx_blocks(path: Path) -> list[str]:
    """The blocks of the ONNX file at ``path`` that convolve, in the order in which they compute."""
    found = [onnx_block(node.name) for node in read_onnx_graph(path).nodes if node.op_type == "Conv"]
    return list(dict.fromkeys(block for block in found if block is not None))


def litert_blocks(path: Path) -> list[str]:
    """The same of the .tflite file at ``path``, whose tensors still have the converter's names."""
    operators = read_litert_model(path).operators
    found = [litert_block(one.outputs[0].name) for one in operators if one.kind in CONVOLUTIONS]
    return list(dict.fromkeys(block for block in found if block is not None))
