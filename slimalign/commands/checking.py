"""Commands that read and run nothing: targets, lint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table

from slimalign.commands.options import JsonOption
from slimalign.runtimes.errors import CheckError
from slimalign.showing import print_json, say

if TYPE_CHECKING:
    from slimalign.export.lint.findings import Report

SHOWN_NODES = 3
"""Of the operators that a finding is about, those that are named."""


def targets(as_json: JsonOption = False) -> None:
    """The devices that files can be made and checked for.

    Example: `slimalign targets`
    """
    from slimalign import api

    found = api.targets()
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    table = Table("target", "device", "formats, best first", "TensorRT, opset", "GB", "power modes", box=None)
    for one in found:
        releases = "\n".join(release.told for release in one.jetpacks)
        memory = ", ".join(f"{size:g}" for size in one.memory_gb)
        modes = ", ".join(one.power_modes)
        table.add_row(one.name, one.title, ", ".join(one.formats), releases, memory, modes)
    say(table)


def lint(
    file: Annotated[Path, typer.Argument(help="An .onnx or .tflite file, or a bundle's folder.")],
    target: Annotated[str, typer.Option(help="A name of 'slimalign targets', or a device profile's file.")],
    jetpack: Annotated[Optional[str], typer.Option(help="JetPack of a Jetson; default its newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What in a file does not run on a device, or slowly, or computes something else; exit status 1 if it does not run.

    Example: `slimalign lint slimalign-demo/bundles/distilled-onnx --target jetson-orin-nano --jetpack 5.1`
    """
    from slimalign import api

    report = api.lint(file, target, jetpack)
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if report.errors:
        raise typer.Exit(CheckError.status)


def _show(report: Report) -> None:
    say(f"{report.file} for {report.target}")
    for line in _fact_lines(report):
        say(line)
    if not report.findings:
        say("Nothing found.")
        return
    table = Table("level", "rule", "where", "what", "how to mend it", box=None)
    for found in report.findings:
        table.add_row(found.level, found.rule, _shortened(found.nodes), found.message, found.mend)
    say(table)


def _fact_lines(report: Report) -> Iterator[str]:
    facts = report.facts
    yield f"{facts.version}; {sum(facts.operators.values())} operators: {_counted(facts.operators)}"
    sizes = {dtype: f"{size / 1e6:.2f}" for dtype, size in facts.weight_bytes.items()}
    yield f"tensors: {_counted(facts.tensors)}; MB of weights: {_counted(sizes)}"
    resizes = f"{sum(facts.resizes.values())} resizes" + (
        f" ({_counted(facts.resizes)})" if facts.resizes else ""
    )
    share = facts.int8_share
    int8 = "" if share is None else f"; {100 * share:.1f} % of multiply-adds outside the head in int8"
    yield f"{facts.transposes} transposes, {resizes}{int8}"


def _counted(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _shortened(nodes: tuple[str, ...]) -> str:
    more = len(nodes) - SHOWN_NODES
    return ", ".join(nodes[:SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")
