"""Commands that choose among what was measured: pick, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from slimalign.commands.options import (
    JsonOption,
    JudgedSplitOption,
    NormaliserOption,
    ProtocolOption,
    ResultsArgument,
    TargetOption,
)
from slimalign.showing import print_json, say


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
    runtime: Annotated[Optional[str], typer.Option(help="Only this runtime.")] = None,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The most accurate point within limits, or what would have to give.

    Example: `slimalign pick runs/demo/results.jsonl --max-latency-ms 5`
    """
    from slimalign.benchmarks.pick import Limits
    from slimalign.benchmarks.pick import pick as pick_point
    from slimalign.benchmarks.report import table
    from slimalign.measuring import points

    limits = Limits(max_latency_ms, max_nme, max_size_mb, max_gmacs, max_params)
    found = points(results, split, normaliser, protocol, target)
    choice = pick_point(found, limits, batch, threads, runtime)
    if as_json:
        print_json(choice.to_dict())
        return
    if choice.point is None:
        say(f"No point fits; binding: {', '.join(choice.binding)}")
    else:
        say(table([point for point in (choice.point, choice.runner_up) if point is not None]))
    for relaxation in choice.relaxations:
        raised = ", ".join(f"{name} to {value:g}" for name, value in relaxation.limits.items())
        say(f"raise {raised}: then {relaxation.point.bundle} fits, NME {relaxation.point.nme:.2f} %")


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

    Example: `slimalign report runs/demo/results.jsonl --x params --out frontier.svg`
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
