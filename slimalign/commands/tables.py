"""Commands that measure what slimming chooses by: latency-table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from slimalign.commands.options import DelegateOption, JsonOption, ProviderOption, PythonOption
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.showing import print_json, say, shown_progress
from slimalign.targets.address import LOCAL

if TYPE_CHECKING:
    from slimalign.compress.latency_table import LatencyTable


def latency_table(
    run: Annotated[Optional[Path], typer.Option("--run", help="A run whose networks are meant.")] = None,
    recipe: Annotated[Optional[Path], typer.Option(help="Or a recipe, before it is run.")] = None,
    format_name: Annotated[
        str, typer.Option("--format", help="onnx, onnx-int8, litert, litert-int8.")
    ] = "litert",
    threads: Annotated[str, typer.Option(help="A number of threads, or all.")] = "1",
    target: Annotated[
        str, typer.Option("--target", help="local, ssh://user@host, or a device profile with an address.")
    ] = LOCAL,
    python: PythonOption = None,
    provider: ProviderOption = DEFAULT_BACKEND.provider,
    delegate: DelegateOption = DEFAULT_BACKEND.delegate,
    check: Annotated[int, typer.Option(help="Networks that the predictions are checked on.")] = 3,
    out: Annotated[Path, typer.Option(help="The table's file; networks are kept beside it.")] = Path(
        "latency-table.json"
    ),
    as_json: JsonOption = False,
) -> None:
    """What each operation of the search space takes on a device, for slimming by milliseconds.

    Measured on small networks that have one operation more often than others, and on random ones. Then networks that
    the table was not made of are predicted and measured; exit status 1 where one is off by more than 15 %. All this is
    about 5th percentiles of calls: what networks take by themselves adds up, what else the device does, which is in
    the p50 that `pick` goes by, does not; how far predictions are off the p50 is told beside.

    Example: `slimalign latency-table --run slimalign-demo --format onnx --target ssh://pi@raspberrypi`
    """
    from slimalign import api
    from slimalign.compress.latency_table import TOLERANCE

    with shown_progress() as progress:
        table = api.latency_table(
            run,
            recipe,
            format_name=format_name,
            threads=_threads(threads),
            target=target,
            python=python,
            backend=Backend(provider, delegate),
            check=check,
            out=out,
            command=shlex.join(["slimalign", *sys.argv[1:]]),
            progress=progress,
        )
    if as_json:
        print_json(table.model_dump(mode="json"))
    else:
        _show(table, out)
    off = [network for network in table.tried if not network.holds]
    if off:
        told = ", ".join(f"{network.name} by {network.error:+.1f} %" for network in off)
        raise CheckError(
            f"{out}: predictions are off, of {told}; at most {TOLERANCE:g} % will do, measure again while the device "
            "does nothing else"
        )


def _show(table: LatencyTable, out: Path) -> None:
    say(
        f"{out}: {table.format} in {table.version}, {table.threads} threads, {table.target} ({table.cpu}); "
        f"{len(table.parts)} parts, each by the {table.told_percentile} of calls"
    )
    for name, part in table.parts.items():
        low, high = part.interval
        say(f"  {name:12} {part.ms:8.3f} ms  ({low:.3f} to {high:.3f})  {part.what}")
    if table.tried:
        say("networks that it was not made of:")
    for network in table.tried:
        say(
            f"  {network.name:18} {network.operations:4} operations {network.macs / 1e9:.3f} G  "
            f"predicted {network.predicted_ms:7.2f} ms  measured {network.measured_ms:7.2f} ms  {network.error:+5.1f} %"
            f"  p50 {network.p50_ms:7.2f} ms  {network.p50_error:+5.1f} %"
        )


def _threads(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--threads: '{text}' is neither a whole number above 0 nor all")
    return int(text)
