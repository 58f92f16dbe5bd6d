"""What bench tells of its records: lines for people, documents for scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from slimalign.benchmarks.sustained import Sustained, sustained_of
from slimalign.benchmarks.throughput import by_batch, throughput_knee
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.timing import Record


def documents(records: Sequence[Record | ToldLatency]) -> list[dict[str, Any]]:
    """Each record's summary; ``sustained`` says what minutes of calls did, in records of such."""
    found = []
    for record in records:
        kept = sustained_of(record) if isinstance(record, Record) else None
        found.append({**record.summary(), **({} if kept is None else {"sustained": asdict(kept)})})
    return found


def bench_lines(records: Sequence[Record | ToldLatency], bundles: Sequence[Bundle]) -> Iterator[str]:
    """A line a setting; after them one for each whose batch sizes or minutes say more."""
    names = _names(bundles)
    width = max((len(name) for name in names.values()), default=0)
    several = len({record.target for record in records}) > 1
    for record in records:
        yield _latency_line(record, names[record.sha256], width, several)
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
    named: dict[str, set[str]] = defaultdict(set)
    for bundle in bundles:
        named[bundle.manifest.name].add(bundle.sha256)
    return {
        bundle.sha256: bundle.manifest.name if len(named[bundle.manifest.name]) == 1 else str(bundle.folder)
        for bundle in bundles
    }


def _latency_line(record: Record | ToldLatency, name: str, width: int, with_target: bool) -> str:
    """One setting's figures; of what a phone's program does not tell there is none."""
    figures = record.summary()
    where = f"{record.target}  " if with_target else ""
    what = (
        f"{where}{name:{max(width, 20)}} {record.runtime:12} {record.precision:13} batch {record.batch:2}  "
        f"threads {record.threads}"
    )
    told = "  ".join(
        f"{entry} {figures[f'{entry}_ms']:8.2f} ms"
        for entry in ("p50", "p90", "mean")
        if figures.get(f"{entry}_ms") is not None
    )
    typical = figures.get("p50_ms") or figures["mean_ms"]
    each = f"{typical / record.batch:8.2f} ms an image  {1000 * record.batch / typical:7.1f} images/s"
    memory = figures.get("memory")
    held = "" if memory is None else f"  {memory['peak_mb']:6.1f} MB"
    return f"{what}  {told}  {each}{held}  ({record.protocol})"


def _told(kept: Sustained) -> str:
    low, high = kept.slope_interval
    least, most = kept.last_to_first_interval
    return (
        f"{kept.slope_percent_a_minute:+.2f} % a minute ({low:+.2f} to {high:+.2f}); at the end"
        f" {kept.last_to_first:.3f} of the time at the beginning ({least:.3f} to {most:.3f})"
        f"{'; THROTTLED' if kept.throttled else ''}"
    )
