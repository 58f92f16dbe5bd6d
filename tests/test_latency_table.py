"""The latency table: parts and their sums by hand, a world that is linear, budgets in milliseconds, bad files."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimalign.compress.latency_table import (
    LatencyTable,
    PartTime,
    Shape,
    Tried,
    described,
    parts_of,
    read_latency_table,
)
from slimalign.compress.networks.architecture import Architecture, Operation, full_architecture
from slimalign.compress.recipe import SlimRecipe
from slimalign.compress.slim import CutCosts, check_budget, slimmed_architecture, successive_cuts
from slimalign.export.latency_fit import Measured, part_times
from slimalign.export.latency_probes import UntrainedFiles, probes, random_networks
from slimalign.export.litert_graph import read_litert_graph
from slimalign.runtimes.errors import UserError

FULL = full_architecture(19, 64, 12, (6, 10, 14), stage_count=4, encoders=2)


def table_of(full: Architecture, times: dict[str, float]) -> LatencyTable:
    shape = Shape.of(full)
    return LatencyTable(
        format="onnx",
        runtime="onnxruntime",
        version="onnxruntime 1",
        threads=1,
        target="local",
        cpu="a processor",
        protocol="kernel-1-draft",
        percentile=5.0,
        started="2026-01-01T00:00:00+00:00",
        before={"time": "then"},
        after={},
        command="slimalign latency-table",
        shape=shape,
        parts={
            name: PartTime(what=described(name, shape), ms=ms, interval=(ms, ms))
            for name, ms in times.items()
        },
        tried=(
            Tried(name="one", operations=4, macs=10, predicted_ms=2.3, measured_ms=2.0, p50_ms=2.1),
            Tried(name="two", operations=4, macs=10, predicted_ms=1.6, measured_ms=2.0, p50_ms=2.1),
        ),
    )


def times_of_parts(full: Architecture) -> dict[str, float]:
    """Other times for every part, as of a device that knows no multiply-adds."""
    rng = np.random.default_rng(0)
    return {name: float(ms) for name, ms in zip(parts_of(full), rng.uniform(0.01, 1, 99), strict=False)}


TABLE = table_of(FULL, times_of_parts(FULL))


def test_a_networks_parts_are_those_that_can_be_counted_by_hand() -> None:
    cut = FULL.keeping(
        [Operation(2, 0, 0), Operation(2, 2, 0), Operation(3, 0, 0), Operation(3, 0, 2), Operation(4, 1, 0)]
    )
    assert parts_of(cut) == {
        "stem": 1,
        "mbconv@stem": 2,
        "stem>0": 1,
        "stem>2": 1,
        "mbconv@0": 4,
        "mbconv@2": 2,
        "0>0": 1,
        "2>0": 1,
        "0>1": 1,
        "head@1": 1,
    }
    assert "mbconv@stem" not in parts_of(cut.model_copy(update={"encoders": 0}))


def test_a_prediction_is_the_sum_over_the_parts() -> None:
    table = table_of(FULL, {"stem": 1.0, "mbconv@0": 0.25, "0>1": 0.5, "head@1": 0.125})
    assert table.predicted_ms(Counter({"stem": 1, "mbconv@0": 3, "0>1": 2})) == 2.75


def test_parts_are_described_by_their_shapes() -> None:
    shape = Shape.of(FULL)
    assert described("0>1", shape) == "6x16x16 -> 10x8x8"
    assert described("stem>2", shape) == "12x16x16 -> 14x4x4"
    assert described("mbconv@1", shape) == "10x8x8"
    assert described("head@2", shape) == "14x4x4 -> 30 channels"
    assert described("stem", shape) == "3x64x64 -> 12x16x16, 30 -> 19 heatmaps"


@pytest.mark.parametrize("widths", [(6,), (6, 10), (6, 10, 14), (18, 36, 72, 144)])
@pytest.mark.parametrize("stage_count", [2, 3, 10])
def test_probes_tell_every_part_from_every_other(widths: tuple[int, ...], stage_count: int) -> None:
    """All that they hold is read by something, and what networks of the search space differ by is not left open."""
    full = full_architecture(19, 64, 12, widths, stage_count=stage_count, encoders=2)
    found = probes(full)
    for network in found.values():
        assert network.keeping(network.operations).operations == network.operations
        assert Shape.of(network) in (Shape.of(full), Shape.of(full).model_copy(update={"encoders": 0}))
    names = list(parts_of(full))
    held = np.array([[parts_of(network)[name] for name in names] for network in found.values()])
    of_space = [full, *itertools.chain(*(random_cuts(full, seed) for seed in range(2)))]
    asked = np.array([[parts_of(network)[name] for name in names] for network in of_space])
    assert np.linalg.matrix_rank(np.vstack([held, asked])) == np.linalg.matrix_rank(held)


def random_cuts(full: Architecture, seed: int) -> list[Architecture]:
    order = np.random.default_rng(seed).permutation(len(full.operations))
    return list(successive_cuts(full, [full.operations[i] for i in order]))


def test_in_a_world_where_times_add_up_every_network_is_predicted_exactly() -> None:
    """However its rounds differ: one in which all is slower is no time of the networks."""
    rounds = [1.0, 1.5, 1.0, 3.0]

    def measured(network: Architecture) -> Measured:
        counts = parts_of(network)
        ms = TABLE.predicted_ms(counts)
        return Measured(counts, [np.full(5, factor * ms) for factor in rounds])

    made_of = {**probes(FULL), **random_networks(FULL, 4, "made of")}
    times = part_times([measured(network) for network in made_of.values()], Shape.of(FULL))
    fitted = table_of(FULL, {name: time.ms for name, time in times.items()})
    for network in random_networks(FULL, 8, "others").values():
        truth = TABLE.predicted_ms(parts_of(network))
        assert fitted.predicted_ms(parts_of(network)) == pytest.approx(truth, rel=1e-6)
        assert measured(network).ms == pytest.approx(truth)
    for time in times.values():
        assert 0 <= time.interval[0] <= time.interval[1]


def test_no_part_takes_less_than_no_time() -> None:
    """Where a network with one part more was measured as quicker."""
    rng = np.random.default_rng(0)
    networks = [*probes(FULL).values(), *random_networks(FULL, 4, "made of").values()]
    noisy = [
        Measured(parts_of(network), [TABLE.predicted_ms(parts_of(network)) * rng.uniform(0.5, 1.5, 9)] * 2)
        for network in networks
    ]
    assert min(time.ms for time in part_times(noisy, Shape.of(FULL)).values()) == 0


def test_random_networks_are_the_same_for_a_seed_and_of_all_sizes() -> None:
    costs = CutCosts(FULL)
    sizes = [costs.of(network).macs for network in random_networks(FULL, 6, "a seed").values()]
    assert sizes == [costs.of(network).macs for network in random_networks(FULL, 6, "a seed").values()]
    assert sizes[-1] > 1.3 * sizes[0]
    other = random_networks(FULL, 6, "another seed").values()
    assert {n.operations for n in other} != {
        n.operations for n in random_networks(FULL, 6, "a seed").values()
    }


def written(tmp_path: Path, table: LatencyTable = TABLE) -> str:
    path = tmp_path / "table.json"
    path.write_text(table.to_json())
    return str(path)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_latency_table(written(tmp_path), FULL)
    assert found == TABLE
    assert [(round(one.error, 6), one.holds) for one in found.tried] == [(15.0, True), (-20.0, False)]
    assert [round(one.p50_error, 6) for one in found.tried] == [round(20 / 2.1, 6), round(-50 / 2.1, 6)]


def test_a_table_serves_cuts_and_longer_networks_of_its_shape(tmp_path: Path) -> None:
    longer = full_architecture(19, 64, 12, (6, 10, 14), stage_count=7, encoders=2)
    for network in (longer, FULL.keeping([Operation(2, 1, 0), Operation(3, 0, 1), Operation(4, 2, 0)])):
        assert read_latency_table(written(tmp_path), network) == TABLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": {}}, "parts: has no 0>0, 0>1, .*; measure the table again"),
        ({"threads": "many"}, "threads: Input should be a valid integer"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        (
            {"parts": {"stem": {"what": "", "ms": -1, "interval": [0, 0]}}},
            r"parts\.stem\.ms: Input should be gr",
        ),
        ({"parts": {"stem": {"what": "", "ms": "NaN", "interval": [0, 0]}}}, r"parts\.stem\.ms: "),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(json.loads(TABLE.to_json()) | change))
    with pytest.raises(UserError, match=rf"table\.json: {said}") as caught:
        read_latency_table(path, FULL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"table\.json: .*slimalign latency-table"):
        read_latency_table(path, FULL)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"landmarks": 68}, "landmarks = 19, these have 68; measure a table for them"),
        ({"input_size": 128}, "input_size = 64, these have 128"),
        ({"widths": (6, 10, 18), "head_width": 30}, "widths = 6, 10, 14, these have 6, 10, 18"),
        ({"encoders": 4}, "encoders = 2, these have 4"),
        ({"head_width": 44}, "hidden_width = 30, these have 44"),
    ],
)
def test_a_table_of_other_networks_is_refused(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    network = Architecture.model_validate(FULL.model_dump() | other)
    with pytest.raises(UserError, match=said):
        read_latency_table(written(tmp_path), network)


def importances_in(order: list[int]) -> dict[Operation, float]:
    return {FULL.operations[place]: 1.0 + rank for rank, place in enumerate(order)}


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(21)), share=st.floats(0.0, 0.99))
def test_a_budget_of_milliseconds_keeps_the_rule_and_is_met(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], share: float
) -> None:
    """The least important operations go, one after another, until what is left is quick enough."""
    path = written(tmp_path_factory.mktemp("table"))
    importances = importances_in(order)
    ranked = sorted(importances, key=lambda op: -importances[op])
    cuts = [(cut, TABLE.predicted_ms(parts_of(cut))) for cut in successive_cuts(FULL, ranked)]
    limit = cuts[-1][1] + share * (cuts[0][1] - cuts[-1][1])
    recipe = SlimRecipe(max_ms=limit + 1e-9, latency_table=path)
    check_budget(FULL, recipe)
    wanted = next(cut for cut, ms in cuts if ms <= limit + 1e-9)
    assert slimmed_architecture(FULL, importances, recipe).operations == wanted.operations


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(21)))
def test_the_quickest_path_is_found_in_any_order_of_importance(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    path = written(tmp_path_factory.mktemp("table"))
    ways = itertools.product(range(3), repeat=3)
    paths = [FULL.keeping([Operation(2, a, 0), Operation(3, b, a), Operation(4, c, b)]) for a, b, c in ways]
    least = min(TABLE.predicted_ms(parts_of(one)) for one in paths)
    recipe = SlimRecipe(max_ms=least + 1e-9, latency_table=path)
    found = slimmed_architecture(FULL, importances_in(order), recipe)
    assert TABLE.predicted_ms(parts_of(found)) == pytest.approx(least)


def test_a_budget_that_nothing_meets_tells_the_least(tmp_path: Path) -> None:
    path = written(tmp_path)
    least = min(size.ms for size in CutCosts(FULL, TABLE).lightest_paths())
    with pytest.raises(
        UserError, match=r"no student .* takes at least \d+\.\d\d ms by .*; raise max_ms"
    ) as e:
        check_budget(FULL, SlimRecipe(max_ms=least - 0.001, latency_table=path))
    told = float(str(e.value).split(" at least ")[2].split(" ms")[0])
    assert least <= told <= least + 0.01
    check_budget(FULL, SlimRecipe(max_ms=told, latency_table=path))
    whole = TABLE.predicted_ms(parts_of(FULL))
    with pytest.raises(UserError, match=rf"within the budget, .* takes {whole:.2f} ms by .*; lower max_ms"):
        check_budget(FULL, SlimRecipe(max_ms=whole + 1, latency_table=path))


def test_milliseconds_without_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="max_ms = 5: by which latency_table"):
        SlimRecipe(max_ms=5)


def test_litert_files_are_converted_together(tmp_path: Path) -> None:
    networks = {"path": probes(FULL)["path@0"], **random_networks(FULL, 1, "litert")}
    told: list[tuple[int, int]] = []
    files = UntrainedFiles(tmp_path, "litert", "aflw-19", 1.25)
    bundles = files.write(networks, lambda *done: told.append(done))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert [bundle.manifest.name for bundle in bundles] == ["path", "random-1"]
    for bundle in bundles:
        assert not read_litert_graph(bundle.model_path).faults()
    assert files.write(networks, lambda *done: told.append(done)) == bundles
    assert told[3:] == [(2, 2)], "what is there is made anew"


def test_the_files_factors_are_no_ones_that_a_converter_would_drop(tmp_path: Path) -> None:
    bench = UntrainedFiles(tmp_path, "onnx", "aflw-19", 1.25)._bench("one", FULL)
    factors = bench.subject.network.get_parameter("factors")
    assert torch.all((factors >= 0.5) & (factors <= 1.5) & (factors != 1))
