"""The README's figures are those of the results that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "faces300w-cpu"
RUNTIMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "litert": "LiteRT"}


def table_rows(cells: int) -> list[list[str]]:
    """The rows of the README's tables with so many cells, without emphasis."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if len(row) == cells]


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / "waterfall.json").read_text())["steps"]
    return found


@pytest.mark.parametrize("step", steps(), ids=lambda step: f"{step['step']}-{step['runtime']}")
def test_the_waterfall_is_the_measured_one(step: dict[str, Any]) -> None:
    if step["step"].endswith("-other"):
        return
    expected = [
        step["step"],
        RUNTIMES[step["runtime"]],
        f"{step['val_nme']:.2f}",
        f"{step['test_nme']:.2f}",
        f"{step['params'] / 1e6:.2f} M",
        f"{step['macs'] / 1e9:.3f} G",
        f"{step['p50_ms']:.1f}",
    ]
    assert expected in table_rows(7)


def test_the_random_architectures_are_the_measured_ones() -> None:
    baselines = json.loads((RESULTS / "waterfall.json").read_text())["baselines"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"{nme:.2f}" in text for nme in baselines.values())


def precisions() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / "precisions.json").read_text())["rows"]
    return found


@pytest.mark.parametrize("row", precisions(), ids=lambda row: f"{row['runtime']}-{row['precision']}")
def test_the_precisions_are_the_measured_ones(row: dict[str, Any]) -> None:
    (found,) = (cells for cells in table_rows(6) if cells[:2] == [RUNTIMES[row["runtime"]], row["precision"]])
    network, plain = precisions()[0], {r["runtime"]: r for r in precisions() if r["precision"] == "fp32"}
    size, val, test, p50 = (cell.split(" (") for cell in found[2:])
    assert size[0] == f"{row['size_bytes'] / 1e6:.2f}"
    assert float(p50[0]) == pytest.approx(row["p50_ms"], rel=3e-3)
    for cell, split in ((val, "val_nme"), (test, "test_nme")):
        assert cell[0] == f"{row[split]:.3f}"
        if row["precision"] != "fp32":
            assert cell[1] == f"{100 * (row[split] / network[split] - 1):+.1f} %)"
    for cell, figure in ((size, "size_bytes"), (p50, "p50_ms")):
        if len(cell) > 1:
            assert cell[1] == f"{row[figure] / plain[row['runtime']][figure]:.2f}x)"


def rescues() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / "rescue.json").read_text())["rows"]
    return found


HOW = {"int8": "int8 (does not pass)", "rescue": "`--rescue`", "qat": "`--qat`"}


@pytest.mark.parametrize("row", rescues()[1:], ids=lambda row: f"{row['format']}-{row['how']}")
def test_the_rescues_are_the_measured_ones(row: dict[str, Any]) -> None:
    network = rescues()[0]
    nmes = [
        f"{row[split]:.3f} ({100 * (row[split] / network[split] - 1):+.1f} %)"
        for split in ("val_nme", "test_nme")
    ]
    expected = [row["format"], HOW[row["how"]], ", ".join(row.get("float_blocks", [])), *nmes]
    assert expected in table_rows(5)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if row["how"] == "rescue" and not row["format"].endswith("tensorrt"):
        assert f"{row['all_int8_p50_ms']:.2f} to {row['p50_ms']:.2f} ms" in " ".join(text.split())
