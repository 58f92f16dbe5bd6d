"""Latency that another program has measured and tells without its single samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slimalign.runtimes.counts import Count, OneOrMore
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class ToldLatency:
    """What a program such as LiteRT's benchmark_model tells of a bundle; times are those of a call on a whole batch.

    What it does not tell is None: it is not made up from what it does. ``count`` is how many calls it measured,
    ``protocol`` names the program; the other entries are those of slimalign.runtimes.timing.Record.
    """

    bundle: str
    sha256: str
    runtime: str
    precision: str
    batch: OneOrMore
    threads: Count
    protocol: str
    target: str
    cpu: str
    started: str
    init_ms: float
    first_ms: float
    count: Count
    mean_ms: float
    min_ms: float
    max_ms: float
    std_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    version: str = UNKNOWN
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        figures = (self.init_ms, self.first_ms, self.mean_ms, self.min_ms, self.max_ms)
        told = [*figures, *(value for value in (self.std_ms, self.p50_ms, self.p95_ms) if value is not None)]
        if not all(math.isfinite(value) and value >= 0 for value in told):
            raise UserError(
                f"bundle '{self.bundle}': latencies that are NaN, infinite or negative; measure again"
            )

    @property
    def setting(self) -> tuple[str | int, ...]:
        """What was measured and how, as a Record's."""
        return (self.sha256, self.runtime, self.batch, self.threads, self.target, self.protocol)

    @property
    def p90_ms(self) -> None:
        """Not told."""
        return None

    def summary(self) -> dict[str, Any]:
        """The figures for ``--json``, under the names that a Record's have."""
        return {**asdict(self), "p90_ms": self.p90_ms, "samples": self.count}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the results file."""
        return asdict(self)
