"""Tables of the machines: their state before and after, and what minutes of calls did to their speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimalign.benchmarks.report_page.settings import by_machine
from slimalign.benchmarks.report_page.summary import Table
from slimalign.benchmarks.results import AnyLatency
from slimalign.benchmarks.sustained import sustained_of
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.intervals import Interval
from slimalign.runtimes.timing import Record

ENTRIES = {
    "time": "time",
    "power_mode": "power mode",
    "jetson_clocks": "jetson_clocks",
    "cpu_governors": "governors",
    "cpu_mhz": "clocks (MHz)",
    "temperatures_c": "temperatures (°C)",
    "load_average": "load of 1, 5, 15 minutes",
    "memory_mb": "memory (MB)",
}


def state_tables(latencies: Sequence[AnyLatency]) -> list[Table]:
    """One table for each machine and protocol whose records hold states."""
    made = []
    for (target, cpu, protocol), records in by_machine(latencies).items():
        known = sorted((r for r in records if r.before or r.after), key=lambda record: record.started)
        if not known:
            continue
        before, after = known[0].before, known[-1].after
        rows = tuple(
            (label, state_text(before.get(name)), state_text(after.get(name)))
            for name, label in ENTRIES.items()
        )
        head = ("", "before the first call", "after the last call")
        made.append(Table(f"{target} · {cpu} · {protocol}", head, rows))
    return made


def state_text(value: Any) -> str:
    """A value of a state as people read it; what the machine does not tell is ``unknown``."""
    if value is None or value == UNKNOWN:
        return UNKNOWN
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {state_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(state_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def sustained_table(records: Sequence[Record]) -> Table | None:
    """What minutes of calls did to the speed of each record that was measured so; None where none was."""
    rows = [(record, found) for record in records if (found := sustained_of(record)) is not None]
    if not rows:
        return None
    head = (
        "bundle",
        "runtime",
        "batch",
        "threads",
        "target",
        "slope (% a minute)",
        "last to first fifth",
        "throttled",
    )
    return Table(
        "Minutes of calls without a pause: is the device slower at their end?",
        head,
        tuple(
            (
                record.bundle,
                record.runtime,
                str(record.batch),
                str(record.threads),
                record.target,
                _with_interval(found.slope_percent_a_minute, found.slope_interval),
                _with_interval(found.last_to_first, found.last_to_first_interval),
                "no"
                if found.slower_from_minute is None
                else f"from minute {found.slower_from_minute:.1f} on",
            )
            for record, found in rows
        ),
    )


def _with_interval(value: float, interval: Interval) -> str:
    return f"{value:.4g} ({interval[0]:.4g} to {interval[1]:.4g})"
