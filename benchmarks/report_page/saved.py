"""The figures of a page as files: SVG, and their data as CSV."""

from __future__ import annotations

import re
from pathlib import Path

from slimalign.benchmarks.report_page.drawing import save_chart
from slimalign.benchmarks.report_page.figure import FIRST_SERIES, Figure
from slimalign.benchmarks.report_page.frontier_section import static_frontiers
from slimalign.benchmarks.report_page.packing import Row, csv_text
from slimalign.benchmarks.report_page.page import Page
from slimalign.runtimes.files import write_text

MOST_CHOICES = 20
"""Of a figure that shows one bundle at a time, so many are drawn; all are in its CSV."""


def save_figures(page: Page, folder: Path) -> list[Path]:
    """Write every figure of ``page`` into ``folder`` as SVG and its data as CSV; the answer lists the files.

    Raises UserError where one cannot be written.
    """
    made = []
    if page.frontier is not None:
        for name, spec, rows in static_frontiers(page.frontier):
            made.append(folder / f"{name}.svg")
            save_chart(spec, made[-1])
            made.append(folder / f"{name}.csv")
            write_text(made[-1], csv_text(rows))
    for figure in page.figures:
        for name, part in _drawn(figure):
            made.append(folder / f"{name}.svg")
            save_chart({**figure.spec, "datasets": {"rows": part}}, made[-1])
        made.append(folder / f"{figure.key}.csv")
        write_text(made[-1], csv_text(figure.rows))
    return made


def _drawn(figure: Figure) -> list[tuple[str, list[Row]]]:
    """The name and the rows of each picture of ``figure``: what is shown at first, or one for each choice."""
    chooser = figure.chooser
    if chooser is None:
        return [(figure.key, list(figure.rows))]
    if chooser.many:
        first = set(figure.choices[:FIRST_SERIES])
        return [(figure.key, [row for row in figure.rows if row[chooser.field] in first])]
    chosen = figure.choices[:MOST_CHOICES]
    return [
        (
            f"{figure.key}-{number}-{_plain(choice)}",
            [row for row in figure.rows if row[chooser.field] == choice],
        )
        for number, choice in enumerate(chosen, start=1)
    ]


def _plain(text: str) -> str:
    """``text`` as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40]
