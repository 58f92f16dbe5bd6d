"""What every way of reaching a machine can do: run commands there and put files there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from slimalign.runtimes.errors import UserError


class LineDropped(UserError):
    """The connection to a machine was lost, or never came about; what had come until then is kept."""


class Shell(Protocol):
    """A machine that is reached by ``address``, as in ``ssh://pi@10.0.0.7`` or ``adb:R58M123``.

    Commands are lines for the machine's POSIX shell, run in the user's home; raises LineDropped where the connection is
    lost, and UserError where it cannot be made for a reason that the user can mend.
    """

    address: str

    def run(self, command: str) -> str:
        """What ``command`` writes to standard output; raises UserError with its last line of error where it fails."""
        ...

    def lines(self, command: str) -> AbstractContextManager[Iterator[str]]:
        """The lines of ``command`` as they come, without their ends.

        Leaving the context before the command has ended lets go of it: it may go on. An iterator that ends normally
        means that the command ended with status 0; another status raises as in ``run``.
        """
        ...

    def push(self, files: Mapping[str, Path]) -> None:
        """Put local files at paths relative to the home, folders made; each is there whole or not at all."""
        ...

    def pull(self, path: str, to: Path) -> None:
        """Fetch the file at ``path``, whole or not at all."""
        ...
