"""One figure of the page: what it draws, how it is read, and the commands that make its data again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slimalign.benchmarks.report_page.packing import Row

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
INK, SOFT, LINE = "#24292f", "#57606a", "#e4e7eb"

RUNTIME_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "onnxruntime": "#0072B2",
        "litert": "#D55E00",
        "tensorrt": "#009E73",
        "pytorch": "#AA4499",
        "not timed": "#6E7781",
    }
)
"""One colour a runtime in all figures; people who see few colours tell them apart too (Okabe and Ito; Tol)."""
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B8860B", "#332288", "#56B4E9", "#882255")
"""For series that are not runtimes; the ninth has the colour of the first."""
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)

WIDTH, HEIGHT = 720, 380
"""Pixels of a figure in a file; the page fits the width to the screen."""
MOST_SERIES = 24
"""Series that a figure of many holds at most, lest the page grow too large."""
FIRST_SERIES = 5
"""Series that are shown until others are chosen."""


@dataclass(frozen=True)
class Chooser:
    """A control beside a figure: of ``field`` of its rows one value is shown, or with ``many`` any of them."""

    field: str
    label: str
    many: bool = False


@dataclass(frozen=True)
class Figure:
    """``spec`` is Vega-Lite without data, ``rows`` are its data; ``key`` names its files, ``alt`` tells in words.

    ``reading`` is one plain sentence on how it is read, ``commands`` make its data again, and ``note`` says what was
    left out.
    """

    key: str
    title: str
    reading: str
    alt: str
    spec: Mapping[str, Any]
    rows: Sequence[Row]
    commands: tuple[str, ...] = ()
    chooser: Chooser | None = None
    note: str = ""

    @property
    def choices(self) -> list[str]:
        """The values of the chooser's field, in the order of the rows."""
        return (
            [] if self.chooser is None else list(dict.fromkeys(row[self.chooser.field] for row in self.rows))
        )


@dataclass(frozen=True)
class Section:
    """A heading of the page with its figures; without any, ``absent`` says how to get them."""

    key: str
    title: str
    absent: str
    figures: Sequence[Figure] = field(default_factory=tuple)


def spec_of(chart: alt.TopLevelMixin, height: int | Mapping[str, int] = HEIGHT) -> Spec:
    """``chart`` as Vega-Lite in the look of the report, as wide as the page lets it be."""
    # What takes the place of its data does so by name.
    spec: Spec = chart.to_dict(validate=False)
    spec.pop("datasets", None)
    return {**spec, "width": "container", "height": height, "config": look()}


def look() -> dict[str, Any]:
    """How all figures look: light, quiet axes, the system's own letters."""
    axis = {
        "labelColor": SOFT,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelPadding": 6,
        "gridColor": LINE,
        "domain": False,
        "tickColor": LINE,
        "labelOverlap": "greedy",
        "labelSeparation": 8,
        "labelLimit": 230,
    }
    return {
        "background": "#ffffff",
        "font": FONT,
        "padding": 6,
        "view": {"stroke": None},
        "axis": axis,
        "legend": {
            "orient": "top",
            "labelColor": INK,
            "titleColor": SOFT,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "symbolSize": 90,
            "symbolOpacity": 1,
            "labelLimit": 260,
        },
        "range": {"category": list(SERIES_COLOURS)},
    }


def precision_scale(precisions: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ``precisions`` that are drawn, fp32 first, and their shapes."""
    drawn = sorted(set(precisions), key=lambda name: (name != "fp32", name))
    return drawn, [SHAPES[number % len(SHAPES)] for number in range(len(drawn))]


def runtime_scale(runtimes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ``runtimes`` that are drawn, known ones first, and their colours."""
    drawn = set(runtimes)
    known = [name for name in RUNTIME_COLOURS if name in drawn]
    others = sorted(drawn - set(known))
    spare = [colour for colour in SERIES_COLOURS if colour not in RUNTIME_COLOURS.values()]
    colours = [RUNTIME_COLOURS[name] for name in known]
    return [*known, *others], [*colours, *(spare[n % len(spare)] for n in range(len(others)))]
