"""The client programs, ssh and adb, through which devices are reached: started, fed, followed, let go of."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from slimalign.runtimes.errors import UserError

Feed = Callable[[IO[bytes]], object]
"""Writes what a command is given to the file that is its standard input."""


GOING_OUT_SECONDS = 2
"""How long a client that is let go of may take to send what it was told."""


@dataclass(frozen=True)
class Ended:
    """How a client ended: its status, what it wrote to standard error, and whether anything came before."""

    status: int
    err: str
    anything_came: bool

    @property
    def reason(self) -> str:
        """The last line of error, or the status where there is none."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with status {self.status}"


def nothing(_: IO[bytes]) -> None:
    """Feeds nothing."""


def call(command: Sequence[str], out: IO[bytes], feed: Feed = nothing) -> Ended:
    """Run ``command`` to its end; what it writes to standard output goes to the file ``out``."""
    # A file, since ssh's shared connection may hold on to what it was started with: a pipe would not end.
    with TemporaryFile() as errors:
        process = _started(command, out.fileno(), errors)
        assert process.stdin is not None
        try:
            # A client that has ended early is told of by its status.
            with suppress(BrokenPipeError):
                feed(process.stdin)
            with suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        except BaseException:
            _let_go(process)
            raise
        return Ended(status, _text(errors), out.tell() > 0)


class Following:
    """The lines of ``command`` while it runs; ``check`` raises where the way it ended is not as it should be."""

    def __init__(self, command: Sequence[str], check: Callable[[Ended], None]) -> None:
        self._check = check
        self._errors = TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = _started(command, subprocess.PIPE, self._errors)
        assert self._process.stdout is not None
        self._out = io.TextIOWrapper(self._process.stdout, encoding="utf-8", errors="replace")
        self._anything_came = False

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for line in self._out:
            self._anything_came = True
            if line.endswith("\n"):
                yield line.rstrip("\n")
            else:
                rest = line
        self._check(Ended(self._process.wait(), _text(self._errors), self._anything_came))
        if rest:  # of a command that has not ended well it may be half a line
            yield rest

    def tell(self, line: str) -> None:
        """Write ``line`` to the command's standard input."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Let go of the command, once what it was told has gone out."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GOING_OUT_SECONDS)
        _let_go(self._process)
        self._out.close()
        self._errors.close()


def _started(command: Sequence[str], out: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C in the terminal must not end the line before the device is told."""
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=errors, start_new_session=True
        )
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed; see 'slimalign doctor'") from None


def _let_go(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
