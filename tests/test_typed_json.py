"""Lines of a results file that were edited by hand, or come from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import accuracy_of, latency_of
from records import cost, told

from slimalign.benchmarks.layers import Layer, LayersRecord
from slimalign.benchmarks.results import AnyRecord, append, read
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import Energy, Memory

LAYERS = LayersRecord(
    "net", "a", "fp32", (Layer("conv", "Conv", 10, 100, None, 0.5),), runtime="r", p50_ms=1.0
)
LATENCY = replace(
    latency_of("a", "net", "litert", 1, 2.0),
    memory=Memory(90.0, 60.0),
    energy=Energy("VDD_IN", 2.0, 5.0, 40.0),
    visit_states=({"hottest_c": 50.0},),
    openings=("2026-01-01T00:00:00+00:00",),
)
RECORDS: list[AnyRecord] = [
    LATENCY,
    accuracy_of("a", "net", "litert", 3.0),
    cost("a"),
    told("a", 1.5),
    LAYERS,
]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A line of each kind."""
    path = tmp_path_factory.mktemp("records") / "results.jsonl"
    append(path, RECORDS)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edited") / "results.jsonl"


def read_back(path: Path, line: Mapping[str, Any]) -> list[AnyRecord]:
    path.write_text(json.dumps(line).replace("Infinity", "1e999") + "\n", encoding="utf-8")
    held = read(path)
    return [*held.latencies, *held.accuracy, *held.cost, *held.layers]


WRONG = [
    (0, "intervals", [], "expected object, got array"),
    (0, "intervals", {"p50_ms": [1.0]}, "expected array of length 2 at intervals[...]"),
    (0, "samples_ms", [1.0, "2"], "expected float, got str at samples_ms[1]"),
    (0, "samples_ms", [1.0, float("inf")], "number out of range at samples_ms[1]"),
    (0, "samples_ms", [1.0, None], "expected float, got null at samples_ms[1]"),
    (0, "init_ms", True, "expected float, got bool"),
    (0, "runtime", None, "expected str, got null"),
    (0, "batch", 0, "expected int >= 1"),
    (0, "threads", 1.5, "expected int, got float"),
    (0, "visits", [-1, 31], "expected int >= 0 at visits[0]"),
    (0, "memory", {"peak_mb": "x", "libraries_mb": 1.0}, "expected float, got str at memory.peak_mb"),
    (0, "transfers", 1, "expected bool, got int"),
    (1, "sha256", ["a"], "expected str, got array"),
    (1, "subsets", None, "expected object, got null"),
    (1, "nme", float("inf"), "number out of range"),
    (1, "nme", 10**400, "number out of range"),
    (1, "nme_interval", [1.0, 2.0, 3.0], "expected array of length 2"),
    (2, "size_bytes", "x", "expected int, got str"),
    (2, "size_bytes", -5, "expected int >= 0"),
    (2, "macs", 2**63, "expected int <= 9223372036854775807"),
    (3, "count", True, "expected int, got bool"),
    (4, "layers", [{"name": "a", "macs": "many"}], "expected int | null, got str at layers[0].macs"),
]


@pytest.mark.parametrize(("place", "name", "value", "words"), WRONG)
def test_a_wrong_entry_is_named_with_its_line(
    path: Path, lines: list[dict[str, Any]], place: int, name: str, value: object, words: str
) -> None:
    with pytest.raises(UserError) as fault:
        read_back(path, {**lines[place], name: value})
    said = str(fault.value)
    assert said.startswith(f"{path}, line 1: {name} = ")
    assert said.endswith(f": {words}; was it edited by hand?")
    assert "\n" not in said


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda held: st.lists(held, max_size=3) | st.dictionaries(st.sampled_from(["p50_ms", "a"]), held)
)


@given(st.integers(0, len(RECORDS) - 1), st.data())
def test_an_edited_entry_gives_a_record_or_one_line(
    path: Path, lines: list[dict[str, Any]], place: int, data: st.DataObject
) -> None:
    line = lines[place]
    name = data.draw(st.sampled_from(sorted(line)))
    edited = {**line, name: data.draw(VALUES)}
    if data.draw(st.booleans()):
        del edited[name]
    said = ""
    try:
        (found,) = read_back(path, edited)
    except UserError as error:
        found, said = RECORDS[place], str(error)
    assert type(found) is type(RECORDS[place])
    assert not said or said.startswith(f"{path}, line 1: ")
    assert "\n" not in said


def test_every_kind_comes_back_as_it_was(path: Path, lines: list[dict[str, Any]]) -> None:
    for line, record in zip(lines, RECORDS, strict=True):
        assert read_back(path, line) == [record]
