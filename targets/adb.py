"""Android devices reached by the system's adb."""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing
from slimalign.targets.client import Ended, Following, call
from slimalign.targets.parcel import PLACE, folder_beside, place_script
from slimalign.targets.shell import LineDroppedError

HOME = "/data/local/tmp/slimalign"
"""Where users of adb may write and run programs."""
_ENDED = "slimalign-ended-with-"
"""Older devices do not pass the status of a command on: it is written after its last line."""
_MENDS = (
    (r"unauthorized|still authorizing", "it does not trust this computer; unlock it and allow USB debugging"),
    (r"device offline", "it is offline; unlock it and plug it in again, or run adb reconnect offline"),
    (
        r"no permissions|insufficient permissions",
        "this user may not open it; install the udev rules for Android",
    ),
)
_NOT_FOUND = r"device '.*' not found|no devices/emulators found"


class AdbShell:
    """The Android device ``serial``; see ``Shell``. Its home is HOME."""

    def __init__(self, address: str, serial: str) -> None:
        self.address = address
        self._adb = ["adb", "-s", serial]

    def run(self, command: str, given: str = "") -> str:
        """What ``command`` writes to standard output; ``given`` is its standard input.

        Before Android 7 that has standard error in it, and the input has no end.
        """
        ended, told = self._call(self._shell(command), given)
        text, mark, status = told.replace("\r\n", "\n").rpartition(_ENDED)
        self._judge(ended, int(status) if mark else None, text)
        return text

    @contextmanager
    def lines(self, command: str) -> Iterator[AdbLines]:
        """Start ``command`` and follow it."""
        following = AdbLines(self._shell(command), self._judge)
        try:
            yield following
        finally:
            following.close()

    def push(self, files: Mapping[str, Path]) -> None:
        """Put local files at paths relative to the home, into a folder beside and then renamed."""
        if not files:
            return
        part = folder_beside(files)
        self.run(f"mkdir -p {quote(part)}")
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, PLACE)
            script.write_text(place_script(files), encoding="utf-8", newline="\n")
            try:
                for name, path in [
                    *((str(n), path) for n, path in enumerate(files.values())),
                    (PLACE, script),
                ]:
                    self._transfer("push", str(path), posixpath.join(HOME, part, name))
                self.run(f"sh {quote(posixpath.join(part, PLACE))} {quote(part)}")
            finally:
                with suppress(UserError):  # of the two errors, the first is the cause
                    self.run(f"rm -rf {quote(part)}")

    def pull(self, path: str, to: Path) -> None:
        """Fetch the file at ``path``."""
        with replacing(to) as beside:
            self._transfer("pull", posixpath.join(HOME, path), str(beside))

    def _transfer(self, verb: str, source: str, to: str) -> None:
        ended, told = self._call([*self._adb, verb, source, to])
        if ended.status == 0:
            return
        said = ended.err or told
        # What is said of a file, and not of the line, names it.
        if re.search(
            r"No such file|Permission denied|No space left|Read-only|does not exist|Is a directory", said
        ):
            raise self._failed(ended.status, said)
        raise self._broken(Ended(ended.status, said, anything_came=False))

    def _call(self, command: list[str], given: str = "") -> tuple[Ended, str]:
        with tempfile.TemporaryFile() as out:
            ended = call(command, out, lambda to: to.write(given.encode()))
            out.seek(0)
            return ended, out.read().decode("utf-8", "replace")

    def _shell(self, command: str) -> list[str]:
        line = f"mkdir -p {HOME} && cd {HOME} && ({command}); echo {_ENDED}$?"
        return [*self._adb, "shell", line]

    def _judge(self, ended: Ended, status: int | None, said: str) -> None:
        """Raise where a command that wrote ``said`` has failed, or where its ``status`` never came."""
        if status is None:
            raise self._broken(ended)
        if status != 0:
            raise self._failed(status, ended.err or said)

    def _failed(self, status: int, said: str) -> UserError:
        return UserError(f"{self.address}: {Ended(status, said, anything_came=True).reason}")

    def _broken(self, ended: Ended) -> UserError:
        """The error of a client that has not brought the command to its end."""
        mends = [mend for pattern, mend in _MENDS if re.search(pattern, ended.err)]
        if mends:
            return UserError(f"{self.address}: {mends[0]}")
        if re.search(_NOT_FOUND, ended.err) and not ended.anything_came:
            return UserError(f"{self.address}: no such device; {self._listed()}")
        if "cannot connect to daemon" in ended.err:
            return UserError(
                f"{self.address}: adb's server does not start ({ended.reason}); run adb start-server"
            )
        return LineDroppedError(
            f"{self.address}: the line is down ({ended.reason}); the same command goes on when it is up"
        )

    def _listed(self) -> str:
        """The devices that adb knows, with how they stand to this computer."""
        _, told = self._call(["adb", "devices"])
        found = [line.split("\t") for line in told.splitlines() if "\t" in line]
        if not found:
            return "adb sees none: plug one in and allow USB debugging in its developer options"
        return "adb sees " + ", ".join(
            serial if state == "device" else f"{serial} ({state})" for serial, state in found
        )


class AdbLines:
    """The lines of a command, less what tells its status; see ``Lines``."""

    def __init__(self, command: list[str], judge: Callable[[Ended, int | None, str], None]) -> None:
        self._judge = judge
        self._status: int | None = None
        self._last = ""
        self._following = Following(command, self._end)
        self.tell, self.close = self._following.tell, self._following.close

    def __iter__(self) -> Iterator[str]:
        for line in self._following:
            text, mark, status = line.rpartition(_ENDED)
            if mark:
                self._status = int(status)
            if text or not mark:
                self._last = text if mark else line
                yield self._last

    def _end(self, ended: Ended) -> None:
        self._judge(ended, self._status, self._last)
