"""Commands that choose among what was measured, and compare it: pick, compare, report."""

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
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.showing import print_json, say, shown_progress

LEAST_MB = 100_000
"""Bytes below which a file's size is told in kB."""


def pick(
    results: ResultsArgument,
    max_latency_ms: Annotated[
        Optional[float], typer.Option(help="Most milliseconds of a call, median.")
    ] = None,
    max_p90_ms: Annotated[
        Optional[float], typer.Option(help="Most milliseconds of nine in ten calls.")
    ] = None,
    max_nme: Annotated[Optional[float], typer.Option(help="Most NME, in percent.")] = None,
    max_nme_subset: Annotated[
        Optional[list[str]],
        typer.Option(help="Most NME on a subset, as challenging=5; may be repeated.", show_default=False),
    ] = None,
    max_failure_rate: Annotated[Optional[float], typer.Option(help="Most failures, in percent.")] = None,
    max_size_mb: Annotated[Optional[float], typer.Option(help="Largest file, in 10^6 bytes.")] = None,
    max_gmacs: Annotated[Optional[float], typer.Option(help="Most multiply-adds, in 10^9.")] = None,
    max_params: Annotated[Optional[float], typer.Option(help="Most parameters.")] = None,
    max_memory_mb: Annotated[Optional[float], typer.Option(help="Most peak memory, in 10^6 bytes.")] = None,
    max_energy_mj: Annotated[Optional[float], typer.Option(help="Most millijoules a face.")] = None,
    min_throughput: Annotated[Optional[float], typer.Option(help="Fewest faces a second.")] = None,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads.")] = 1,
    runtime: Annotated[
        Optional[str], typer.Option(help="Only this runtime: onnxruntime, litert or pytorch.")
    ] = None,
    precision: Annotated[Optional[str], typer.Option(help="Only this precision, as fp32 or int8.")] = None,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The most accurate point within limits, or what would have to give; exit status 1 where none fits.

    Example: `slimalign pick slimalign-demo/results.jsonl --max-latency-ms 5`
    """
    from slimalign.benchmarks.limits import Limits
    from slimalign.choice_text import choice_text
    from slimalign.choosing import pick as pick_point

    limits = Limits(
        max_latency_ms=max_latency_ms,
        max_p90_ms=max_p90_ms,
        max_nme=max_nme,
        max_failure_rate=max_failure_rate,
        max_size_mb=max_size_mb,
        max_gmacs=max_gmacs,
        max_params=max_params,
        max_memory_mb=max_memory_mb,
        max_energy_mj=max_energy_mj,
        min_throughput=min_throughput,
        max_nme_subset=_subset_limits(max_nme_subset or []),
    )
    choice, names = pick_point(
        results, limits, runtime, precision, split, normaliser, protocol, target, batch, threads
    )
    if as_json:
        print_json(choice.to_dict())
    else:
        for part in choice_text(choice, names):
            say(part)
    if choice.point is None:
        raise typer.Exit(CheckError.status)


def _subset_limits(given: list[str]) -> dict[str, float]:
    limits = {}
    for text in given:
        subset, _, percent = text.rpartition("=")
        try:
            limits[subset] = float(percent)
        except ValueError:
            raise UserError(_wrong_subset_limit(text)) from None
        if not subset:
            raise UserError(_wrong_subset_limit(text))
    return limits


def _wrong_subset_limit(text: str) -> str:
    return f"--max-nme-subset {text}: give a subset and its most NME in percent, as in challenging=5"


def compare(
    before: Annotated[Path, typer.Argument(help="Results file of before.")],
    after: Annotated[Path, typer.Argument(help="Results file of after.")],
    max_worse: Annotated[float, typer.Option(help="By how many percent a figure may be worse.")] = 5.0,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    force: Annotated[
        bool, typer.Option("--force", help="Also across protocols and processors; it is said.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What changed from one results file to another, bundle by bundle; exit status 1 where something surely got worse.

    Example: `slimalign compare old/results.jsonl new/results.jsonl --max-worse 5`
    """
    from slimalign.choice_text import comparison_text
    from slimalign.choosing import compare as compare_files

    with shown_progress() as progress:
        comparison = compare_files(before, after, split, normaliser, max_worse, force, progress)
    if as_json:
        print_json(comparison.to_dict())
    else:
        for part in comparison_text(comparison):
            say(part)
    if comparison.worse:
        raise typer.Exit(CheckError.status)


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
    no_photos: Annotated[
        bool, typer.Option("--no-photos", help="Leave the run's test faces out, to pass the page on.")
    ] = False,
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

    wish = Wish(split, normaliser, protocol, target, batch, threads, x, not no_photos)
    done = write(results, out, wish, figures)
    if as_json:
        print_json([point.to_dict() for point in done.points])
        return
    say(table(done.points))
    size = out.stat().st_size
    told = f"{size / 1e6:.1f} MB" if size >= LEAST_MB else f"{size / 1e3:.1f} kB"
    say(f"The report is {out}, {told}")
    if done.settings > 1:
        others = "a page, --out report.html, has" if out.suffix != ".html" else "the page has"
        say(f"The table is of one of {done.settings} settings; {others} all of them")
    if done.photos:
        say("Photographs of people are in it; --no-photos leaves them out")
    if figures is not None:
        say(f"{len(done.files) - 1} files are in {figures}")
