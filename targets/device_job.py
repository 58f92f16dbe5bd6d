"""A job for the agent on a device: put there with all that it needs, followed, and gone on with after a break."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.golden import GOLDEN_FILES
from slimalign.targets.agent_file import agent_file, key_of
from slimalign.targets.shell import Lines, Shell
from slimalign.targets.target import PYTHON

Image = NDArray[np.uint8]

FOUND = "slimalign-found"
HOME = ".slimalign"
"""What slimalign keeps on a device, in the user's home; files are known by what is in them and sent only once."""


@dataclass(frozen=True)
class Device:
    """A machine, the way to it, and its Python: one that has NumPy and an inference library."""

    shell: Shell
    python: str = PYTHON
    note: Callable[[str], None] = lambda text: None
    """Told what the user had better know, a line each."""

    @property
    def address(self) -> str:
        """How it is reached, by which its records are known."""
        return self.shell.address


@dataclass(frozen=True)
class Subject:
    """A bundle and the crops (N, S, S, 3) uint8 RGB that it is run on.

    ``faces`` are those that it is timed on end to end, see slimalign.runtimes.end_to_end; all subjects of a job have
    some, or none has.
    """

    bundle: Bundle
    crops: Image
    faces: bytes = b""


@dataclass(frozen=True)
class Job:
    """What the agent does with ``subjects``: entries of job.json beside them, of kind ``bench`` or ``points``."""

    kind: str
    subjects: Sequence[Subject]
    entries: Mapping[str, Any]


@dataclass(frozen=True)
class _Packed:
    """A job as it is put on a device: its folder there, and what has to be there, by path."""

    folder: str
    files: Mapping[str, bytes | Path]
    agent: str


def device_results(device: Device, job: Job) -> Generator[dict[str, Any], None, None]:
    """The results of ``job``, those that an earlier call left on the device first.

    Where the line drops, the device goes on by itself, and the next call picks up its results. What came to its end
    is there until ``clear``. Raises LineDroppedError and UserError.
    """
    shell, packed = device.shell, _packed(job, device.python)
    check_python(device)
    _push_missing(shell, packed.files)
    command = " ".join(shlex.quote(part) for part in (device.python, packed.agent, packed.folder))
    with shell.lines(command) as lines, _stopping(lines):
        for line in lines:
            if not line.startswith("{"):
                continue  # what a login there prints
            entry: dict[str, Any] = json.loads(line)
            if entry["kind"] == "error":
                raise UserError(f"{shell.address}: {entry['message']}")
            if entry["kind"] == "note":
                device.note(f"{shell.address}: {entry['text']}")
            else:
                yield entry


def clear(device: Device, job: Job) -> None:
    """Take ``job`` off the device, once its results are safe here."""
    device.shell.run(f"rm -rf {shlex.quote(_packed(job, device.python).folder)}")


def check_python(device: Device) -> None:
    """Raise UserError, or LineDroppedError, where ``device`` cannot be reached or its Python is not there."""
    there = device.shell.run(f"if command -v {shlex.quote(device.python)} >/dev/null; then echo {FOUND}; fi")
    if FOUND not in there:
        raise UserError(
            f"{device.address}: {device.python} is not there; name its Python by --python, or as python in a profile"
        )


@contextmanager
def _stopping(lines: Lines) -> Iterator[None]:
    """Tell the agent to stop, after the result that it is at, on Ctrl-C and when the caller wants no more results.

    By itself it would go on.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        lines.tell("stop")
        raise


def _packed(job: Job, python: str) -> _Packed:
    files: dict[str, bytes | Path] = {}
    agent = agent_file()
    agent_path = f"{HOME}/agents/{key_of(agent)}.pyz"
    files[agent_path] = agent
    bundles = [_add_bundle(files, subject.bundle) for subject in job.subjects]
    crops = [_saved(subject.crops) for subject in job.subjects]
    faces = [subject.faces for subject in job.subjects if subject.faces]
    keys = [key_of(data) for data in [*crops, *faces]]
    entries = {**job.entries, "kind": job.kind, "bundles": bundles, "python": python}
    folder = f"{HOME}/jobs/{key_of(json.dumps([agent_path, keys, entries], sort_keys=True).encode())}"
    places = [f"{folder}/{key}.npy" for key in keys[: len(crops)]]
    face_places = [f"{folder}/{key}.npz" for key in keys[len(crops) :]]
    files.update(zip([*places, *face_places], [*crops, *faces], strict=True))
    inputs = {"crops": places, "faces": face_places}
    files[f"{folder}/job.json"] = json.dumps({**entries, **inputs}, sort_keys=True).encode()
    return _Packed(folder, files, agent_path)


def _add_bundle(files: dict[str, bytes | Path], bundle: Bundle) -> str:
    """The bundle's folder on the device: the manifest, which knows its files by hash, decides it.

    It is written anew, with the entries that an older one leaves out, and without the golden face.
    """
    needed = {name: key for name, key in bundle.manifest.files.items() if name not in GOLDEN_FILES}
    manifest = replace(bundle.manifest, files=needed).to_json().encode()
    folder = f"{HOME}/bundles/{key_of(manifest)}"
    files.update({f"{folder}/{name}": bundle.folder / name for name in needed})
    files[f"{folder}/{MANIFEST_NAME}"] = manifest
    return folder


def _saved(crops: Image) -> bytes:
    packed = io.BytesIO()
    np.save(packed, crops)
    return packed.getvalue()


def _push_missing(shell: Shell, files: Mapping[str, bytes | Path]) -> None:
    quoted = " ".join(shlex.quote(path) for path in files)
    there = set(shell.run(f'for f in {quoted}; do if [ -e "$f" ]; then echo "$f"; fi; done').splitlines())
    missing = {path: source for path, source in files.items() if path not in there}
    if not missing:
        return
    with TemporaryDirectory() as folder:
        local = {}
        for place, (path, source) in enumerate(missing.items()):
            if isinstance(source, bytes):
                local[path] = Path(folder) / str(place)
                local[path].write_bytes(source)
            else:
                local[path] = source
        shell.push(local)
