"""Two results files: what changed from the first to the second, and whether anything surely got worse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from slimalign.benchmarks.changes import FIGURES, Change, Compared, Found, Row, change_of, figures
from slimalign.benchmarks.points import HASH_DIGITS
from slimalign.benchmarks.results import AnyLatency, Results
from slimalign.runtimes.errors import UserError

MAX_WORSE = 5.0
"""By how many percent a figure may be worse."""
UNKNOWN = "?"

Figures = Mapping[tuple[Row, str], Found]


@dataclass(frozen=True)
class Comparison:
    """All figures that both files hold, sorted by their rows, and those that only one of them does.

    ``max_worse`` is by how many percent a figure may be worse. ``remarks`` say what whoever reads the figures must
    know of the files.
    """

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    remarks: tuple[str, ...]
    max_worse: float

    @property
    def worse(self) -> tuple[Change, ...]:
        """The changes that fail."""
        return tuple(change for change in self.changes if change.fails(self.max_worse))

    def to_dict(self) -> dict[str, Any]:
        """Its entries for ``--json``; of each change also whether it ``fails``."""
        return {
            "changes": [
                {**change.to_dict(), "fails": change.fails(self.max_worse)} for change in self.changes
            ],
            "only_before": list(self.only_before),
            "only_after": list(self.only_after),
            "remarks": list(self.remarks),
            "max_worse": self.max_worse,
        }


def compare(
    before: Results,
    after: Results,
    split: str = "val",
    normaliser: str = "inter-ocular",
    max_worse: float = MAX_WORSE,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Each figure of ``after`` against that of ``before`` of the same bundle by name, runtime, precision, batch size,
    threads, target and protocol; of several records the latest counts. NMEs are those on ``split`` by ``normaliser``.
    ``progress`` is told the figures done and their number.

    Raises UserError where nothing is in common, or, without ``force``, where the same was timed by other protocols or
    on another processor; with it these are compared too, and ``remarks`` say so. What was timed by several other
    protocols of one name is refused even so.
    """
    if not max_worse >= 0:
        raise UserError(f"max_worse = {max_worse:g}; give a share in percent that is not below 0")
    theirs, ours = (_latest_latencies(results) for results in (before, after))
    protocols = _other_protocols(theirs, ours)
    processors = _other_processors(theirs, {protocols.get(row, row): one for row, one in ours.items()})
    differing = [*processors, *(f"{row}, against {was.protocol}" for row, was in protocols.items())]
    if differing and not force:
        raise UserError(
            f"{differing[0]}: these do not compare; measure again in the same way, or add --force"
        )
    first, second = (_all_figures(results, split, normaliser) for results in (before, after))
    second = {(protocols.get(row, row), figure): found for (row, figure), found in second.items()}
    common = sorted(first.keys() & second.keys(), key=_order)
    if not common:
        raise UserError(
            "the two files have no figure of one bundle, runtime, precision, batch size, threads and target in common;"
            f" the first holds {_rows(first)}, the second {_rows(second)}"
        )
    changes = []
    for done, key in enumerate(common, start=1):
        changes.append(change_of(*key, first[key], second[key]))
        progress(done, len(common))
    return Comparison(
        changes=tuple(changes),
        only_before=_told(first.keys() - second.keys()),
        only_after=_told(second.keys() - first.keys()),
        remarks=(*(f"forced: {text}" for text in differing), *_namesakes(before, after, split, normaliser)),
        max_worse=max_worse,
    )


def _latest_latencies(results: Results) -> dict[Row, AnyLatency]:
    return {_latency_row(record): record for record in results.latencies}


def _latency_row(record: AnyLatency) -> Row:
    return Row(
        record.bundle,
        record.runtime,
        record.precision,
        record.batch,
        record.threads,
        record.target,
        record.protocol,
    )


def _other_protocols(before: Iterable[Row], after: Iterable[Row]) -> dict[Row, Row]:
    """Rows of ``after`` that were timed by another protocol of the same name alone, and the row of ``before`` that each
    stands for; raises UserError where there are several.
    """
    ours, theirs = set(before), set(after)
    candidates: dict[Row, tuple[list[Row], list[Row]]] = {}
    for place, rows in enumerate((ours - theirs, theirs - ours)):
        for row in sorted(rows):
            candidates.setdefault(replace(row, protocol=_name_of(row.protocol)), ([], []))[place].append(row)
    pairs = [(was, now) for was, now in candidates.values() if was and now]
    for was, now in pairs:
        if len(was) > 1 or len(now) > 1:
            old, new = (", ".join(row.protocol for row in rows) for rows in (was, now))
            raise UserError(
                f"{replace(now[0], protocol='')}: timed by {old}, against {new}: which stands for which is not told;"
                " keep one of them in each file"
            )
    return {now[0]: was[0] for was, now in pairs}


def _name_of(protocol: str) -> str:
    """What the protocol of that key times, see slimalign.runtimes.timing.Protocol."""
    return protocol.rsplit("-", 2)[0]


def _other_processors(before: Mapping[Row, AnyLatency], after: Mapping[Row, AnyLatency]) -> list[str]:
    pairs = {(before[row].cpu, after[row].cpu) for row in before.keys() & after.keys()}
    return [f"timed on {was}, against {now}" for was, now in sorted(pairs) if was != now]


def _all_figures(results: Results, split: str, normaliser: str) -> Figures:
    """The latest of each figure."""
    return {
        (row, figure): found
        for row, record in _rows_of(results, split, normaliser)
        for figure, found in figures(record)
    }


def _rows_of(results: Results, split: str, normaliser: str) -> Iterator[tuple[Row, Compared]]:
    """All records that count, each with its row; a cost has one for each runtime that ran the bundle."""
    precisions = {record.sha256: record.precision for record in (*results.cost, *results.latencies)}
    runtimes: dict[str, set[str]] = {}
    for one in (*results.latencies, *results.accuracy):
        runtimes.setdefault(one.sha256, set()).add(one.runtime)
    for cost in results.cost:
        for runtime in sorted(runtimes.get(cost.sha256, {UNKNOWN})):
            yield Row(cost.bundle, runtime, cost.precision), cost
    for accuracy in results.accuracy:
        if (accuracy.split, accuracy.normaliser) == (split, normaliser):
            precision = precisions.get(accuracy.sha256, UNKNOWN)
            yield Row(accuracy.bundle, accuracy.runtime, precision, target=accuracy.target), accuracy
    for latency in results.latencies:
        yield _latency_row(latency), latency


def _order(key: tuple[Row, str]) -> tuple[Row, int]:
    return key[0], FIGURES.index(key[1])


def _told(keys: Iterable[tuple[Row, str]]) -> tuple[str, ...]:
    rows: dict[Row, list[str]] = {}
    for row, figure in sorted(keys, key=_order):
        rows.setdefault(row, []).append(figure)
    return tuple(f"{row}: {', '.join(names)}" for row, names in rows.items())


def _rows(held: Figures) -> str:
    """The first rows of a file, as a user may know it by."""
    rows = sorted({str(row) for row, _ in held})
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return ("; ".join(rows[:2]) or "none") + more


def _namesakes(before: Results, after: Results, split: str, normaliser: str) -> Iterator[str]:
    """Bundles of a file that only their sha256 tells apart."""
    for place, results in (("first", before), ("second", after)):
        held: dict[tuple[str, str, str], set[str]] = {}
        for row, record in _rows_of(results, split, normaliser):
            held.setdefault((row.bundle, row.runtime, row.precision), set()).add(record.sha256)
        for (bundle, runtime, precision), sha256s in held.items():
            if len(sha256s) > 1:
                hashes = ", ".join(sorted(sha256[:HASH_DIGITS] for sha256 in sha256s))
                yield (
                    f"the {place} file holds several bundles named {bundle} on {runtime} {precision} ({hashes});"
                    " the latest records count"
                )
