"""What every way of reaching a machine can do: run commands there and put files there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from slimalign.runtimes.errors import UserError


class LineDroppedError(UserError):
    """The connection to a machine was lost, or never came about; what had come until then is kept."""


def cores_of(shell: Shell) -> int:
    """How many processor cores the machine has; raises UserError where it does not tell."""
    told = shell.run("nproc").split()
    if not told or not told[-1].isdigit():
        raise UserError(
            f"{shell.address}: does not tell how many cores it has; give numbers, as in --threads 1,4"
        )
    return int(told[-1])


class Lines(Protocol):
    """A command that runs on the machine: its lines of standard output as they come, without their ends."""

    def __iter__(self) -> Iterator[str]:
        """The lines that have not been taken yet; they end where the command has, with status 0.

        Another status raises as in ``Shell.run``, and a lost connection too, after the last whole line.
        """
        ...

    def tell(self, line: str) -> None:
        """Write ``line`` to the command's standard input, such as ``stop``; one that has ended is told nothing."""
        ...


class Shell(Protocol):
    """A machine that is reached by ``address``, as in ``ssh://pi@10.0.0.7`` or ``adb:R58M123``.

    Commands are one line for the machine's POSIX shell, run in the user's home. Raises LineDroppedError where the
    connection is lost, and UserError where it cannot be made for a reason that the user can mend.
    """

    address: str

    def run(self, command: str, given: str = "") -> str:
        """What ``command`` writes to standard output; ``given`` is its standard input.

        Raises UserError with its last line of error where it fails.
        """
        ...

    def lines(self, command: str) -> AbstractContextManager[Lines]:
        """Start ``command`` and follow it. Leaving the context before it has ended lets go of it: it may go on.

        Ctrl-C does not reach it, so that it can still be told to stop.
        """
        ...

    def push(self, files: Mapping[str, Path]) -> None:
        """Put local files at paths relative to the home, folders made; each is there whole or not at all."""
        ...

    def pull(self, path: str, to: Path) -> None:
        """Fetch the file at ``path``, whole or not at all."""
        ...
