"""Which operator of a file a runtime's profiler tells of: runtimes rename what they fuse."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

from slimalign.benchmarks.layer_times import NodeTime
from slimalign.benchmarks.layers import Layer
from slimalign.export.file_cost_onnx import operators
from slimalign.export.onnx_graph import OnnxGraph

BLOCKED = "_nchwc"
"""ONNX Runtime calls an operator that works on blocks of channels as its output, which may be a later operator's."""
RENAMED = re.compile(r"^fused |_token_\d+$|/duplicated$")
"""What ONNX Runtime puts to the name of an operator that it has changed or made two of."""


def timed_layers(
    layers: Sequence[Layer], nodes: Sequence[NodeTime], graph: OnnxGraph | None
) -> tuple[Layer, ...]:
    """``layers`` with the times of ``nodes``; ``graph`` is that of an ONNX file, whose operators the layers are.

    What is none of the layers comes after them under its own name, so that the times add up to all that was told.
    """
    found, rest = _matched(layers, nodes, graph)
    own = [Layer(node.name, node.kind, None, None, None, node.ms) for node in rest]
    return (
        *(replace(layer, ms=found[place]) if place in found else layer for place, layer in enumerate(layers)),
        *own,
    )


def _matched(
    layers: Sequence[Layer], nodes: Sequence[NodeTime], graph: OnnxGraph | None
) -> tuple[dict[int, float], list[NodeTime]]:
    """Milliseconds by the layer's place, and the nodes that are none of them."""
    places = {layer.name: place for place, layer in enumerate(layers)}
    found: dict[int, float] = {}
    left, rest = [], []
    for node in nodes:
        place = places.get(node.name, places.get(RENAMED.sub("", node.name)))
        if place is None or not _alike(node.kind, layers[place].kind):
            left.append(node)
        else:
            found[place] = found.get(place, 0.0) + node.ms
    for node, place in _fused(left, layers, graph, frozenset(found)) if graph else zip(left, repeat(None)):
        if place is None or place in found:
            rest.append(node)
        else:
            found[place] = node.ms
    return found, rest


def _alike(kind: str, of_file: str) -> bool:
    """Whether the runtime's kind does what the file's does, as FusedConv, QLinearConv and NhwcFusedConv a Conv."""
    return kind.endswith(of_file) or (kind, of_file) == ("Upsample", "Resize")


def _fused(
    nodes: Sequence[NodeTime], layers: Sequence[Layer], graph: OnnxGraph, timed: frozenset[int]
) -> Iterator[tuple[NodeTime, int | None]]:
    """Each node with the operator that it began with: those from there to the one it is called after were fused."""
    numbers = {id(one): place for place, one in enumerate(operators(graph))}
    ends = [graph.makers.get(node.name.removesuffix(BLOCKED)) for node in nodes]
    others = timed | {numbers[id(end)] for end in ends if end is not None}
    for node, end in zip(nodes, ends, strict=True):
        behind = (numbers[id(one)] for one in _behind(end, graph, numbers, others))
        yield node, next((place for place in behind if _alike(node.kind, layers[place].kind)), None)


def _behind(end: Any, graph: OnnxGraph, numbers: Mapping[int, int], others: frozenset[int]) -> Iterator[Any]:
    """``end`` and the operators behind it, the nearest first, up to those which belong to ``others``."""
    waiting, seen = deque([] if end is None else [end]), set[int]()
    while waiting:
        one = waiting.popleft()
        yield one
        for name in one.input:
            maker = graph.makers.get(name)
            if maker is not None and numbers.get(id(maker), -1) not in {-1} | others | seen:
                seen.add(numbers[id(maker)])
                waiting.append(maker)
