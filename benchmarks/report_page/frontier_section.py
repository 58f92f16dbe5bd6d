"""The frontier of the page: all points once, their settings, and the frontier over each pair of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimalign.benchmarks.axes import Axis
from slimalign.benchmarks.frontier import Ranking
from slimalign.benchmarks.points import Point
from slimalign.benchmarks.report_page.axes import drawn_axes, is_error, title
from slimalign.benchmarks.report_page.chosen import point_names
from slimalign.benchmarks.report_page.figure import Spec
from slimalign.benchmarks.report_page.frontier_plot import (
    NOT_TIMED,
    curve,
    drawn_rows,
    frontier_spec,
    kinds,
    line_rows,
    number_format,
    published_dots,
    set_axes,
    step_of,
)
from slimalign.benchmarks.report_page.packing import Row, columns
from slimalign.benchmarks.report_page.published import Parts, published_parts, published_rows

if TYPE_CHECKING:
    from slimalign.benchmarks.report_page.page import Subject

SHORT_HASH = 12


@dataclass(frozen=True)
class FrontierSection:
    """``document`` is what the page's script draws from; ``costs`` and ``errors`` are the axes to choose among.

    ``errors`` is empty where nothing was judged: then there is a table, and no chart.
    """

    document: dict[str, Any]
    points: Sequence[Point]
    costs: Sequence[Axis]
    errors: Sequence[Axis]
    published_note: str
    published: Sequence[Row]
    spec: Spec


def frontier_section(subject: Subject) -> FrontierSection | None:
    """The frontier of ``subject``; None where it has no points."""
    ranked = subject.ranked
    if not ranked.points:
        return None
    costs, errors = drawn_axes(ranked.points)
    axes = [*costs, *errors]
    parts = _published_parts(subject)
    published = [] if parts is None else published_rows(*parts)
    runtimes, precisions = kinds(ranked.points)
    names = point_names(ranked.points)
    spec = frontier_spec(runtimes, precisions, interactive=True)
    document = {
        "points": columns([point_row(point, axes, names[point.sha256]) for point in ranked.points]),
        "axes": [
            {
                "name": axis.name,
                "title": title(axis),
                "error": is_error(axis),
                "format": number_format(axis),
                "count": axis.unit in ("", "bytes"),
                "step": step_of(axis),
                "more": axis.more_is_better,
                "digits": axis.digits,
            }
            for axis in axes
        ],
        "settings": [
            {
                "machine": " · ".join(t for t in (s.target, s.cpu, s.protocol) if t) or NOT_TIMED,
                "batch": s.batch,
                "threads": s.threads,
                "points": s.points,
            }
            for s in ranked.settings
        ],
        "spare": sorted(ranked.spare),
        "curves": _curves(subject, costs, errors),
        "published": published,
        "start": ranked.settings.index(subject.shown),
        "spec": spec,
    }
    note = "" if parts is None else _published_note(subject, *parts)
    return FrontierSection(document, subject.ranked.at(subject.shown), costs, errors, note, published, spec)


def _curves(
    subject: Subject, costs: Sequence[Axis], errors: Sequence[Axis]
) -> dict[str, list[tuple[int, ...]]]:
    """Line and uncertain points by ``setting|cost|error``."""
    made = {}
    for number, setting in enumerate(subject.ranked.settings):
        ranking = Ranking(subject.ranked.at(setting))
        for x in costs:
            for y in errors:
                found = curve(ranking, x, y)
                made[f"{number}|{x.name}|{y.name}"] = [found.line, found.uncertain]
    return made


def point_row(point: Point, axes: Sequence[Axis], name: str) -> dict[str, Any]:
    """What the page keeps of a point: what it is, and of each axis value and interval."""
    row: dict[str, Any] = {
        "bundle": name,
        "sha256": point.sha256[:SHORT_HASH],
        "runtime": point.runtime or NOT_TIMED,
        "precision": point.precision or "unknown",
        "target": point.target or "",
        "protocol": point.protocol or "",
        "batch": point.batch,
        "threads": point.threads,
    }
    for axis in axes:
        low, high = axis.interval(point) or (None, None)
        row |= {axis.name: axis.value(point), f"{axis.name} low": low, f"{axis.name} high": high}
    return row


PAPERS_FACES = {"full": 689, "common": 554, "challenge": 135}
"""Test faces of the parts of 300W, as the papers have them."""


def _published_parts(subject: Subject) -> Any:
    recipe = subject.recipe
    data_format = None if recipe is None else recipe["data"]["format"]
    if data_format == "drawn":
        return None
    held = [
        r for r in subject.results.accuracy if (r.split, r.normaliser) == (subject.split, subject.normaliser)
    ]
    return published_parts({name for r in held for name in r.subsets}, subject.normaliser, data_format)


def _published_note(subject: Subject, dataset: str, parts: Parts) -> str:
    drawn = ", ".join(
        f"NME{axis.removeprefix('nme').replace(':', ' on ')} of the papers' {part} test set"
        for axis, part in parts.items()
    )
    held = {r.images for r in subject.results.accuracy if r.split == subject.split}
    counts = " or ".join(map(str, sorted(held)))
    sizes = ""
    if dataset == "300w":
        common, challenging = PAPERS_FACES["common"], PAPERS_FACES["challenge"]
        sizes = f" ({PAPERS_FACES['full']} faces: {common} common and {challenging} challenging)"
    return (
        "On the axes of parameters and multiply-adds grey points are published figures, found at 256x256 pixels with "
        f"other training data: {drawn}{sizes}. These results are on {counts} faces of the split {subject.split}."
    )


def static_frontiers(section: FrontierSection) -> list[tuple[str, Spec, list[dict[str, Any]]]]:
    """For each cost with points: a name, the chart with its data, and the data; over the first error."""
    made = []
    ranking = Ranking(section.points)
    for x in section.costs:
        for y in section.errors[:1]:
            found = curve(ranking, x, y)
            rows = drawn_rows(section.points, found, x, y)
            if rows:
                data = {
                    "points": rows,
                    "line": line_rows(section.points, found, x, y),
                    "published": published_dots(section.published, x, y, rows),
                }
                made.append(
                    (f"frontier-{x.name}-{y.name}", {**set_axes(section.spec, x, y), "datasets": data}, rows)
                )
    return made
