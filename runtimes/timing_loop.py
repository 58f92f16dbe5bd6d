"""The loop that times single calls. Python 3.6 syntax, see session.py."""

import gc
import math
from contextlib import contextmanager
from time import perf_counter
from typing import Callable, Iterator, List, NamedTuple


class Span(NamedTuple):
    """At least ``calls`` calls, and at least ``seconds`` of them."""

    calls: int
    seconds: float

    def share(self, parts: int) -> "Span":
        """One of ``parts`` spans that make up this one."""
        return Span(math.ceil(self.calls / parts), self.seconds / parts)


def time_calls(call: Callable[[], object], warm_up: Span, length: Span) -> List[float]:
    """The durations of single calls over ``length`` in milliseconds, as they came, none left out.

    Uncounted calls over ``warm_up`` come first; garbage waits meanwhile.
    """
    with _garbage_waiting():
        _durations_ms(call, warm_up)
        return _durations_ms(call, length)


def time_once_ms(call: Callable[[], object]) -> float:
    """The duration of one call in milliseconds, as of a first inference."""
    with _garbage_waiting():
        return _durations_ms(call, Span(1, 0.0))[0]


def _durations_ms(call: Callable[[], object], span: Span) -> List[float]:
    durations: "List[float]" = []
    end = perf_counter() + span.seconds
    while len(durations) < span.calls or perf_counter() < end:
        start = perf_counter()
        call()
        durations.append(1e3 * (perf_counter() - start))
    return durations


@contextmanager
def _garbage_waiting() -> Iterator[None]:
    """Collect now and not again until the end: a collection would land in somebody's sample."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
