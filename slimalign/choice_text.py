"""What pick and compare tell on the screen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from rich.console import RenderableType
from rich.table import Table

from slimalign.benchmarks.changes import SAME, Change
from slimalign.benchmarks.compare import Comparison
from slimalign.benchmarks.limits import SUBSET_LIMIT
from slimalign.benchmarks.pick import Choice, Relaxation
from slimalign.benchmarks.points import Point
from slimalign.benchmarks.report import narrow_table, short_count
from slimalign.runtimes.intervals import ALPHA, Interval

Names = Mapping[str, str]


def _figure(value: float | None, text: str, interval: Interval | None = None) -> str | None:
    if value is None:
        return None
    if interval is None:
        return text.format(value)
    return f"{text.format(value)} ({text.format(interval[0])} to {text.format(interval[1])})"


def _nme(point: Point) -> str | None:
    text = _figure(point.nme, "{:.2f}", point.nme_interval)
    return text if text is None or point.judged_by is None else f"{text} by {point.judged_by}"


def _count(value: float | None) -> str | None:
    return None if value is None else short_count(value)


FIGURES: Mapping[str, Callable[[Point], str | None]] = MappingProxyType(
    {
        "runtime": lambda p: p.runtime,
        "precision": lambda p: p.precision,
        "batch": lambda p: _figure(p.batch, "{}"),
        "threads": lambda p: _figure(p.threads, "{}"),
        "target": lambda p: p.target,
        "processor": lambda p: p.cpu,
        "protocol": lambda p: p.protocol,
        "p50 ms": lambda p: _figure(p.p50_ms, "{:.2f}", p.p50_interval),
        "p90 ms": lambda p: _figure(p.p90_ms, "{:.2f}", p.p90_interval),
        "faces a second": lambda p: _figure(p.throughput, "{:.3g}"),
        "NME %": _nme,
        "failures %": lambda p: _figure(p.failure_rate, "{:.2f}"),
        "params": lambda p: _count(p.params),
        "mult-adds": lambda p: _count(p.macs),
        "bytes": lambda p: _count(p.size_bytes),
        "memory MB": lambda p: _figure(p.memory_mb, "{:.1f}"),
        "energy mJ a face": lambda p: _figure(p.energy_mj, "{:.3g}"),
    }
)
NOT_MEASURED = "?"
COUNTED = ("bytes", "params", "mult-adds")
"""Figures of a comparison that are written as counts."""


def choice_text(choice: Choice, names: Names) -> Iterator[RenderableType]:
    """The choice beside the runner-up, why that lost, the knee; or what keeps all out, and how to let one in.

    ``names`` are those of the bundles by their sha256.
    """
    if choice.point is None:
        yield f"No point fits; binding: {', '.join(option(name) for name in choice.binding)}"
    else:
        columns = {"the choice": choice.point}
        if choice.runner_up is not None:
            columns["the runner-up"] = choice.runner_up
        yield _side_by_side(columns, names)
        yield f"The choice is {full_name(choice.point, names)}, by the NME on {choice.point.split}"
        if choice.runner_up is not None and choice.why is not None:
            yield f"The runner-up is {full_name(choice.runner_up, names)}: {choice.why}"
        if choice.faster is not None:
            yield f"Surely faster, and not surely worse: {_in_short(choice.faster, names)}"
    if choice.knee is not None:
        yield f"The knee of latency against NME: {_in_short(choice.knee, names)}"
    for relaxation in choice.relaxations:
        yield f"{_moves(relaxation)}: then {_in_short(relaxation.point, names, ' fits')}"
    if choice.left_out:
        yield f"{choice.left_out} points without an NME, or a figure that a limit bounds, were left aside"


def full_name(point: Point, names: Names) -> str:
    """The bundle's name, and the runtime and precision that it was measured in."""
    way = " ".join(part for part in (point.runtime, point.precision) if part is not None)
    return f"{names[point.sha256]} on {way}" if point.runtime is not None else names[point.sha256]


def _in_short(point: Point, names: Names, said: str = "") -> str:
    latency = "" if point.p50_ms is None else f", {point.p50_ms:.3g} ms"
    return f"{full_name(point, names)}{said}, NME {point.nme:.2f} %{latency}"


def _side_by_side(columns: Mapping[str, Point], names: Names) -> Table:
    """A row a figure, so that it fits a narrow terminal; what none of the points has is not shown."""
    made = narrow_table(None, {"": True, **dict.fromkeys(columns, True)})
    points = list(columns.values())
    made.add_row("bundle", *(names[point.sha256] for point in points))
    subsets = sorted({subset for point in points for subset in point.subset_nme})
    shown: dict[str, Callable[[Point], str | None]] = {
        **FIGURES,
        **{f"NME % {subset}": partial(_subset_nme, subset) for subset in subsets},
    }
    for name, text in shown.items():
        texts = [text(point) for point in points]
        if any(texts):
            made.add_row(name, *(text or NOT_MEASURED for text in texts))
    return made


def _subset_nme(subset: str, point: Point) -> str | None:
    return _figure(point.subset_nme.get(subset), "{:.2f}")


def option(limit: str) -> str:
    """How the command line calls a limit."""
    if limit.startswith(SUBSET_LIMIT):
        return f"--max-nme-subset {limit.removeprefix(SUBSET_LIMIT)}"
    return "--" + limit.replace("_", "-")


def _moves(relaxation: Relaxation) -> str:
    return " and ".join(_move(name, value) for name, value in relaxation.limits.items())


def _move(name: str, value: float) -> str:
    is_least = name.startswith("min_")
    joint = "=" if name.startswith(SUBSET_LIMIT) else " "
    return f"{'lower' if is_least else 'raise'} {option(name)}{joint}{_let_in(value, is_least)}"


def _let_in(value: float, is_least: bool) -> str:
    """Four digits that are not below ``value``, or not above a least one, so that the limit lets it in."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{(math.floor if is_least else math.ceil)(value / step) * step:.4g}"


def comparison_text(comparison: Comparison) -> Iterator[RenderableType]:
    """Each figure before and after but for exact ones that are the same, what only one file holds, and the verdict."""
    yield from comparison.remarks
    columns = {
        "": True,
        "figure": True,
        "before": False,
        "after": False,
        "change %": False,
        "p": False,
        " ": True,
    }
    table = narrow_table(None, columns)
    last = None
    shown = [change for change in comparison.changes if change.verdict != SAME or change.p is not None]
    for change in shown:
        row = str(change.row)
        table.add_row("" if row == last else row, *_cells(change, comparison.max_worse))
        last = row
    if shown:
        yield table
    notes = Counter(change.note for change in shown if change.note)
    yield from (f"{_figures(count)}: {note}" for note, count in notes.items())
    if len(shown) < len(comparison.changes):
        yield f"{_figures(len(comparison.changes) - len(shown))} of size and cost: the same"
    for place, rows in (("first", comparison.only_before), ("second", comparison.only_after)):
        yield from (f"only in the {place} file: {row}" for row in rows)
    yield (
        f"{len(comparison.worse)} of {_figures(len(comparison.changes))} worse, surely (p < {ALPHA:g}) and by more than"
        f" {comparison.max_worse:g} % as measured"
    )


def _figures(count: int) -> str:
    return f"{count} figure{'s' if count != 1 else ''}"


def _cells(change: Change, max_worse: float) -> Sequence[str]:
    percent = "" if change.percent is None else f"{change.percent:+.2f}"
    if change.interval is not None:
        percent += f" ({change.interval[0]:+.2f} to {change.interval[1]:+.2f})"
    verdict = change.verdict.upper() if change.fails(max_worse) else change.verdict
    values = (_value(change.figure, value) for value in (change.before, change.after))
    return (change.figure, *values, percent, "" if change.p is None else f"{change.p:.2g}", verdict)


def _value(figure: str, value: float) -> str:
    return short_count(value) if figure in COUNTED else f"{value:.2f}"
