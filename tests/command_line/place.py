"""A place to run the command line in, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimalign.compress.data.drawn import drawn_samples
from slimalign.runtimes.schemes import AFLW

ROOT = Path(__file__).parent.parent.parent
COMMANDS = (
    *("demo", "run", "slim", "export", "eval", "bench", "pick", "report", "predict", "profile"),
    *("lint", "targets", "doctor", "parity", "compare"),
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Command = Callable[..., Done]


@dataclass(frozen=True)
class Place:
    """A folder data set of drawn faces, bundles of one network, and what ``export`` takes for a run of it."""

    data: Path
    onnx: Path
    torch: Path
    run: Path


FACES = drawn_samples(5, AFLW, seed=3, size=96)


def boxed(number: int) -> str:
    return ",".join(str(value) for value in FACES[number].box)
