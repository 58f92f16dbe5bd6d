"""The times of layers: what runtimes call their operators, matched with those of the file, and kept as records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cells import CROPS, onnx_bundle
from small_onnx import CHANNELS, Graph

from slimalign.benchmarks import results
from slimalign.benchmarks.layer_times import RUNS, WARM_UP, NodeTime, layer_times, nodes_in
from slimalign.benchmarks.layers import Layer, LayersRecord
from slimalign.export.file_cost import count_file
from slimalign.export.layer_matching import timed_layers
from slimalign.export.onnx_graph import OnnxGraph, read_onnx_graph
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs


def saved(graph: Graph, tmp_path: Path) -> tuple[tuple[Layer, ...], OnnxGraph]:
    path = tmp_path / "small.onnx"
    onnx.save(graph.model(), path)
    return count_file(path).layers, read_onnx_graph(path)


def times_of(layers: tuple[Layer, ...]) -> dict[str, float | None]:
    return {layer.name: layer.ms for layer in layers}


def trace_of(calls: int, ran: Any) -> list[dict[str, Any]]:
    """``ran`` gives names and milliseconds of what runs in a call of that number; a call begins every second."""
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9}]
    for call in range(calls):
        now = 1_000_000 * (call + 1)
        for place, (name, ms) in enumerate(ran(call), 1):
            args, end = {"op_name": "Conv"}, f"{name}_kernel_time"
            events.append({"cat": "Node", "name": end, "ts": now + place, "dur": 1000 * ms, "args": args})
            events.append({"cat": "Node", "name": f"{name}_fence_before", "ts": now + place, "dur": 5})
        # Told at its end.
        events.append({"cat": "Session", "name": "model_run", "ts": now, "dur": 900_000})
    return events


def test_a_trace_gives_the_median_after_the_warm_up() -> None:
    events = trace_of(WARM_UP + RUNS, lambda call: [("conv", 9000 if call < WARM_UP else call % 4 + 1)])
    assert list(nodes_in(events)) == [NodeTime("conv", "Conv", 2.5)]


def test_an_operator_that_runs_more_than_once_in_a_call_has_the_time_of_all() -> None:
    """As in a loop, which may go round more often in one call than in another."""

    def ran(call: int) -> list[tuple[str, float]]:
        return [("twice", 1.0), ("once", 8.0), ("twice", 3.0), *([("looped", 2.0)] * (call % 5))]

    times = {node.name: node.ms for node in nodes_in(trace_of(WARM_UP + RUNS, ran))}
    assert times == {"twice": 4.0, "once": 8.0, "looped": 4.0}


def test_times_go_to_the_operators_of_the_same_name(tmp_path: Path) -> None:
    graph = Graph().convolve("image", "a", "first").add("Relu", ["a"], "b", "act").convolve("b", "out", "")
    layers, read = saved(graph, tmp_path)
    # The second convolution has no name: runtimes call it by its place. The first was fused with what follows.
    nodes = [NodeTime("first", "FusedConv", 2.0), NodeTime("Conv_2", "Conv", 3.0)]
    assert times_of(timed_layers(layers, nodes, read)) == {"first": 2.0, "act": None, "Conv_2": 3.0}


def test_an_operator_made_two_of_has_the_time_of_both_and_another_kind_is_another(tmp_path: Path) -> None:
    layers, read = saved(Graph().convolve("image", "out", "conv"), tmp_path)
    nodes = [
        NodeTime("conv", "Conv", 1.0),
        NodeTime("conv/duplicated", "Conv", 2.0),
        NodeTime("conv_token_7", "QLinearConv", 4.0),
        NodeTime("conv", "Transpose", 8.0),
    ]
    found = timed_layers(layers, nodes, read)
    assert [(layer.kind, layer.ms) for layer in found] == [("Conv", 7.0), ("Transpose", 8.0)]
    assert found[1] == Layer("conv", "Transpose", None, None, None, 8.0)


def test_what_is_called_as_the_end_of_a_fusion_goes_to_its_beginning(tmp_path: Path) -> None:
    # Two branches meet: each blocked convolution belongs to the operator that it began with.
    graph = (
        Graph().convolve("image", "a", "left").add("Relu", ["a"], "b", "act").convolve("image", "c", "right")
    )
    graph.add("Add", ["b", "c"], "sum", "add").add("Relu", ["sum"], "out", "last")
    layers, read = saved(graph, tmp_path)
    nodes = [
        NodeTime("b_nchwc", "Conv", 1.0),
        NodeTime("out_nchwc", "Conv", 2.0),
        NodeTime("ReorderOutput", "ReorderOutput", 4.0),
    ]
    found = timed_layers(layers, nodes, read)
    assert times_of(found) == {
        "left": 1.0,
        "act": None,
        "right": 2.0,
        "add": None,
        "last": None,
        "ReorderOutput": 4.0,
    }


def test_no_time_is_lost_whatever_a_runtime_calls_its_operators(tmp_path: Path) -> None:
    layers, read = saved(Graph().convolve("image", "a", "one").convolve("a", "out", "two"), tmp_path)
    names = ["one", "two", "two", "a_nchwc", "out_nchwc", "three", "Conv_0", "fused one"]
    nodes = [NodeTime(name, "Conv", 2.0**place) for place, name in enumerate(names)]
    found = timed_layers(layers, nodes, read)
    assert sum(layer.ms or 0 for layer in found) == 2.0 ** len(names) - 1


def test_onnx_runtime_times_the_operators_of_a_file(tmp_path: Path) -> None:
    bundle = onnx_bundle(tmp_path)
    times = layer_times(bundle, network_inputs(CROPS[:1], bundle.manifest))
    assert (times.runtime, times.threads, times.runs) == ("onnxruntime", 1, RUNS)
    assert times.p50_ms > 0
    found = timed_layers(
        count_file(bundle.model_path).layers, times.nodes, read_onnx_graph(bundle.model_path)
    )
    assert {layer.kind for layer in found if layer.ms is not None} >= {"AveragePool", "Conv"}
    assert sum(layer.ms or 0 for layer in found) == pytest.approx(sum(node.ms for node in times.nodes))
    assert [layer.macs for layer in found if layer.kind == "Conv"] == [4 * 4 * 19 * 3]


@pytest.mark.parametrize(
    ("form", "said"), [("litert", "benchmark_model on the device with --enable_op"), ("tensorrt", "trtexec")]
)
def test_a_runtime_without_a_profiler_is_told(tmp_path: Path, form: str, said: str) -> None:
    bundle = onnx_bundle(tmp_path, format=form)
    with pytest.raises(UserError, match=said):
        layer_times(bundle, np.zeros((1, 3, 16, 16), dtype=np.float32))


RECORD = LayersRecord(
    bundle="net",
    sha256="00",
    precision="fp32",
    layers=(Layer("conv", "Conv", 10, 100, 1000, 0.5), Layer("Reorder", "Reorder", None, None, None, 0.25)),
    runtime="onnxruntime",
    version="onnxruntime 1",
    threads=1,
    runs=100,
    p50_ms=0.75,
)


def test_records_of_layers_come_back_as_they_were(tmp_path: Path) -> None:
    untimed = LayersRecord("net", "01", "fp32", (Layer("conv", "Conv", 1, 2, 3),))
    results.append(tmp_path / "r.jsonl", [RECORD, untimed])
    found = results.read(tmp_path / "r.jsonl")
    assert found.layers == (RECORD, untimed)
    assert found.of({"01"}).layers == (untimed,)
    assert json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])["kind"] == "layers"


@pytest.mark.parametrize("ms", [float("nan"), float("inf"), -1.0])
def test_times_that_are_none_are_refused(ms: float) -> None:
    with pytest.raises(UserError, match="times of layers are NaN, infinite or negative"):
        LayersRecord("net", "00", "fp32", (Layer("conv", "Conv", 1, CHANNELS, 3, ms),))
