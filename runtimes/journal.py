"""What was found so far, kept on disk so that it can be gone on with. Python 3.6 syntax, see session.py."""

import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from slimalign.runtimes.device_state import device_state
from slimalign.runtimes.installed import package_versions

LIBRARIES = (
    "numpy",
    "cv2",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
)
"""Those whose version bears on figures."""

Entry = Dict[str, Any]
"""A result: what JSON can hold, with its ``kind``. The last one of all is of kind ``end``."""
END: "Entry" = {"kind": "end"}
KEPT = "kept"
"""The kind of what an agent tells before it goes on: the ``number`` of entries that were there before."""


class Journal:
    """Results on disk, in the file ``path``, which is made where it is missing; each is a line of JSON.

    ``tell`` is given each line once, those that another has kept meanwhile too.
    """

    def __init__(self, path: str, tell: Callable[[str], None] = lambda line: None):
        # Held open: who follows another reads on when a third has fetched the results and cleared them away.
        self._file = open(path, "a+b")  # noqa: SIM115
        self._tell = tell
        self._told = 0  # bytes

    def fileno(self) -> int:
        """The open file, to be locked."""
        return self._file.fileno()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def follow(self) -> None:
        """Tell what has been kept since, by this process or by one before it."""
        self._file.seek(self._told)
        for line in self._file:
            if line.endswith(b"\n"):
                self._told += len(line)
                self._tell(line[:-1].decode())

    def entries(self) -> List[Entry]:
        """All that is kept; what a loss of power has left of a last line is cut off.

        Raises ValueError where another line is damaged.
        """
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)
        self._file.seek(0)
        return [_entry(line) for line in self._file]

    def take_up(self) -> "Tuple[List[Entry], Optional[str]]":
        """The results to go on with, and what the user is to know of that; what may not be gone on with is forgotten.

        Results that have come to their end may always be taken; others were found under the conditions of now.
        """
        try:
            kept = self.entries()
        except ValueError:
            self._forget()
            return [], "what was kept of the last time is damaged: measuring anew"
        if ended(kept):
            return kept, "picking up what was found meanwhile"
        found = [entry["conditions"] for entry in kept if entry["kind"] == "before"]
        now = conditions(device_state()) if found else {}
        if any(one != now for one in found):
            self._forget()
            return [], "the device is set another way since the last time: measuring anew"
        return kept, "going on with what was broken off" if kept else None

    def _forget(self) -> None:
        self._file.truncate(0)
        self._told = 0

    def keep(self, entry: Entry) -> None:
        """Keep one result, and tell it."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.follow()


def _entry(line: bytes) -> Entry:
    entry = json.loads(line.decode())
    if not isinstance(entry, dict) or "kind" not in entry:
        raise ValueError("not an entry")
    if entry["kind"] == "before" and "conditions" not in entry:
        raise ValueError("a beginning without its conditions")
    return entry


def ended(kept: Sequence[Entry]) -> bool:
    """Whether nothing is left to be done."""
    return any(entry == END for entry in kept)


def conditions(state: Entry) -> Entry:
    """What must be as it was for a measurement to be gone on with: the software, and how fast the device is set.

    ``state`` is that of slimalign.runtimes.device_state.
    """
    found: "Entry" = {name: state[name] for name in ("cpu", "power_mode", "cpu_governors")}
    found["python"] = sys.version
    versions = package_versions()
    found.update({name: versions[name] for name in LIBRARIES if name in versions})
    return found
