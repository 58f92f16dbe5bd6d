"""Where the time of one answer goes: seconds by stage, such as detect, crop, network and decode.

Python 3.6 syntax, see session.py.
"""

from contextlib import contextmanager
from time import perf_counter
from typing import Dict, Iterator


class StageClock:
    """Seconds spent in named stages, summed up; ``seconds`` holds them in the order they were first entered."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the body's time to the stage ``name``, whether it fails or not."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start
