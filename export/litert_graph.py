"""Reading the graph of a .tflite file: its operations, and what is wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slimalign.export.litert_model import LiteRtOperator, read_litert_model
from slimalign.runtimes.files import replacing

MODULE = re.compile(r"\.[A-Z]\w*?_([^;/]+)")
"""A class and, after it, the name of the module of that class."""


@dataclass(frozen=True)
class LiteRtGraph:
    """The operations of a .tflite file by their number, how its bilinear resizes place pixels, and the shapes of what
    it transposes.
    """

    operations: Counter[str]
    half_pixel_resizes: int
    transposed: tuple[tuple[int, ...], ...] = ()

    def faults(self, region: int | None = None) -> list[str]:
        """What is wrong with the graph of an exported network, each in a few words.

        Of a cascade regions of ``region`` x ``region`` about the landmarks may be transposed: each landmark's own
        weights take them in another order than they are sampled in.
        """
        faults = []
        if transposes := sum(shape.count(region) < 2 for shape in self.transposed):
            faults.append(
                f"{transposes} TRANSPOSE operations are left, which move whole heatmaps between layouts"
            )
        resizes = self.operations["RESIZE_BILINEAR"]
        if resizes != self.half_pixel_resizes:
            faults.append(
                f"{resizes - self.half_pixel_resizes} of {resizes} resizes are without half-pixel centres"
            )
        if nearest := self.operations["RESIZE_NEAREST_NEIGHBOR"]:
            faults.append(f"{nearest} resizes are not bilinear")
        return faults


def read_litert_graph(path: Path) -> LiteRtGraph:
    """The operations of all subgraphs of the .tflite file at ``path``."""
    operators = read_litert_model(path).operators
    half_pixel = sum(one.kind == "RESIZE_BILINEAR" and has_half_pixel_centres(one) for one in operators)
    transposed = (one.inputs[0] for one in operators if one.kind == "TRANSPOSE")
    return LiteRtGraph(
        Counter(one.kind for one in operators), half_pixel, tuple(one.shape for one in transposed if one)
    )


def has_half_pixel_centres(resize: LiteRtOperator) -> bool:
    """Whether a resize places pixels as PyTorch does with ``align_corners=False``."""
    return bool(resize.options.halfPixelCenters and not resize.options.alignCorners)


def shorten_names(source: Path, path: Path) -> None:
    """Write the .tflite file ``source`` to ``path``, which may be the same, with short names of tensors.

    The converter names each tensor by the classes and modules on the way to it, which takes a third of a megabyte.
    What is left are the modules' names within the network, as in ``s3_t0_f1/0``.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(source)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = short_name(tensor.name.decode()).encode()
    with replacing(path) as beside:
        flatbuffer_utils.write_model(model, beside)


def short_name(name: str) -> str:
    """The modules' names in a converter's name of a tensor, as in ``a.B_wrapped/a.C_stem/a.Conv2d_0;1``: ``stem/0``.

    Of several tensors that the converter made one, the last is taken; a name of another kind is kept.
    """
    last = name.rstrip(";").split(";;")[-1]
    modules = [found[1] for part in last.split("/") if (found := MODULE.search(part))]
    return "/".join(modules[1:]) if len(modules) > 1 else name
