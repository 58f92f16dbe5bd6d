"""What the operators of a model file cost, and how long a runtime takes for each: the record of a ``profile``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from slimalign.runtimes.counts import Count, OneOrMore
from slimalign.runtimes.errors import UserError
from slimalign.targets.address import LOCAL


@dataclass(frozen=True)
class Layer:
    """One operator, with its cost for one face; None stands for what is not known.

    ``kind`` is the file's name for what it does. ``params`` and ``macs`` (multiply-adds) are numbers, ``bytes_moved``
    those that it reads and writes. ``ms`` is the median of its time in the runtime: None where it was not timed, or was
    fused into another. What the runtime itself has put in, or what it has made of several operators, has the runtime's
    name, its ``ms`` and nothing else.
    """

    name: str
    kind: str
    params: Count | None
    macs: Count | None
    bytes_moved: Count | None
    ms: float | None = None


@dataclass(frozen=True)
class LayersRecord:
    """The layers of one bundle, for the results file; ``layers`` are in the file's order, what the runtime put in last.

    Where they were timed, ``runtime`` and ``version`` name the library, ``threads`` how many it computed with, and
    ``p50_ms`` is the median of a whole call with the profiler off; else they are None. One face goes in at a time, or
    as many as a file with a fixed ``batch`` takes.
    """

    bundle: str
    sha256: str
    precision: str
    layers: tuple[Layer, ...]
    batch: OneOrMore = 1
    target: str = LOCAL
    runtime: str | None = None
    version: str | None = None
    threads: Count | None = None
    runs: Count | None = None
    p50_ms: float | None = None

    def __post_init__(self) -> None:
        times = [layer.ms for layer in self.layers if layer.ms is not None]
        if not all(math.isfinite(ms) and ms >= 0 for ms in (*times, self.p50_ms or 0.0)):
            raise UserError(
                f"bundle '{self.bundle}': times of layers are NaN, infinite or negative; measure again"
            )

    @property
    def setting(self) -> tuple[str | int | None, ...]:
        """What was profiled and how: of several records with one setting the latest counts."""
        return (self.sha256, self.runtime, self.threads, self.target)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
