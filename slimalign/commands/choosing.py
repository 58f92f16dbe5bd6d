"""Commands that choose among what was measured: pick, report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from slimalign.commands.options import (
    JsonOption,
    JudgedSplitOption,
    NormaliserOption,
    ProtocolOption,
    ResultsArgument,
    TargetOption,
)
from slimalign.runtimes.errors import CheckError
from slimalign.showing import print_json, say

if TYPE_CHECKING:
    from slimalign.benchmarks.frontier import Point
    from slimalign.benchmarks.pick import Choice


def pick(
    results: ResultsArgument,
    max_latency_ms: Annotated[
        Optional[float], typer.Option(help="Most milliseconds of a call, median.")
    ] = None,
    max_nme: Annotated[Optional[float], typer.Option(help="Most NME, in percent.")] = None,
    max_size_mb: Annotated[Optional[float], typer.Option(help="Largest file, in 10^6 bytes.")] = None,
    max_gmacs: Annotated[Optional[float], typer.Option(help="Most multiply-adds, in 10^9.")] = None,
    max_params: Annotated[Optional[float], typer.Option(help="Most parameters.")] = None,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads.")] = 1,
    runtime: Annotated[
        Optional[str], typer.Option(help="Only this runtime: onnxruntime, litert or pytorch.")
    ] = None,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The most accurate point within limits, or what would have to give; exit status 1 where none fits.

    Example: `slimalign pick slimalign-demo/results.jsonl --max-latency-ms 5`
    """
    from slimalign.benchmarks.pick import Limits
    from slimalign.benchmarks.pick import pick as pick_point
    from slimalign.measuring import points

    limits = Limits(max_latency_ms, max_nme, max_size_mb, max_gmacs, max_params)
    found = points(results, split, normaliser, protocol, target, batch, threads)
    choice = pick_point(found, limits, runtime)
    if as_json:
        print_json(choice.to_dict())
    else:
        _show(choice)
    if choice.point is None:
        raise typer.Exit(CheckError.status)


def _show(choice: Choice) -> None:
    from slimalign.benchmarks.report import table

    if choice.point is None:
        say(f"No point fits; binding: {', '.join(map(_option, choice.binding))}")
    else:
        chosen = [point for point in (choice.point, choice.runner_up) if point is not None]
        say(table(chosen))
        say(f"The choice is {_named(chosen[0])}, by the NME on {chosen[0].split}")
    for relaxation in choice.relaxations:
        raised = " ".join(
            f"{_option(name)} {_rounded_up(value)}" for name, value in relaxation.limits.items()
        )
        point = relaxation.point
        say(f"raise {raised}: then {_named(point)} fits, NME {point.nme:.2f} %")


def _named(point: Point) -> str:
    return point.bundle if point.way is None else f"{point.bundle} on {point.way}"


def _option(limit: str) -> str:
    return "--" + limit.replace("_", "-")


def _rounded_up(value: float) -> str:
    """Four digits that are not below ``value``, so that the limit lets it in."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / step) * step:.4g}"


def report(
    results: ResultsArgument,
    out: Annotated[Path, typer.Option(help="Picture of the frontier, .png or .svg.")] = Path("frontier.png"),
    x: Annotated[str, typer.Option(help="What goes across: params, macs, latency or size.")] = "latency",
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads.")] = 1,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The points at one batch size and thread count as a table, and a picture of the frontier.

    Example: `slimalign report slimalign-demo/results.jsonl --x params --out frontier.svg`
    """
    from slimalign.benchmarks.report import scatter, table
    from slimalign.measuring import points

    found = points(results, split, normaliser, protocol, target, batch, threads)
    scatter(found, out, x)
    if as_json:
        print_json([point.to_dict() for point in found])
        return
    say(table(found))
    say(f"The picture is {out}")
