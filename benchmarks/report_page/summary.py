"""What a page is about: what was measured where, when and by what, and what is to be minded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimalign.benchmarks.report_page.chosen import names_of, precisions_of
from slimalign.benchmarks.report_page.settings import by_machine
from slimalign.benchmarks.results import AnyLatency, Results
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.timing import Record

BUSY = 0.5
"""Processes that ran, on average over a minute, from which on a machine was not at rest."""

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A small table that the page shows as it is."""

    title: str
    head: Cells
    rows: tuple[Cells, ...]


@dataclass(frozen=True)
class Summary:
    """``facts`` are names and texts, ``warnings`` sentences."""

    facts: tuple[tuple[str, str], ...]
    machines: Table | None
    warnings: tuple[str, ...]


def summary_of(results: Results, split: str, normaliser: str) -> Summary:
    """The summary of ``results``, judged on ``split`` by ``normaliser``."""
    judged = [r for r in results.accuracy if (r.split, r.normaliser) == (split, normaliser)]
    bundles = {r.sha256 for r in (*results.latencies, *results.accuracy, *results.cost)}
    times = sorted(record.started for record in results.latencies)
    facts = [
        ("bundles", str(len(bundles))),
        ("records", f"{len(results.latencies)} of latency, {len(results.accuracy)} of accuracy"),
        ("measured", _span(times)),
        ("accuracy", _faces(judged, split, normaliser)),
    ]
    warnings = (*_warnings(results), *_doubles(results))
    return Summary(tuple(facts), _machines(results.latencies), warnings)


def _doubles(results: Results) -> Iterable[str]:
    """What to mind of bundles that have all but their sha256 in common."""
    records = (*results.latencies, *results.accuracy)
    names = names_of(records, precisions_of(results))
    called: dict[str, set[str]] = {}
    for record in records:
        called.setdefault(record.bundle, set()).add(names[record.sha256])
    for bundle, held in called.items():
        apart = held - {bundle}
        if apart:
            yield (
                f"{len(apart)} bundles of one runtime and precision are called {bundle}: they are told apart by the "
                "beginning of their sha256."
            )


def _span(times: Sequence[str]) -> str:
    if not times:
        return "no latency"
    first, last = (time[:16].replace("T", " ") for time in (times[0], times[-1]))
    if first == last:
        return f"{first} UTC"
    same_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if same_day else last} UTC"


def _faces(judged: Sequence[Any], split: str, normaliser: str) -> str:
    if not judged:
        return "none"
    counts = " or ".join(str(count) for count in sorted({record.images for record in judged}))
    return f"{counts} faces of the split {split}, NME by {normaliser}"


def _machines(latencies: Sequence[AnyLatency]) -> Table | None:
    rows = []
    for (target, cpu, protocol), records in by_machine(latencies).items():
        versions = sorted({f"{r.runtime} {UNKNOWN}" if r.version == UNKNOWN else r.version for r in records})
        sizes = sorted({record.batch for record in records})
        threads = sorted({record.threads for record in records})
        inputs = sorted({record.inputs for record in records if isinstance(record, Record)})
        rows.append(
            (
                target,
                cpu,
                protocol,
                ", ".join(versions),
                ", ".join(map(str, sizes)),
                ", ".join(map(str, threads)),
                ", ".join(inputs) or UNKNOWN,
                str(len(records)),
            )
        )
    head = ("target", "processor or board", "protocol", "libraries", "batch", "threads", "input", "records")
    return Table("Where latency was measured", head, tuple(rows)) if rows else None


def _warnings(results: Results) -> Iterable[str]:
    latencies = results.latencies
    drafts = sum(record.protocol.endswith("-draft") for record in latencies)
    if drafts:
        yield (
            f"{drafts} of {len(latencies)} latencies are drafts, measured for a second or so; measure again with "
            "--reference before you publish them."
        )
    machines = {(record.target, record.cpu) for record in latencies}
    if len(machines) > 1:
        yield f"Latencies of {len(machines)} machines are in this file; they are never ranked together."
    protocols = {record.protocol for record in latencies}
    if len(protocols) > 1:
        yield f"Latencies of {len(protocols)} protocols are in this file; they are never ranked together."
    for name, versions in sorted(_versions(latencies).items()):
        if len(versions) > 1:
            yield f"{name} ran in several versions: {', '.join(sorted(versions))}."
    busy = [load for record in latencies if (load := load_before(record)) is not None and load > BUSY]
    if busy:
        yield (
            f"Before {len(busy)} of {len(latencies)} latencies the machine was not at rest: a load of up to "
            f"{max(busy):.1f} processes."
        )
    broken = sum(isinstance(record, Record) and len(record.openings) > 1 for record in latencies)
    if broken:
        yield f"{broken} of {len(latencies)} latencies are of several times: they were gone on with after a break."
    told = len(results.told)
    if told:
        yield f"{told} latencies were told by another program without single samples: they have no interval."
    bare = sum(isinstance(record, Record) and not record.intervals for record in latencies)
    if bare:
        yield f"{bare} latencies were kept without intervals, as older versions do."


def _versions(latencies: Iterable[AnyLatency]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for record in latencies:
        if record.version != UNKNOWN:
            found.setdefault(f"{record.runtime} on {record.target}", set()).add(record.version)
    return found


def load_before(record: AnyLatency) -> float | None:
    """Processes that ran over the minute before, None where the machine did not tell."""
    load = record.before.get("load_average", UNKNOWN)
    return None if load == UNKNOWN else float(load[0])
