"""Figures of accuracy: how errors are spread over the faces, and the NME on each subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slimalign.benchmarks.report_page.chosen import left_out, way_of
from slimalign.benchmarks.report_page.figure import (
    INK,
    MOST_SERIES,
    Chooser,
    Figure,
    spec_of,
)
from slimalign.benchmarks.report_page.packing import Row
from slimalign.benchmarks.results import AccuracyRecord
from slimalign.runtimes.intervals import mean_interval
from slimalign.runtimes.metrics import FAILURE_THRESHOLD

MOST_STEPS = 160
"""Points of one curve at most: faces are then told by their share at even steps."""
REACH = 1.6
"""How far the curves go, as a share of the failure threshold."""


def series_names(
    records: Sequence[AccuracyRecord], names: Mapping[str, str], precisions: Mapping[str, str]
) -> list[str]:
    """Bundle and way of each record, by which its curve is chosen."""
    return [f"{names[r.sha256]} · {way_of(r.runtime, precisions.get(r.sha256))}" for r in records]


def ced_figure(
    records: Sequence[AccuracyRecord], series: Sequence[str], commands: tuple[str, ...]
) -> Figure | None:
    """Which share of the faces lies below each NME; None without NMEs of single faces."""
    import altair as alt

    known = [(record, name) for record, name in zip(records, series, strict=True) if record.nmes]
    if not known:
        return None
    shown = known[:MOST_SERIES]
    rows = [row for record, name in shown for row in ced_rows(name, record.nmes)]
    curves = (
        alt.Chart(alt.NamedData(name="rows"))
        .mark_line(interpolate="step-after", strokeWidth=2, clip=True)
        .encode(
            alt.X("nme:Q")
            .title("NME of a face (%)")
            .scale(domain=[0, REACH * FAILURE_THRESHOLD], nice=False)
            .axis(tickCount=8),
            alt.Y("share:Q").title("faces below it (%)").scale(domain=[0, 100]),
            color=alt.Color("series:N").title(None),
            order="nme:Q",
            tooltip=["series:N", alt.Tooltip("nme:Q", format=".2f"), alt.Tooltip("share:Q", format=".1f")],
        )
    )
    threshold = alt.InlineData([{"nme": FAILURE_THRESHOLD, "told": f"failure: over {FAILURE_THRESHOLD:g} %"}])
    rule = alt.Chart(threshold).mark_rule(color=INK, strokeDash=[4, 3]).encode(x="nme:Q")
    told = (
        alt.Chart(threshold)
        .mark_text(align="left", dx=5, color=INK)
        .encode(x="nme:Q", y=alt.value(10), text="told:N")
    )
    return Figure(
        key="ced",
        title="Errors over the faces",
        reading="The higher a curve, the more faces have an error of at most what stands below.",
        alt="Cumulative error distribution: share of faces over NME, a curve for each bundle",
        spec=spec_of(alt.layer(curves, rule, told)),
        rows=rows,
        commands=commands,
        chooser=Chooser("series", "Bundles", many=True),
        note=left_out(len(shown), len(known), "curves"),
    )


def ced_rows(series: str, nmes: Sequence[float]) -> list[Row]:
    """The curve of ``nmes``: each face a step, or where there are many, one at every 160th part of them."""
    ordered = np.sort(np.array(nmes))
    places = np.arange(len(ordered))
    if len(ordered) > MOST_STEPS:
        places = np.unique(np.linspace(0, len(ordered) - 1, MOST_STEPS).round().astype(int))
    shares = 100.0 * (places + 1) / len(ordered)
    start = {"series": series, "nme": 0.0, "share": 0.0}
    return [
        start,
        *(
            {"series": series, "nme": nme, "share": share}
            for nme, share in zip(ordered[places].tolist(), shares.tolist(), strict=True)
        ),
    ]


def subset_figure(
    records: Sequence[AccuracyRecord], series: Sequence[str], commands: tuple[str, ...]
) -> Figure | None:
    """The NME on each subset with its interval; None where the faces have no subsets."""
    import altair as alt

    known = [(record, name) for record, name in zip(records, series, strict=True) if record.subsets]
    if not known:
        return None
    shown = known[:MOST_SERIES]
    rows = [row for record, name in shown for row in subset_rows(name, record)]
    subsets = len({row["subset"] for row in rows})
    across = alt.X("nme:Q").title("NME (%)").scale(zero=True).axis(tickCount=8)
    down = alt.Y("subset:N").title(None).sort(None)
    base = alt.Chart(alt.NamedData(name="rows")).encode(down, yOffset=alt.YOffset("series:N").sort(None))
    told = [
        "series:N",
        "subset:N",
        "images:Q",
        *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("nme", "low", "high")),
    ]
    bars = base.mark_bar(opacity=0.85, cornerRadiusEnd=2).encode(
        across, color=alt.Color("series:N").title(None), tooltip=told
    )
    reach = (
        base.mark_rule(color=INK, strokeWidth=1.4)
        .encode(alt.X("low:Q"), x2="high:Q")
        .transform_filter("isValid(datum.low)")
    )
    return Figure(
        key="subsets",
        title="Error on each subset",
        reading="Shorter is better; a line over the end of a bar is the 95 % interval of its mean.",
        alt="Bars of the NME on each subset of the faces, a bar for each bundle",
        spec=spec_of(alt.layer(bars, reach), height=max(120, 90 * subsets)),
        rows=rows,
        commands=commands,
        chooser=Chooser("series", "Bundles", many=True),
        note=left_out(len(shown), len(known), "bundles"),
    )


def subset_rows(series: str, record: AccuracyRecord) -> list[Row]:
    """The NME on all faces and on each subset, with intervals where the NMEs of single faces were kept."""
    interval = record.nme_interval
    if interval is None and record.nmes:
        interval = mean_interval(np.array(record.nmes))
    low, high = interval or (None, None)
    rows: list[Row] = [
        {
            "series": series,
            "subset": "all",
            "images": record.images,
            "nme": record.nme,
            "low": low,
            "high": high,
        }
    ]
    for name, figures in record.subsets.items():
        nmes = record.subset_nmes.get(name)
        low, high = mean_interval(np.array(nmes)) if nmes else (None, None)
        rows.append(
            {
                "series": series,
                "subset": name,
                "images": figures["images"],
                "nme": figures["nme"],
                "low": low,
                "high": high,
            }
        )
    return rows
