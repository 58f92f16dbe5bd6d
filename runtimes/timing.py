"""The protocol that a measurement of latency follows, and the Record of what it measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from slimalign.runtimes.counts import Count, OneOrMore
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.intervals import Interval, percentile_intervals
from slimalign.runtimes.timing_loop import Span

P99_NEEDS = 1000
"""Samples below which a 99th percentile means nothing and is not given."""


DRAFT_MODE, REFERENCE_MODE, SUSTAINED_MODE = MODES = ("draft", "reference", "sustained")


@dataclass(frozen=True)
class Protocol:
    """How a latency was measured; figures under different ``key``s are not ranked together.

    ``name`` says what is timed (``kernel``: the inference call alone; ``end-to-end``: from images in memory to
    landmarks) and ``version`` changes with how.
    A measurement is spread over ``rounds`` visits: the first begins with ``warm_up``, each later one with
    ``settle``, and each measures its share of ``length``. Mode ``reference`` demands a warm-up of 50 calls
    and 2 s, and a length of 1024 calls and 60 s; ``draft`` is for a quick look; ``sustained`` measures a setting
    in one go, after a rest, to see what heat does to it: the device has cooled down by then to what it was before, or
    has rested for as long as slimalign.runtimes.resting says.
    """

    name: str
    version: int
    mode: str
    warm_up: Span
    settle: Span
    length: Span
    rounds: int

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"mode '{self.mode}' is unknown; choose one of {', '.join(MODES)}")
        if self.rounds < 1 or self.length.calls < 1:
            raise UserError(f"protocol {self.key}: at least one round and one call are needed")
        if self.mode == REFERENCE_MODE and not (
            _covers(self.warm_up, REFERENCE_WARM_UP) and _covers(self.length, REFERENCE_LENGTH)
        ):
            raise UserError(
                f"protocol {self.key}: a reference needs a warm-up of {_words(REFERENCE_WARM_UP)}"
                f" and a length of {_words(REFERENCE_LENGTH)}; call a shorter one draft"
            )

    @property
    def key(self) -> str:
        """What a record carries of its protocol, such as ``kernel-1-draft``."""
        return f"{self.name}-{self.version}-{self.mode}"


def _covers(span: Span, least: Span) -> bool:
    return span.calls >= least.calls and span.seconds >= least.seconds


def _words(span: Span) -> str:
    return f"{span.calls} calls and {span.seconds:g} s"


REFERENCE_WARM_UP = Span(calls=50, seconds=2.0)
REFERENCE_LENGTH = Span(calls=1024, seconds=60.0)

SETTLE = Span(calls=3, seconds=0.02)
REFERENCE = Protocol("kernel", 1, REFERENCE_MODE, REFERENCE_WARM_UP, SETTLE, REFERENCE_LENGTH, rounds=12)
DRAFT = Protocol("kernel", 1, DRAFT_MODE, Span(5, 0.1), SETTLE, Span(30, 0.6), rounds=10)
"""Few visits tell little of how times differ, so there are many short ones. Older drafts had 3 that made up the same
length: what they time, and after what settling, is the same, so that they compare and have the same key. A record keeps
its visits, and with them how sure it is.
"""

WINDOW_S = 5.0
LEAST_WINDOWS = 20
"""A sustained measurement is told in windows of so many seconds, or shorter ones where there would be too few."""


def sustained(minutes: float) -> Protocol:
    """Calls that follow one another for ``minutes``, each window a visit; raises UserError where that is no time."""
    if not (math.isfinite(minutes) and minutes > 0):
        raise UserError(f"--sustained {minutes:g}: give minutes above 0")
    windows = max(LEAST_WINDOWS, math.ceil(60 * minutes / WINDOW_S))
    at_once = Span(0, 0.0)
    return Protocol(
        "kernel", 1, SUSTAINED_MODE, at_once, at_once, Span(windows, 60 * minutes), rounds=windows
    )


@dataclass(frozen=True)
class Timing:
    """Raw durations of single calls in milliseconds, in the order they were made; none is left out."""

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise UserError("a timing without samples; measure at least one call")
        # A sum is finite only where each of its parts is; of NaN alone min may not tell.
        if min(self.samples_ms) < 0 or not math.isfinite(sum(self.samples_ms)):
            raise UserError("a timing holds samples that are NaN, infinite or negative; measure it again")

    def percentile_ms(self, percent: float) -> float:
        """The duration that ``percent`` of the samples do not exceed, linear between neighbours."""
        rank = percent / 100 * (len(self._ordered) - 1)
        below = int(rank)
        above = min(below + 1, len(self._ordered) - 1)
        return self._ordered[below] + (rank - below) * (self._ordered[above] - self._ordered[below])

    @cached_property
    def _ordered(self) -> list[float]:
        return sorted(self.samples_ms)


@dataclass(frozen=True)
class Memory:
    """Memory of a process that runs one bundle and nothing else, in 10^6 bytes.

    ``peak_mb`` is the most that it had in memory at once, ``libraries_mb`` what it had before the bundle was opened.
    """

    peak_mb: float
    libraries_mb: float

    def __post_init__(self) -> None:
        _check_finite("memory", self.peak_mb, self.libraries_mb)


@dataclass(frozen=True)
class Energy:
    """What the device's rail named ``rail`` gives: watts at rest and in all while calls follow one another, and
    millijoules in all for a call on a whole batch.
    """

    rail: str
    idle_w: float
    total_w: float
    call_mj: float

    def __post_init__(self) -> None:
        _check_finite("energy", self.idle_w, self.total_w, self.call_mj)


def _check_finite(what: str, *values: float) -> None:
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"figures of {what} that are NaN, infinite or negative; measure again")


PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True)
class Record:
    """The measured latency of one bundle in one runtime, with everything that makes it comparable.

    A sample is one call on a whole batch. ``init_ms`` is the opening of the session, ``first_ms`` the first
    inference after it, ``version`` the library that ran it. ``target`` is the address of the machine, ``cpu`` its
    processor or board, ``unknown`` where it does not tell; ``before`` and ``after`` are its states, see
    slimalign.runtimes.device_state. ``started`` is the time the measurement began, ISO 8601 in UTC.
    ``visits`` are how many of the samples each round gave, empty where that was not kept, and ``visit_states`` the
    device's at the beginning of each, see brief_state, where it was measured in one go. ``inputs`` says what faces
    were run. ``openings`` are the times at which its session was opened, several where it was gone on with after a
    break. ``transfers`` says of a GPU whether a call takes data there and back, ``graph`` whether its work was
    replayed as one. ``intervals`` are those of the percentiles by their names, as in ``p50_ms``. ``memory`` and
    ``energy`` are None where they were not measured, and memory is where images and crops would be part of it.
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
    samples_ms: tuple[float, ...]
    version: str = UNKNOWN
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    visits: tuple[Count, ...] = ()
    inputs: str = UNKNOWN
    transfers: bool = False
    graph: bool = False
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    memory: Memory | None = None
    energy: Energy | None = None
    visit_states: tuple[Mapping[str, Any], ...] = ()
    openings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Timing((self.init_ms, self.first_ms))
        # Made once: it is asked for each percentile, and files hold thousands of records.
        _ = self.timing
        if self.visits and (sum(self.visits) != len(self.samples_ms) or min(self.visits) < 1):
            raise UserError(
                f"visits of {sum(self.visits)} calls in all, but {len(self.samples_ms)} samples; measure again"
            )
        _check_finite("an interval", *(end for interval in self.intervals.values() for end in interval))

    @cached_property
    def timing(self) -> Timing:
        """The samples and their percentiles."""
        return Timing(self.samples_ms)

    def with_intervals(self) -> Record:
        """The same, with the intervals of its percentiles, which takes long for many samples."""
        found = percentile_intervals(
            np.array(self.samples_ms), self.visits or (len(self.samples_ms),), self.percents
        )
        names = (f"p{percent}_ms" for percent in self.percents)
        return replace(self, intervals=dict(zip(names, found, strict=True)))

    @property
    def percents(self) -> tuple[int, ...]:
        """The percentiles that it has samples enough for."""
        return PERCENTS if len(self.samples_ms) >= P99_NEEDS else PERCENTS[:-1]

    @property
    def p50_ms(self) -> float:
        """The median of a call."""
        return self.timing.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        """What nine in ten calls do not exceed."""
        return self.timing.percentile_ms(90)

    @property
    def setting(self) -> tuple[str | int, ...]:
        """What was measured and how: of several records with one setting the latest counts."""
        return (self.sha256, self.runtime, self.batch, self.threads, self.target, self.protocol)

    def summary(self) -> dict[str, Any]:
        """Figures without the raw samples, for ``--json``; ``p99_ms`` only from 1000 samples on."""
        plain = {
            name: value for name, value in asdict(self).items() if name not in ("samples_ms", "visit_states")
        }
        return {
            **plain,
            **{f"p{percent}_ms": self.timing.percentile_ms(percent) for percent in self.percents},
            "samples": len(self.samples_ms),
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary, the raw samples and the states, for the results file."""
        return {
            **self.summary(),
            "samples_ms": list(self.samples_ms),
            "visit_states": [dict(state) for state in self.visit_states],
        }
