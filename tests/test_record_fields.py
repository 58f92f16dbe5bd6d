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
    (0, "intervals", [], "entries, each two finite numbers"),
    (0, "intervals", {"p50_ms": [1.0]}, "entries, each two finite numbers"),
    (0, "samples_ms", [1.0, "2"], "a list of finite numbers"),
    (0, "samples_ms", [1.0, float("inf")], "a list of finite numbers"),
    (0, "samples_ms", [1.0, None], "a list of finite numbers"),
    (0, "init_ms", True, "a finite number"),
    (0, "runtime", None, "a text"),
    (0, "batch", 0, "a whole number above 0"),
    (0, "threads", 1.5, "a whole number of at least 0"),
    (0, "visits", [-1, 31], "a list, each a whole number of at least 0"),
    (0, "memory", {"peak_mb": "x", "libraries_mb": 1.0}, "the entries of a memory or null"),
    (0, "transfers", 1, "true or false"),
    (1, "sha256", ["a"], "a text"),
    (1, "subsets", None, "entries, each entries, each a finite number"),
    (1, "nme", float("inf"), "a finite number"),
    (1, "nme", 10**400, "a finite number"),
    (1, "nme_interval", [1.0, 2.0, 3.0], "two finite numbers or null"),
    (2, "size_bytes", "x", "a whole number of at least 0"),
    (2, "size_bytes", -5, "a whole number of at least 0"),
    (2, "macs", -1, "a whole number of at least 0 or null"),
    (3, "count", True, "a whole number of at least 0"),
    (4, "layers", [{"name": "a", "macs": "many"}], "a list, each the entries of a layer"),
]


@pytest.mark.parametrize(("place", "name", "value", "words"), WRONG)
def test_a_wrong_entry_is_named_with_its_line(
    path: Path, lines: list[dict[str, Any]], place: int, name: str, value: object, words: str
) -> None:
    with pytest.raises(UserError) as fault:
        read_back(path, {**lines[place], name: value})
    said = str(fault.value)
    assert said.startswith(f"{path}, line 1: {name} = ")
    assert said.endswith(f", must be {words}; was it edited by hand?")
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
