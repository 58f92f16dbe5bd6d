"""The command line: its commands by name, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

from slimalign.commands.checking import doctor, lint, targets
from slimalign.commands.choosing import compare, pick, report
from slimalign.commands.making import demo, export, run, slim
from slimalign.commands.measuring import bench, evaluate, parity, profile
from slimalign.commands.predicting import predict
from slimalign.commands.tables import latency_table
from slimalign.extras import missing_extra
from slimalign.runtimes.errors import UserError
from slimalign.showing import remark

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Compact facial-landmark networks for a Jetson or a phone: made, exported, measured, chosen.",
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "run": run,
    "slim": slim,
    "latency-table": latency_table,
    "export": export,
    "eval": evaluate,
    "parity": parity,
    "bench": bench,
    "pick": pick,
    "compare": compare,
    "report": report,
    "predict": predict,
    "profile": profile,
    "lint": lint,
    "targets": targets,
    "doctor": doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)

# Newer versions of typer carry a click of their own, which alone raises what they raise.
click_exceptions = import_module(typer.BadParameter.__module__)

PROGRAM = "slimalign"
INTERRUPTED = 130
"""The status that typer gives a command that Ctrl-C broke off."""
RESUMED = {"run", "demo", "slim", "export"}
"""Commands that train, and that go on where they were broken off."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: status 0 done, 1 a check did not hold, 2 a mistake in what the user gave,
    130 broken off with Ctrl-C.
    """
    try:
        # In its standalone mode typer would end by itself, and tell of a mistake in a box of several lines.
        status = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        if status == INTERRUPTED:
            given = sys.argv[1:] if arguments is None else arguments
            goes_on = bool(set(given[:1]) & RESUMED)
            way = (
                "a run goes on with the same command, after its last whole epoch"
                if goes_on
                else "what was done is kept"
            )
            remark(f"{PROGRAM}: broken off; {way}")
        sys.exit(status)
    except UserError as error:
        _end(error)
    except click_exceptions.UsageError as mistake:
        _end_misused(mistake)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(missing)


def _end(error: UserError) -> None:
    # The processes that Fabric starts beside the first one fail with it.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        remark(f"{PROGRAM}: {error}")
    sys.exit(error.status)


def _end_misused(mistake: Any) -> None:
    message = mistake.format_message().rstrip(".")
    # An option without its value comes without the command it was given to.
    command = mistake.ctx.command_path if mistake.ctx else PROGRAM
    # Where there are no arguments at all typer has shown the help, and there is nothing to add.
    if message:
        remark(f"{PROGRAM}: {message}; see {command} --help")
    sys.exit(mistake.exit_code)
