"""The memory of a process that runs one bundle and nothing else. Python 3.6 syntax, see session.py.

A process that has run others before tells nothing: what it once took it keeps. So each is run in one of its own.
"""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Union

import numpy as np

from slimalign.runtimes.device_state import read_text
from slimalign.runtimes.session import Backend

if TYPE_CHECKING:
    from slimalign.runtimes.opening import SessionOpener

if sys.platform != "win32":
    import resource

CALLS = 3
SECONDS = 300.0
"""How long a process may take before it is ended."""
LIBRARIES = {
    "onnx": ("onnxruntime",),
    "litert": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"),
    "tensorrt": ("tensorrt", "tensorrt_rtx"),
    "torch": ("slimalign.compress.torch_session",),
}
"""What each format's session imports: the first that is there."""
STATUS = "/proc/self/status"
WITHOUT_PROC = "this system does not tell it"


class ProcessMemory(NamedTuple):
    """What a process had in the machine's memory at most, and before it opened the bundle, in 10^6 bytes."""

    peak_mb: float
    libraries_mb: float


def memory_told_by(command: List[str], asked: Dict[str, Any]) -> Union[ProcessMemory, str]:
    """What a process of ``command``, which does ``tell_memory`` with what it reads, tells; or why it tells nothing."""
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
        )
    except OSError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"its process took longer than {SECONDS:g} s"
    if done.returncode < 0:
        return f"its process was ended by signal {-done.returncode}, as it is for lack of memory"
    if done.returncode > 0:
        return (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason told"])[-1]
    told = json.loads(done.stdout.decode("utf-8", "replace").splitlines()[-1])
    return WITHOUT_PROC if told is None else ProcessMemory(**told)


def asked_of(
    folder: str, manifest: Dict[str, Any], threads: Optional[int], batch: int, backend: Backend
) -> Dict[str, Any]:
    """What ``tell_memory`` needs to know, ready for JSON: the bundle's folder and whole manifest, and how it is run."""
    return {
        "folder": folder,
        "manifest": manifest,
        "threads": threads,
        "batch": batch,
        "backend": backend._asdict(),
    }


def tell_memory(asked: Dict[str, Any], opener: "SessionOpener") -> None:
    """Run the bundle that ``asked`` names on black crops and print this process's memory as a line of JSON.

    Prints ``null`` where the system does not tell it. Raises UserError where the bundle cannot be run.
    """
    manifest = SimpleNamespace(**asked["manifest"])
    folder = Path(asked["folder"])
    bundle: "Any" = SimpleNamespace(folder=folder, manifest=manifest, model_path=folder / manifest.model)
    _import_libraries(manifest.format)
    peak_at_first, libraries_mb = peak_mb(), resident_mb()
    backend = Backend(**dict(asked["backend"], batches=tuple(asked["backend"]["batches"])))
    with opener(bundle, asked["threads"], backend) as session:
        inputs = np.zeros(_shape(manifest, asked["batch"]), dtype=np.float32)
        for _ in range(CALLS):
            session.run(inputs)
        peak = peak_mb()
    told = None
    # Of a process that was forked some systems tell its parent's peak until it has a larger one of its own.
    if peak is not None and libraries_mb is not None and (_tells_own_peak() or peak != peak_at_first):
        told = {"peak_mb": max(peak, libraries_mb), "libraries_mb": libraries_mb}
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def resident_mb(status: str = STATUS) -> Optional[float]:
    """What this process has in memory now, in 10^6 bytes; of a system without ``status`` what it had at most."""
    found = _told(status, "VmRSS")
    return _used_mb() if found is None else found


def peak_mb(status: str = STATUS) -> Optional[float]:
    """What this process had in memory at most, in 10^6 bytes."""
    found = _told(status, "VmHWM")
    return _used_mb() if found is None else found


def _tells_own_peak() -> bool:
    return _told(STATUS, "VmHWM") is not None


def _told(status: str, entry: str) -> Optional[float]:
    found = re.search(r"^%s:\s*(\d+) kB" % entry, read_text(status) or "", re.M)
    return None if found is None else int(found.group(1)) * 1024 / 1e6


def _used_mb() -> Optional[float]:
    if sys.platform == "win32":
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6  # macOS counts bytes, others KiB


def _import_libraries(kind: str) -> None:
    for name in LIBRARIES.get(kind, ()):
        if importlib.util.find_spec(name.split(".")[0]) is not None:
            importlib.import_module(name)
            return


def _shape(manifest: Any, batch: int) -> "tuple[int, ...]":
    size = manifest.input_size
    return (batch, size, size, 3) if manifest.layout == "NHWC" else (batch, 3, size, size)
