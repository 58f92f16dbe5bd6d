"""Letting a device cool down before its speed in minutes is measured. Python 3.6 syntax, see session.py."""

import time
from typing import Callable, Optional

from slimalign.runtimes.device_state import brief_state

LONGEST_S = 300.0
UNKNOWN_SHARE = 0.2
"""The part of the longest rest that is taken where nobody tells whether it does any good."""
STEP_S = 1.0
NEAR_C = 2.0
"""By how much the device may be warmer than it was for having rested."""


def hottest_c() -> Optional[float]:
    """The temperature of the hottest zone in degrees Celsius, None where it is not told."""
    found = brief_state()["hottest_c"]
    return None if found is None else float(found)


def rest(
    start_c: Optional[float],
    busy_s: float,
    hottest: Callable[[], Optional[float]] = hottest_c,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the device is no more than NEAR_C above ``start_c``, for ``busy_s`` and LONGEST_S at most.

    ``busy_s`` is how long it is measured afterwards. Where a temperature is not known it rests for UNKNOWN_SHARE of
    that.
    """
    left_s = min(busy_s, LONGEST_S)
    while left_s > 0:
        now_c = hottest()
        if start_c is None or now_c is None:
            sleep(UNKNOWN_SHARE * left_s)
            return
        if now_c <= start_c + NEAR_C:
            return
        sleep(min(STEP_S, left_s))
        left_s -= STEP_S
