"""Reading the graph of a .tflite file: its operations, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LiteRtGraph:
    """The operations of a .tflite file by their number, and how its bilinear resizes place pixels."""

    operations: Counter[str]
    half_pixel_resizes: int

    def faults(self) -> list[str]:
        """What is wrong with the graph of an exported network, each in a few words."""
        faults = []
        if transposes := self.operations["TRANSPOSE"]:
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
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    kinds = [names[_builtin_code(model.operatorCodes[operator.opcodeIndex])] for operator in operators]
    half_pixel = sum(
        operator.builtinOptions.halfPixelCenters and not operator.builtinOptions.alignCorners
        for kind, operator in zip(kinds, operators, strict=True)
        if kind == "RESIZE_BILINEAR"
    )
    return LiteRtGraph(Counter(kinds), half_pixel)


def _builtin_code(entry: Any) -> int:
    """Codes up to 127 lie in the older of two fields."""
    return int(max(entry.builtinCode, entry.deprecatedBuiltinCode))
