"""All points of a results file, and the settings within which they may be ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slimalign.benchmarks.points import Point, join
from slimalign.benchmarks.results import AnyLatency, Results
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.timing import Record

Machine = tuple[str, str, str]
"""Target, processor and protocol: latencies of others do not compare."""


@dataclass(frozen=True)
class Setting:
    """What is ranked together: one machine and protocol, batch size and thread count; None where nothing was timed.

    ``points`` are places in the list of all points. Those of bundles that were not timed at this setting are among
    them, for axes that need no latency.
    """

    target: str | None
    cpu: str | None
    protocol: str | None
    batch: int | None
    threads: int | None
    points: tuple[int, ...]


@dataclass(frozen=True)
class Ranked:
    """``points`` of all ``settings``; ``spare`` are places without latency of bundles timed elsewhere."""

    points: tuple[Point, ...]
    settings: tuple[Setting, ...]
    spare: frozenset[int]

    def at(self, setting: Setting) -> list[Point]:
        """The points that are ranked at ``setting``."""
        return [self.points[place] for place in setting.points]


def ranked(results: Results, split: str | None, normaliser: str) -> Ranked:
    """Every point of ``results`` by the accuracy on ``split``, those of the machine with most records first.

    Raises UserError where bundles were judged on different faces.
    """
    places: dict[tuple[str | int | None, ...], int] = {}
    points: list[Point] = []
    settings = []
    for machine, batch, threads, own in _parts(results):
        found = join(own, split, normaliser, batch=batch, threads=threads)
        held = []
        for point in found:
            timed = machine if point.runtime is not None else None
            key = (point.sha256, point.runtime, point.batch, point.threads, *(timed or ()))
            if key not in places:
                places[key] = len(points)
                points.append(point)
            held.append(places[key])
        target, cpu, protocol = machine or (None, None, None)
        settings.append(Setting(target, cpu, protocol, batch, threads, tuple(held)))
    timed_bundles = {record.sha256 for record in results.latencies}
    spare = frozenset(
        place for place, p in enumerate(points) if p.runtime is None and p.sha256 in timed_bundles
    )
    return Ranked(tuple(points), tuple(settings), spare)


def _parts(results: Results) -> Iterator[tuple[Machine | None, int | None, int | None, Results]]:
    """The results of each setting, with all that is known of accuracy and cost."""
    machines = by_machine(results.latencies)
    if not machines:
        yield None, None, None, results
    for machine, records in machines.items():
        for batch, threads in sorted({(record.batch, record.threads) for record in records}):
            own = [record for record in records if (record.batch, record.threads) == (batch, threads)]
            yield (
                machine,
                batch,
                threads,
                Results(
                    latency=tuple(record for record in own if isinstance(record, Record)),
                    told=tuple(record for record in own if isinstance(record, ToldLatency)),
                    accuracy=results.accuracy,
                    cost=results.cost,
                ),
            )


def machine_of(record: AnyLatency) -> Machine:
    """Where and how ``record`` was measured."""
    return (record.target, record.cpu, record.protocol)


def by_machine(records: Sequence[AnyLatency]) -> Mapping[Machine, list[AnyLatency]]:
    """``records`` of each machine and protocol, that with most of them first."""
    found: dict[Machine, list[AnyLatency]] = {}
    for record in records:
        found.setdefault(machine_of(record), []).append(record)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))
