"""What bench tells of its records: a table and lines for people, documents for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from slimalign.benchmarks.report import narrow_table
from slimalign.benchmarks.sustained import Sustained, sustained_of
from slimalign.benchmarks.throughput import by_batch, throughput_knee
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.timing import Record

SETTINGS: Mapping[str, Callable[[Record | ToldLatency], str]] = MappingProxyType(
    {
        "runtime": lambda record: record.runtime,
        "precision": lambda record: record.precision,
        "batch": lambda record: str(record.batch),
        "threads": lambda record: str(record.threads),
        "target": lambda record: record.target,
        "protocol": lambda record: record.protocol,
    }
)
UNTOLD = "-"


def documents(records: Sequence[Record | ToldLatency]) -> list[dict[str, Any]]:
    """Each record's summary; ``sustained`` says what minutes of calls did, in records of such."""
    found = []
    for record in records:
        kept = sustained_of(record) if isinstance(record, Record) else None
        found.append({**record.summary(), **({} if kept is None else {"sustained": asdict(kept)})})
    return found


def bench_lines(
    records: Sequence[Record | ToldLatency], bundles: Sequence[Bundle]
) -> Iterator[RenderableType]:
    """A table with a row a setting; after it a line for each whose batch sizes or minutes say more."""
    names = _names(bundles)
    shared = [name for name, text in SETTINGS.items() if len({text(record) for record in records}) == 1]
    if shared:
        yield ", ".join(_setting_text(name, SETTINGS[name](records[0])) for name in shared)
    yield _table(records, names, [name for name in SETTINGS if name not in shared])
    measured = [record for record in records if isinstance(record, Record)]
    for (sha256, runtime, threads, target, _), found in by_batch(measured).items():
        what = f"{names[sha256]} in {runtime}, threads {threads}, {target}"
        knee = throughput_knee(found)
        if knee is not None:
            largest = max(record.batch for record in found)
            beyond = ", the largest that was measured" if knee == largest else ""
            yield f"{what}: throughput grows up to batch {knee}{beyond}"
        for record in found:
            kept = sustained_of(record)
            if kept is not None:
                yield f"{what}, batch {record.batch}: {_told(kept)}"


def _names(bundles: Sequence[Bundle]) -> dict[str, str]:
    """What each bundle is called, by its sha256: its name, or its folder where another has that name too."""
    each = {bundle.sha256: bundle for bundle in bundles}
    named = Counter(bundle.manifest.name for bundle in each.values())
    folders = Counter(bundle.folder.name for bundle in each.values())

    def called(bundle: Bundle) -> str:
        name, folder = bundle.manifest.name, bundle.folder
        if named[name] == 1:
            return name
        return folder.name if folders[folder.name] == 1 and folder.name not in named else str(folder)

    return {sha256: called(bundle) for sha256, bundle in each.items()}


def _setting_text(name: str, value: str) -> str:
    return f"{name} {value}" if name in ("batch", "threads") else value


def _table(
    records: Sequence[Record | ToldLatency], names: Mapping[str, str], settings: Sequence[str]
) -> Table:
    """Of ``settings`` and of all figures that some record has."""
    told = [_figures(record) for record in records]
    shown = [name for name in told[0] if any(row[name] for row in told)]
    is_text = {"bundle": True, **{name: name not in ("batch", "threads") for name in settings}}
    made = narrow_table(None, {**is_text, **dict.fromkeys(shown, False)})
    for record, row in zip(records, told, strict=True):
        made.add_row(
            names[record.sha256],
            *(SETTINGS[name](record) for name in settings),
            *(row[name] or UNTOLD for name in shown),
        )
    return made


def _figures(record: Record | ToldLatency) -> dict[str, str]:
    """What is told of one setting, empty where it is not known; its median with the 95 % interval."""
    mean_ms = record.mean_ms if isinstance(record, ToldLatency) else None
    typical = mean_ms if record.p50_ms is None else record.p50_ms
    memory = record.memory if isinstance(record, Record) else None
    interval = record.intervals.get("p50_ms") if isinstance(record, Record) else None
    around = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
    return {
        "p50 ms": "" if record.p50_ms is None else f"{record.p50_ms:.2f}{around}",
        "p90 ms": "" if record.p90_ms is None else f"{record.p90_ms:.2f}",
        "mean ms": "" if mean_ms is None else f"{mean_ms:.2f}",
        "images/s": f"{1000 * record.batch / typical:.1f}" if typical else "",
        "memory MB": "" if memory is None else f"{memory.peak_mb:.1f}",
        "init ms": f"{record.init_ms:.1f}",
        "first ms": f"{record.first_ms:.2f}",
    }


def _told(kept: Sustained) -> str:
    low, high = kept.slope_interval
    least, most = kept.last_to_first_interval
    return (
        f"{kept.slope_percent_a_minute:+.2f} % a minute ({low:+.2f} to {high:+.2f}); at the end"
        f" {kept.last_to_first:.3f} of the time at the beginning ({least:.3f} to {most:.3f})"
        f"{'; THROTTLED' if kept.throttled else ''}"
    )
