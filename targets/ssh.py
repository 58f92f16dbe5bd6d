"""Machines reached by the system's ssh, with the user's configuration and keys."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import IO

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing
from slimalign.targets.client import Ended, Feed, Following, call, nothing
from slimalign.targets.parcel import unpack_line, write_parcel
from slimalign.targets.shell import LineDroppedError

CONNECT_SECONDS = 10
ALIVE_SECONDS, ALIVE_MISSES = 5, 3
"""A line over which nothing comes for so many seconds, so many times in a row, is given up."""
KEPT_SECONDS = 60
"""How long the shared connection waits for a next command."""
LONGEST_SOCKET = 80
"""Characters of a socket's path: ssh adds 17, and systems take 104 or more."""
SSH_FAILED = 255
"""What ssh ends with where itself, and not the command, has failed."""


_OWN = re.compile(
    r"ssh|Connection |client_loop|mux_client|kex_exchange|packet_write|Timeout, |banner exchange"
)
"""How the lines begin that ssh itself writes to standard error; others are the command's."""


class SshShell:
    """The machine ``host``; see ``Shell``. Its commands share one connection, which ``close`` ends.

    ``config`` is read by ssh in place of the user's own configuration.
    """

    def __init__(
        self, address: str, user: str | None, host: str, port: int | None = None, config: Path | None = None
    ) -> None:
        self.address = address
        self._destination = host if user is None else f"{user}@{host}"
        self._port = port
        self._options = [*(["-F", str(config)] if config else []), *(["-p", str(port)] if port else [])]
        self._folder = Path(tempfile.mkdtemp(prefix="slimalign-"))
        self.close = weakref.finalize(self, _tear_down, self._about_shared("exit"), self._folder)

    def run(self, command: str, given: str = "") -> str:
        """What ``command`` writes to standard output; ``given`` is its standard input."""
        with tempfile.TemporaryFile() as out:
            self._call(command, out, lambda to: to.write(given.encode()))
            out.seek(0)
            return out.read().decode("utf-8", "replace")

    @contextmanager
    def lines(self, command: str) -> Iterator[Following]:
        """Start ``command`` and follow it."""
        following = Following(self._command(command), self._check)
        try:
            yield following
        finally:
            following.close()

    def push(self, files: Mapping[str, Path]) -> None:
        """Put local files at paths relative to the home, in one stream."""
        if files:
            with tempfile.TemporaryFile() as out:
                self._call(unpack_line(files), out, lambda to: write_parcel(files, to))

    def pull(self, path: str, to: Path) -> None:
        """Fetch the file at ``path``."""
        with replacing(to) as beside, beside.open("wb") as out:
            self._call(f"cat {quote('./' + path)}", out)

    def _call(self, command: str, out: IO[bytes], feed: Feed = nothing) -> None:
        self._check(call(self._command(command), out, feed))

    def _command(self, command: str) -> list[str]:
        # By sh, since the user's own shell may be another one; 255 is to be ssh's alone.
        line = f"cd && ({command}); status=$?; [ $status -eq {SSH_FAILED} ] && exit 254; exit $status"
        return ["ssh", *self._options, *self._settings(), self._destination, f"sh -c {quote(line)}"]

    def _settings(self) -> Iterator[str]:
        settings = {
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": CONNECT_SECONDS,
            "ServerAliveInterval": ALIVE_SECONDS,
            "ServerAliveCountMax": ALIVE_MISSES,
        }
        if len(str(self._socket)) <= LONGEST_SOCKET:
            settings |= {"ControlMaster": "auto", "ControlPersist": KEPT_SECONDS, "ControlPath": self._socket}
        for name, value in settings.items():
            yield from ("-o", f"{name}={value}")

    @property
    def _socket(self) -> Path:
        return self._folder / "s"

    def _about_shared(self, order: str) -> list[str]:
        return ["ssh", *self._options, "-S", str(self._socket), "-O", order, self._destination]

    def _check(self, ended: Ended) -> None:
        if ended.status == 0:
            return
        if ended.status != SSH_FAILED:
            raise UserError(f"{self.address}: {ended.reason}")
        # A connection that is half dead must not take the next command in.
        _end_shared(self._about_shared("exit"), self._folder)
        mend = None if ended.anything_came else self._mend(ended.err)
        if mend is not None:
            raise UserError(f"{self.address}: {mend}")
        # Of what came on standard error, only ssh's own lines bear on the line.
        own = [line for line in ended.err.splitlines() if _OWN.match(line)]
        reason = f" ({own[-1].strip()})" if own else ""
        raise LineDroppedError(
            f"{self.address}: the line is down{reason}; the same command goes on when it is up"
        )

    def _mend(self, err: str) -> str | None:
        """What the user can do about what ssh says; None where it is no mistake of theirs."""
        port = [] if self._port is None else ["-p", str(self._port)]
        own = " ".join([*port, self._destination])
        if "IDENTIFICATION HAS CHANGED" in err:
            return (
                "its host key is another than before; if that is right, remove the old one with ssh-keygen -R"
            )
        if "Host key verification failed" in err:
            return f"its host key is not known; run ssh {own} once and compare the fingerprint"
        if re.search(r"Permission denied \(|Too many authentication failures", err):
            return (
                f"it takes none of your keys; run ssh-copy-id {own}, or ssh-add for a key with a passphrase"
            )
        if re.search(r"^ssh: Could not resolve hostname", err, re.M):
            return "no machine of this name is found; mend the name or give its number"
        if re.search(r"^ssh: connect to host .*: Connection refused", err, re.M):
            return (
                "no ssh server listens there; start sshd on it or give its port, as in ssh://user@host:2222"
            )
        found = re.search(
            r"^Can't open .*|^Bad .*|.*Bad configuration option.*|^Unable to negotiate .*", err, re.M
        )
        return None if found is None else f"ssh says: {found[0].strip()}; mend that in its configuration"


def _end_shared(exit_order: Sequence[str], folder: Path) -> None:
    """End the shared connection, if there is one; where it does not answer, it is left alone and used no more."""
    socket = folder / "s"
    if not socket.exists():
        return
    with suppress(subprocess.TimeoutExpired, FileNotFoundError):
        subprocess.run(exit_order, check=False, capture_output=True, timeout=ALIVE_SECONDS)
    socket.unlink(missing_ok=True)


def _tear_down(exit_order: Sequence[str], folder: Path) -> None:
    _end_shared(exit_order, folder)
    shutil.rmtree(folder, ignore_errors=True)
