"""The page: results and what lies beside them, as sections of figures, as one HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from slimalign.benchmarks.frontier import Ranking
from slimalign.benchmarks.points import Point
from slimalign.benchmarks.report_page.accuracy_figures import ced_figure, series_names, subset_figure
from slimalign.benchmarks.report_page.axes import drawn_axes
from slimalign.benchmarks.report_page.chosen import by_merit, judged, names_of, precisions_of, timed
from slimalign.benchmarks.report_page.commands import (
    FACES,
    Places,
    all_places,
    bench_commands,
    eval_commands,
    formats_of,
    profile_commands,
)
from slimalign.benchmarks.report_page.device import state_tables, sustained_table
from slimalign.benchmarks.report_page.figure import Figure, Section
from slimalign.benchmarks.report_page.frontier_plot import curve
from slimalign.benchmarks.report_page.frontier_section import FrontierSection, frontier_section
from slimalign.benchmarks.report_page.latency_figures import sweep_figures, time_figure
from slimalign.benchmarks.report_page.packing import columns, script_json
from slimalign.benchmarks.report_page.pictures import architecture_uri, predictions_uri
from slimalign.benchmarks.report_page.run_figures import layers_figure, waterfall_figure
from slimalign.benchmarks.report_page.settings import Ranked, Setting
from slimalign.benchmarks.report_page.summary import summary_of
from slimalign.benchmarks.results import Results
from slimalign.runtimes.errors import UserError

LIBRARIES = "window.vegaEmbed = vegaEmbed;"
"""What the page's script takes of vega, vega-lite and vega-embed."""
DRAWN = "drawn"
"""The format of faces that a run has drawn itself."""
MOST_BYTES = 6_000_000
"""A page that is larger is no mail's attachment any more."""


@dataclass(frozen=True)
class Subject:
    """What a page is about: ``results``, read from ``path``, judged on ``split`` by ``normaliser``.

    ``again`` is the command that makes the page. ``shown`` is the setting that it opens with, ``x`` the cost.
    ``places`` are the paths of bundles as far as they are known; ``waterfall`` and ``recipe`` are what the files of a
    run hold, ``architecture`` and ``predictions`` are files.
    """

    results: Results
    path: str
    again: str
    split: str
    normaliser: str
    ranked: Ranked
    shown: Setting
    x: str | None = None
    places: Places = field(default_factory=dict)
    waterfall: Mapping[str, Any] | None = None
    recipe: Mapping[str, Any] | None = None
    run_folder: str | None = None
    architecture: Path | None = None
    predictions: Path | None = None

    @cached_property
    def order(self) -> list[str]:
        """The bundles, those on the shown frontier first."""
        shown = self.ranked.at(self.shown)
        return by_merit([*shown, *self.ranked.points], first_frontier(shown))

    @property
    def photos(self) -> bool:
        """Whether photographs of people are shown: faces of a data set that are not known to be drawn."""
        return self.predictions is not None and self.data_format != DRAWN

    @property
    def title(self) -> str:
        """What stands above the page: the name of the run, or of the results file."""
        return Path(self.path).name if self.recipe is None else str(self.recipe["name"])

    @cached_property
    def paths(self) -> Places:
        """What commands call each bundle."""
        return all_places(self.results, self.places)

    @property
    def eval_lines(self) -> tuple[str, ...]:
        """What measures the accuracy again; faces that a run has drawn lie in no folder: it is made again."""
        held = judged(self.results, self.order, self.split, self.normaliser)
        own: dict[str, str] = {}
        if self.recipe is not None:
            own = dict.fromkeys(self.recipe["faces"].values(), self.recipe["data"]["format"])
        drawn = [record for record in held if own.get(record.faces) == DRAWN]
        read = [record for record in held if own.get(record.faces) != DRAWN]
        formats = {**own, **formats_of(self.results.latencies)}
        return (
            *(self.run_lines if drawn else ()),
            *eval_commands(read, self.paths, formats, self.path),
        )

    @property
    def data_format(self) -> str | None:
        """How the run has read its faces, None where there is no run."""
        return None if self.recipe is None else self.recipe["data"]["format"]

    @property
    def bench_lines(self) -> tuple[str, ...]:
        """What measures the latency again."""
        return bench_commands(self.results.latencies, self.paths, self.path)

    @property
    def profile_lines(self) -> tuple[str, ...]:
        """What counts and times the layers again."""
        return profile_commands(self.results.layers, self.paths, self.path)

    @property
    def run_lines(self) -> tuple[str, ...]:
        """What makes the run again."""
        if self.recipe is None or self.run_folder is None:
            return ()
        drawn = self.data_format == DRAWN
        words = [
            f"{self.recipe['name']}.toml",
            "--out",
            self.run_folder,
            *(() if drawn else ("--data", FACES)),
        ]
        return (f"slimalign run {shlex.join(words)}",)


def first_frontier(points: Sequence[Point]) -> list[Point]:
    """The points on the first cost and the first error that they have."""
    costs, errors = drawn_axes(points)
    if not costs or not errors:
        return []
    found = curve(Ranking(points), costs[0], errors[0])
    return [points[place] for place in (*found.line, *found.uncertain)]


@dataclass(frozen=True)
class Page:
    """The page as ``html`` and its figures, which ``slimalign report --figures`` writes as files."""

    html: str
    frontier: FrontierSection | None
    figures: tuple[Figure, ...]


def page_of(subject: Subject) -> Page:
    """The page about ``subject``; raises UserError where it holds no record, or gets too large."""
    import vl_convert
    from jinja2 import Environment

    results = subject.results
    if not (results.latencies or results.accuracy or results.cost):
        raise UserError(f"{subject.path}: no records; make some with 'slimalign bench' and 'slimalign eval'")
    frontier = frontier_section(subject)
    sections = _sections(subject)
    figures = tuple(figure for section in sections for figure in section.figures)
    document = {
        "frontier": None if frontier is None else frontier.document,
        "figures": {
            figure.key: {"spec": figure.spec, "rows": columns(figure.rows), "chooser": _chooser(figure)}
            for figure in figures
        },
    }
    here = files("slimalign.benchmarks.report_page")
    # The texts of results files are a user's: the template escapes whatever it is not told to trust.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string((here / "page.html").read_text(encoding="utf-8")).render(
        title=subject.title,
        x=subject.x,
        path=subject.path,
        summary=summary_of(results, subject.split, subject.normaliser),
        report_command=subject.again,
        frontier=frontier,
        bench_lines=subject.bench_lines,
        eval_lines=subject.eval_lines,
        run_lines=subject.run_lines,
        sections=sections,
        architecture=None if subject.architecture is None else architecture_uri(subject.architecture),
        predictions=None if subject.predictions is None else predictions_uri(subject.predictions),
        photos=subject.photos,
        sustained=sustained_table(results.latency),
        states=state_tables(results.latencies),
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        libraries=vl_convert.javascript_bundle(LIBRARIES),
        data=script_json(document),
    )
    size = len(html.encode())
    if size > MOST_BYTES:
        raise UserError(
            f"{subject.path}: its report would be {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}; keep less in "
            "one results file"
        )
    return Page(html, frontier, figures)


def _chooser(figure: Figure) -> dict[str, Any] | None:
    if figure.chooser is None:
        return None
    chooser = figure.chooser
    return {"field": chooser.field, "label": chooser.label, "many": chooser.many, "choices": figure.choices}


def _sections(subject: Subject) -> list[Section]:
    results, order = subject.results, subject.order
    precisions = precisions_of(results)
    names = names_of((*results.latencies, *results.accuracy), precisions)
    accuracies = judged(results, order, subject.split, subject.normaliser)
    series = series_names(accuracies, names, precisions)
    latencies = timed(results, order)
    waterfall = subject.waterfall
    return [
        Section(
            "batches",
            "Batch sizes",
            "No bundle was timed at two batch sizes: run slimalign bench BUNDLE --batch 1,2,4,8.",
            sweep_figures(results.latencies, names, order, subject.bench_lines),
        ),
        Section(
            "ced",
            "Errors over the faces",
            "No errors of single faces were kept: run slimalign eval BUNDLE --data FOLDER.",
            _one(ced_figure(accuracies, series, subject.eval_lines)),
        ),
        Section(
            "waterfall",
            "Steps of the run",
            "Not the results of a run: give the folder of one, slimalign report RUN_FOLDER.",
            _one(None if waterfall is None else waterfall_figure(waterfall, subject.run_lines)),
        ),
        Section(
            "subsets",
            "Subsets",
            "These faces have no subsets, or were not judged: run slimalign eval BUNDLE --data FOLDER.",
            _one(subset_figure(accuracies, series, subject.eval_lines)),
        ),
        Section(
            "layers",
            "Layers",
            f"No layers were counted: run slimalign profile BUNDLE --timed --results {subject.path}.",
            _one(layers_figure(results.layers, subject.profile_lines)),
        ),
        Section(
            "time",
            "Over time",
            "No latency with single samples: run slimalign bench BUNDLE.",
            _one(time_figure(latencies, names, subject.bench_lines)),
        ),
    ]


def _one(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]
