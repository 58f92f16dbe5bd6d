"""Which bundles the figures of single bundles show, and what they are called there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from slimalign.benchmarks.points import Point
from slimalign.benchmarks.results import AccuracyRecord, AnyLatency, Results
from slimalign.runtimes.timing import SUSTAINED_MODE, Record

SHORT_HASH = 6

Kind = TypeVar("Kind", AccuracyRecord, Record)


def by_merit(points: Sequence[Point], frontier: Sequence[Point]) -> list[str]:
    """The sha256 of every bundle, those on the frontier first, then the most accurate first."""
    rest = sorted(points, key=lambda p: (p.nme is None, p.nme or 0.0, p.bundle))
    return list(dict.fromkeys(point.sha256 for point in (*frontier, *rest)))


def names_of(records: Iterable[AnyLatency | AccuracyRecord], precisions: Mapping[str, str]) -> dict[str, str]:
    """A name for each bundle by its sha256, with a part of it where another has that name, runtime and precision."""
    return _told_apart((r.sha256, r.bundle, r.runtime, precisions.get(r.sha256)) for r in records)


def point_names(points: Iterable[Point]) -> dict[str, str]:
    """``names_of`` the bundles of ``points``; a runtime is known of each that was timed at any setting."""
    held = list(points)
    runtimes = {point.sha256: point.runtime for point in held if point.runtime is not None}
    return _told_apart((p.sha256, p.bundle, runtimes.get(p.sha256), p.precision) for p in held)


def _told_apart(bundles: Iterable[tuple[str, str, str | None, str | None]]) -> dict[str, str]:
    held: dict[tuple[str, str | None, str | None], set[str]] = {}
    known = {}
    for sha256, name, runtime, precision in bundles:
        held.setdefault((name, runtime, precision), set()).add(sha256)
        known[sha256] = name
    double = {sha256 for sha256s in held.values() if len(sha256s) > 1 for sha256 in sha256s}
    return {
        sha256: f"{name} {sha256[:SHORT_HASH]}" if sha256 in double else name
        for sha256, name in known.items()
    }


def way_of(runtime: str, precision: str | None) -> str:
    """The runtime and, where it is not fp32, the precision."""
    return runtime if precision in (None, "fp32") else f"{runtime} {precision}"


def judged(results: Results, order: Sequence[str], split: str, normaliser: str) -> list[AccuracyRecord]:
    """The latest accuracy of each bundle, in ``order``, the first of each name before all others."""
    latest = {r.sha256: r for r in results.accuracy if (r.split, r.normaliser) == (split, normaliser)}
    return first_of_each([latest[sha256] for sha256 in order if sha256 in latest])


def timed(results: Results, order: Sequence[str]) -> list[Record]:
    """The latest measured latency of each setting, in ``order``, the first of each name before all others."""
    rank = {sha256: number for number, sha256 in enumerate(order)}
    latest = {record.setting: record for record in results.latency}
    ordered = sorted(
        latest.values(), key=lambda r: (rank[r.sha256], r.runtime, r.threads, r.batch, r.protocol)
    )
    # Minutes of calls tell most of heat.
    return sorted(
        first_of_each(ordered), key=lambda record: not record.protocol.endswith(f"-{SUSTAINED_MODE}")
    )


def first_of_each(records: Sequence[Kind]) -> list[Kind]:
    """``records`` with the first of each bundle's name in front: files of one network are much alike."""
    first = {id(record) for record in {record.bundle: record for record in reversed(records)}.values()}
    return sorted(records, key=lambda record: id(record) not in first)


def precisions_of(results: Results) -> dict[str, str]:
    """The precision of each bundle by its sha256, as far as it is known."""
    return {record.sha256: record.precision for record in (*results.latencies, *results.cost)}


def left_out(shown: int, held: int, what: str) -> str:
    """A note for the page where not all is shown; empty where it is."""
    if shown == held:
        return ""
    return f"{shown} of {held} {what} are kept in this page: those on the frontier, then the most accurate."
