"""What runs on a device: measures or aligns by a job that was put there, and tells each result as it is made.

Packed with the modules it imports into one file (slimalign.targets.agent_file), which needs the device's own Python
from 3.6, NumPy and one inference library:

    python3 agent.pyz JOB

``JOB`` is a folder with a job.json. Every result is a line of JSON that is first kept in JOB/results.jsonl, then
printed; so a line to the device that drops loses nothing. The agent goes on without it, and the same command follows
the agent that is still at work, or goes on after the last result. A line ``stop`` on standard input ends it.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from queue import Queue
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.energy import find_rail
from slimalign.runtimes.engine_builder import file_sha256
from slimalign.runtimes.errors import MissingLibraryError, UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.journal import END, KEPT, Entry, Journal, ended
from slimalign.runtimes.memory import ProcessMemory, asked_of, memory_told_by, tell_memory
from slimalign.runtimes.opening import open_session
from slimalign.runtimes.session import Backend, Session
from slimalign.runtimes.sweep import Plan, Setting, Subjects, kernel_alone
from slimalign.runtimes.sweep_entries import sweep_entries
from slimalign.runtimes.timing_loop import Span

if sys.platform != "win32":
    import fcntl

RESULTS = "results.jsonl"
FACES = 8
"""Faces that are aligned between two lines of results."""
LOOK_AGAIN_S = 0.2
LINE_DEAD_S = 5.0
"""How long the agent waits at its end for somebody to listen."""
TELL_MEMORY = "--memory"
"""In place of JOB: run one bundle alone and tell its memory, see slimalign.runtimes.memory."""


class DeviceBundle(NamedTuple):
    """A bundle as sessions need it; that its manifest makes sense was seen to before it was put here."""

    folder: str
    manifest: Any

    @property
    def model_path(self) -> str:
        """The model file."""
        return os.path.join(self.folder, self.manifest.model)


def read_device_bundle(folder: str) -> DeviceBundle:
    """The bundle in ``folder``; raises UserError where a file is not what was exported."""
    with open(os.path.join(folder, "bundle.json"), encoding="utf-8") as file:
        manifest = SimpleNamespace(**json.load(file))
    for name, expected in manifest.files.items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or file_sha256(path) != expected:
            raise UserError(f"{path}: not what was exported; delete {folder} on the device and run again")
    return DeviceBundle(folder, manifest)


class Listener:
    """Whoever reads standard output, told without being waited for: a line may die without a word."""

    def __init__(self) -> None:
        # For results alone: what libraries print there goes to standard error.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lines: "Queue[Optional[str]]" = Queue()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def tell(self, line: str) -> None:
        """Print a line when it can be."""
        self._lines.put(line)

    def close(self) -> None:
        """Wait for the lines to be printed, but not for ever."""
        self._lines.put(None)
        self._thread.join(LINE_DEAD_S)

    def _tell(self) -> None:
        with suppress(OSError):
            for line in iter(self._lines.get, None):
                self._out.write(line + "\n")
                self._out.flush()


class Stop:
    """Whether the user has asked the agent to stop."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # The end of standard input is a line that dropped, no wish to stop.
        for line in sys.stdin:
            if line.strip() == "stop":
                self._asked.set()
                return

    def is_asked(self) -> bool:
        """Whether it is so by now."""
        return self._asked.is_set()


def results_of(job: Entry, kept: List[Entry], alone: Callable[[], None]) -> Iterator[Entry]:
    """The results of ``job`` that are not yet ``kept``; ``alone`` waits until nobody else measures here."""
    bundles = [read_device_bundle(folder) for folder in job["bundles"]]
    crops = [np.load(path, mmap_mode="r") for path in job["crops"]]
    if job["kind"] == "bench":
        alone()
        return _measured(job, kept, bundles, crops)
    return _aligned(job, kept, bundles[0], crops[0])


def _measured(
    job: Entry, kept: List[Entry], bundles: List[DeviceBundle], crops: List[Any]
) -> Iterator[Entry]:
    backends = [_backend(values) for values in job["backends"]]

    def tuned(setting: Setting) -> Backend:
        return backends[setting.backend]._replace(batches=(setting.batch,) * 3)

    def opened(setting: Setting) -> Any:
        bundle: "Any" = bundles[setting.bundle]
        return open_session(bundle, setting.threads, tuned(setting))

    def memory_there(setting: Setting) -> "Union[ProcessMemory, str]":
        folder, manifest = bundles[setting.bundle]
        asked = asked_of(folder, vars(manifest), setting.threads, setting.batch, tuned(setting))
        return memory_told_by([sys.executable, sys.argv[0], TELL_MEMORY], asked)

    settings = [Setting(*values) for values in job["settings"]]
    subjects = Subjects(
        settings,
        opened,
        lambda one: crops[one.bundle],
        _end_to_end(job),
        memory_there if job["memory"] else None,
        find_rail(),
    )
    plan = dict(job["plan"])
    plan.update({name: Span(*plan[name]) for name in ("warm_up", "settle", "length")})
    return sweep_entries(subjects, Plan(**plan), kept)


def _end_to_end(job: Entry) -> "Callable[[Session, Setting], Sequence[Callable[[], Any]]]":
    """The calls end to end; only where the job asks for some is OpenCV needed."""
    if not job["faces"]:
        return kernel_alone
    if importlib.util.find_spec("cv2") is None:
        raise UserError(
            f"OpenCV is not installed there; run {sys.executable} -m pip install opencv-python-headless, or measure"
            " --timed kernel"
        )
    from slimalign.runtimes.end_to_end import end_to_end_calls, read_faces

    faces = {path: read_faces(path) for path in set(job["faces"])}

    def calls(session: Session, setting: Setting) -> "List[Callable[[], Any]]":
        path, landmarks = job["faces"][setting.bundle], job["landmarks"][setting.bundle]
        return end_to_end_calls(session, faces[path], setting.batch, landmarks)

    return calls


def _backend(values: Entry) -> Backend:
    return Backend(**dict(values, batches=tuple(values["batches"])))


def _aligned(job: Entry, kept: List[Entry], bundle: Any, crops: Any) -> Iterator[Entry]:
    done = sum(len(entry["points"]) for entry in kept if entry["kind"] == "points")
    with open_session(bundle, job["threads"], _backend(job["backend"])) as session:
        for start in range(done, len(crops), FACES):
            points, scores = _found(session, np.array(crops[start : start + FACES]), job["landmarks"])
            yield {
                "kind": "points",
                "points": np.round(points, 4).tolist(),
                "scores": np.round(scores, 6).tolist(),
                "runtime": session.runtime,
            }


def _found(session: Session, crops: Any, landmarks: int) -> Tuple[Any, Any]:
    """Points and scores of some crops; a fixed batch that is not full is filled up with black ones."""
    size = session.manifest.batch or len(crops)
    parts = [crops[start : start + size] for start in range(0, len(crops), size)]
    raw = []
    for part in parts:
        filled = np.zeros((size,) + crops.shape[1:], dtype=np.uint8)
        filled[: len(part)] = part
        raw.append(session.run(network_inputs(filled, session.manifest))[: len(part)])
    return points_and_scores(np.concatenate(raw), session.manifest, landmarks)


def work(folder: str, listener: Listener, stop: Stop) -> None:
    """Do what is left of the job in ``folder``, or follow the agent that is at it."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    journal = Journal(os.path.join(folder, RESULTS), listener.tell)
    with ExitStack() as locks:
        locks.enter_context(_waited_for(os.path.join(folder, "lock"), stop, journal.follow))
        if stop.is_asked():  # then the lock may be another's, and so the journal
            return
        kept, told = journal.take_up()
        if told is not None:
            listener.tell(note(told))
        listener.tell(json.dumps({"kind": KEPT, "number": len(kept)}))
        journal.follow()
        if ended(kept):
            return
        busy = os.path.join(folder, os.pardir, os.pardir, "busy")
        waiting = _once(listener, note("another measurement is at work there: waiting for it"))
        results = results_of(job, kept, lambda: locks.enter_context(_waited_for(busy, stop, waiting)))
        if stop.is_asked():
            return
        for entry in results:
            journal.keep(entry)
            if stop.is_asked():
                return
        journal.keep(END)


def note(text: str) -> str:
    """A line for the user, which is no result."""
    return json.dumps({"kind": "note", "text": text})


def _once(listener: Listener, line: str) -> Callable[[], None]:
    """Tells ``line`` the first time that it is called."""
    lines = [line]
    return lambda: listener.tell(lines.pop()) if lines else None


@contextmanager
def _waited_for(path: str, stop: Stop, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Hold the lock ``path``; ``meanwhile`` is done again and again while another does, until a stop is asked for."""
    with open(path, "w") as lock:
        while not stop.is_asked():
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            meanwhile()
            time.sleep(LOOK_AGAIN_S)
        yield


def main() -> int:
    """Work on the job that the command line names; what a user can mend is told as a line of JSON too."""
    if sys.argv[1] == TELL_MEMORY:
        tell_memory(json.load(sys.stdin), open_session)
        return 0
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = Listener()
    try:
        work(sys.argv[1], listener, Stop())
    except UserError as error:
        listener.tell(json.dumps({"kind": "error", "message": told_there(error)}))
        return 2
    finally:
        listener.close()
    return 0


def told_there(error: UserError) -> str:
    """What the error says on a device, where slimalign itself is not installed."""
    if isinstance(error, MissingLibraryError):
        return f"{error.title} is not installed there; run {sys.executable} -m pip install {error.package}"
    return str(error)
