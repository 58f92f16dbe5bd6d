"""The agent as one file: the modules that it needs, packed so that a Python from 3.6 runs it as it is."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from slimalign.runtimes import errors

MODULES = (
    "agent",
    "aligner",
    "answers",
    "crop",
    "cuda",
    "decode",
    "device_state",
    "end_to_end",
    "energy",
    "engine_builder",
    "errors",
    "inputs",
    "installed",
    "journal",
    "litert_session",
    "memory",
    "onnxruntime_session",
    "opening",
    "resting",
    "session",
    "stage_clock",
    "sweep",
    "sweep_entries",
    "tensorrt_session",
    "timing_loop",
)
"""Modules of slimalign.runtimes that are written in the syntax of Python 3.6."""

MAIN = """import importlib.util
import json
import sys

if importlib.util.find_spec("numpy") is None:
    lacking = "%s has no NumPy; name a Python with it and a runtime by --python, see slimalign doctor" % sys.executable
    print(json.dumps({"kind": "error", "message": lacking}))
    sys.exit(2)

from slimalign.runtimes.agent import main

sys.exit(main())
"""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest time that zip knows: the same modules make the same file."""


def agent_file() -> bytes:
    """A zip that Python runs, with ``__main__`` and ``slimalign.runtimes`` in it."""
    folder = Path(errors.__file__).parent
    texts = {"__main__.py": MAIN, "slimalign/__init__.py": "", "slimalign/runtimes/__init__.py": ""}
    for name in MODULES:
        source = folder / f"{name}.py"
        texts[f"slimalign/runtimes/{name}.py"] = source.read_text(encoding="utf-8")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def key_of(data: bytes) -> str:
    """By which a file is known on a device: the start of its sha256."""
    return hashlib.sha256(data).hexdigest()[:16]
