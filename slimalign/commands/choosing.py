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
    results: Annotated[Path, typer.Argument(help="Results file of bench and eval, or the folder of a run.")],
    out: Annotated[Path, typer.Option(help="The page, .html; or the frontier alone, .png or .svg.")] = Path(
        "report.html"
    ),
    figures: Annotated[
        Optional[Path], typer.Option(help="Folder for every figure as SVG and its data as CSV.")
    ] = None,
    x: Annotated[
        Optional[str], typer.Option(help="What goes across at first: latency, params, macs, size ...")
    ] = None,
    batch: Annotated[Optional[int], typer.Option(help="Batch size that is shown at first.")] = None,
    threads: Annotated[Optional[int], typer.Option(help="Threads that are shown at first.")] = None,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """One HTML page that needs no network: frontier, batch sizes, errors, layers, device state; and a table here.

    Example: `slimalign report slimalign-demo --figures figures`

    The frontier alone, as a picture: `--x params --out frontier.svg`
    """
    from slimalign.benchmarks.report import table
    from slimalign.reporting import Wish
    from slimalign.reporting import report as write

    done = write(results, out, Wish(split, normaliser, protocol, target, batch, threads, x), figures)
    if as_json:
        print_json([point.to_dict() for point in done.points])
        return
    say(table(done.points))
    say(f"The report is {out}, {out.stat().st_size / 1e6:.1f} MB")
    if done.settings > 1:
        say(f"The table is of one of {done.settings} settings; the page has all of them")
    if figures is not None:
        say(f"{len(done.files) - 1} files are in {figures}")
