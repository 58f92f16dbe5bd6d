"""Memory of bundles on this machine: each is run in a process of its own, see slimalign.runtimes.memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.memory import ProcessMemory, asked_of, memory_told_by, tell_memory
from slimalign.runtimes.session import Backend

CHILD = (
    "import json, sys; asked = json.load(sys.stdin); sys.path[:] = asked.pop('path');"
    " from slimalign.benchmarks.memory_here import main; main(asked)"
)
"""With the modules that its parent has, wherever it is started."""


def memory_here(bundle: Bundle, threads: int | None, batch: int, backend: Backend) -> ProcessMemory | str:
    """The memory of a process that runs ``bundle`` alone; or why it is not known."""
    manifest = json.loads(bundle.manifest.to_json())
    asked = asked_of(str(bundle.folder), manifest, threads, batch, backend)
    return memory_told_by([sys.executable, "-I", "-c", CHILD], {**asked, "path": sys.path})


def main(asked: Mapping[str, Any]) -> None:
    """What the process does: print its memory."""
    # PyTorch is heavy, and so is what else comes with what knows it: no other bundle is to carry that.
    if asked["manifest"]["format"] == "torch":
        from slimalign.benchmarks.opening import open_bundle as opener
    else:
        from slimalign.runtimes.opening import open_session as opener
    tell_memory(dict(asked), opener)
