"""What runs on a device: measures or aligns by a job that was put there, and tells each result as it is made.

Packed with the modules it imports into one file (slimalign.targets.agent_file), which needs the device's own Python
from 3.6, NumPy and one inference library:

    python3 agent.pyz JOB

``JOB`` is a folder with a job.json. Every result is a line of JSON that is first kept in JOB/results.jsonl, then
printed; so a line to the device that drops loses nothing. The agent goes on without it, and the same command follows
the agent that is still at work, or goes on after the last result. A line ``stop`` on standard input ends it.
"""

import json
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from slimalign.runtimes.answers import points_and_scores
from slimalign.runtimes.device_state import device_state
from slimalign.runtimes.engine_builder import file_sha256
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.opening import open_session
from slimalign.runtimes.session import Backend, Session
from slimalign.runtimes.sweep import Opened, Plan, Setting, Subjects, sweep
from slimalign.runtimes.timing_loop import Span

if sys.platform != "win32":
    import fcntl

RESULTS = "results.jsonl"
FACES = 8
"""Faces that are aligned between two lines of results."""
LOOK_AGAIN_S = 0.2

Entry = Dict[str, Any]


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


class Journal:
    """The results of a job: kept on disk first, then told to whoever listens."""

    def __init__(self, folder: str):
        # Held open: who follows an agent reads on when another has fetched the results and cleared them away.
        self._file = open(os.path.join(folder, RESULTS), "a+b")  # noqa: SIM115
        self._listener: "Optional[IO[str]]" = _own_output()
        self._told = 0

    def follow(self) -> List[Entry]:
        """Tell what has been kept since, by this agent or by one before it; the answer is all that is kept."""
        lines = self._lines()
        for line in lines[self._told :]:
            self.tell(line)
        self._told = len(lines)
        return [json.loads(line) for line in lines]

    def keep(self, entry: Entry) -> None:
        """Keep one result, and tell it."""
        line = json.dumps(entry)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._told += 1
        self.tell(line)

    def tell(self, line: str) -> None:
        """Print a line; when nobody listens any more the work goes on without."""
        if self._listener is None:
            return
        try:
            self._listener.write(line + "\n")
            self._listener.flush()
        except OSError:
            self._listener = None

    def mend(self) -> None:
        """Cut off what a loss of power has left of a last line."""
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def _lines(self) -> List[str]:
        self._file.seek(0)
        return [line[:-1].decode() for line in self._file if line.endswith(b"\n")]


def _own_output() -> "IO[str]":
    """Standard output for results alone: what libraries print there goes to standard error."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


class Stop:
    """Whether the user has asked the agent to stop."""

    def __init__(self) -> None:
        self.asked = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # The end of standard input is a line that dropped, no wish to stop.
        for line in sys.stdin:
            if line.strip() == "stop":
                self.asked = True
                return


def results_of(job: Entry, kept: List[Entry]) -> Iterator[Entry]:
    """The results of ``job`` that are not yet ``kept``."""
    bundles = [read_device_bundle(folder) for folder in job["bundles"]]
    crops = [np.load(path, mmap_mode="r") for path in job["crops"]]
    backend = Backend(**dict(job["backend"], batches=tuple(job["backend"]["batches"])))
    if job["kind"] == "bench":
        return _measured(job, kept, bundles, crops, backend)
    return _aligned(job, kept, bundles[0], crops[0], backend)


def _measured(
    job: Entry, kept: List[Entry], bundles: List[DeviceBundle], crops: List[Any], backend: Backend
) -> Iterator[Entry]:
    def opened(setting: Setting) -> Any:
        batches = (setting.batch,) * 3
        bundle: "Any" = bundles[setting.bundle]
        return open_session(bundle, setting.threads, backend._replace(batches=batches))

    subjects = Subjects(
        [Setting(*values) for values in job["settings"]], opened, lambda one: crops[one.bundle]
    )
    plan = job["plan"]
    warm_up, settle, length = (Span(*plan[name]) for name in ("warm_up", "settle", "length"))
    done = {(entry["place"], entry["turn"]) for entry in kept if entry["kind"] == "visit"}
    if not any(entry["kind"] == "before" for entry in kept):
        yield {"kind": "before", "state": device_state()}
    for event in sweep(subjects, Plan(warm_up, settle, length, plan["rounds"]), done):
        yield dict(event._asdict(), kind="opened" if isinstance(event, Opened) else "visit")
    yield {"kind": "after", "state": device_state()}


def _aligned(job: Entry, kept: List[Entry], bundle: Any, crops: Any, backend: Backend) -> Iterator[Entry]:
    done = sum(len(entry["points"]) for entry in kept if entry["kind"] == "points")
    with open_session(bundle, job["threads"], backend) as session:
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


def work(folder: str, journal: Journal, stop: Stop) -> None:
    """Do what is left of the job in ``folder``, or follow the agent that is at it."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    with open(os.path.join(folder, "lock"), "w") as lock:
        while not _locked(lock):
            journal.follow()
            if stop.asked:
                return
            time.sleep(LOOK_AGAIN_S)
        journal.mend()
        kept = journal.follow()
        if any(entry["kind"] == "end" for entry in kept):
            return
        for entry in results_of(job, kept):
            journal.keep(entry)
            if stop.asked:
                return
        journal.keep({"kind": "end"})


def _locked(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """Work on the job that the command line names; what a user can mend is told as a line of JSON too."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    folder = sys.argv[1]
    journal = Journal(folder)
    try:
        work(folder, journal, Stop())
    except UserError as error:
        journal.tell(json.dumps({"kind": "error", "message": str(error)}))
        return 2
    return 0
