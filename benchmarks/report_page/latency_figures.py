"""Figures of latency: over batch sizes, and over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slimalign.benchmarks.report_page.chosen import left_out, way_of
from slimalign.benchmarks.report_page.figure import (
    INK,
    MOST_SERIES,
    Chooser,
    Figure,
    precision_scale,
    runtime_scale,
    spec_of,
)
from slimalign.benchmarks.report_page.packing import Row
from slimalign.benchmarks.results import AnyLatency
from slimalign.benchmarks.throughput import throughput_knee
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.timing import Record

WHOLE = "datum.value % 1 ? '' : datum.label"
"""Between two visits stands no number."""
PARTS = 10
"""Into so many equal parts the calls of a record are told that does not know its visits."""


def sweep_figures(
    latencies: Sequence[AnyLatency], names: Mapping[str, str], order: Sequence[str], commands: tuple[str, ...]
) -> list[Figure]:
    """Images a second and time an image over the batch size; none where nothing was timed at two sizes."""
    sweeps = sweeps_of(latencies, order)
    if not sweeps:
        return []
    bundles = list(dict.fromkeys(record.sha256 for sweep in sweeps for record in sweep[:1]))
    kept = set(bundles[:MOST_SERIES])
    note = left_out(len(kept), len(bundles), "bundles")
    shown = [sweep for sweep in sweeps if sweep[0].sha256 in kept]
    titles = sweep_titles(shown, names)
    rows = [row for sweep, title in zip(shown, titles, strict=True) for row in sweep_rows(sweep, title)]
    chooser = Chooser("bundle", "Bundle")
    return [
        Figure(
            "batches-throughput",
            "Images a second over the batch size",
            "Higher is better; a ring marks the batch from which on larger ones bring little.",
            "Lines of images a second over batch size, one for each runtime and thread count",
            _sweep_spec(
                rows, "images_per_s", "images a second", ("images_low", "images_high"), {"zero": True}
            ),
            rows,
            commands,
            chooser,
            note,
        ),
        Figure(
            "batches-time",
            "Time an image over the batch size",
            "Lower is better; it is the median of a call, shared by the images of its batch.",
            "Lines of milliseconds an image over batch size, one for each runtime and thread count",
            _sweep_spec(
                rows, "ms_per_image", "ms an image", ("ms_low", "ms_high"), {"type": "log", "padding": 8}
            ),
            rows,
            commands,
            chooser,
            note,
        ),
    ]


def sweeps_of(latencies: Iterable[AnyLatency], order: Sequence[str]) -> list[list[AnyLatency]]:
    """The latest records that differ in nothing but their batch size, of which there are at least two, by that size;
    bundles are in ``order``.
    """
    sweeps: dict[tuple[Any, ...], dict[int, AnyLatency]] = {}
    for record in latencies:
        if not isinstance(record, ToldLatency) or record.p50_ms:
            key = (record.sha256, record.runtime, record.threads, record.target, record.cpu, record.protocol)
            sweeps.setdefault(key, {})[record.batch] = record
    rank = {sha256: number for number, sha256 in enumerate(order)}
    found = [[sweep[size] for size in sorted(sweep)] for sweep in sweeps.values() if len(sweep) > 1]
    return sorted(found, key=lambda sweep: (rank[sweep[0].sha256], sweep[0].runtime, sweep[0].threads))


def sweep_titles(sweeps: Sequence[Sequence[AnyLatency]], names: Mapping[str, str]) -> list[str]:
    """By what each sweep is chosen: its bundle, and the precision, target and protocol where one bundle has several.

    Colour and dash of a line are its runtime and threads: what else lines differ in keeps them apart.
    """
    kinds = [(sweep[0].precision, sweep[0].target, sweep[0].protocol) for sweep in sweeps]
    held: dict[str, set[tuple[str, str, str]]] = {}
    for sweep, kind in zip(sweeps, kinds, strict=True):
        held.setdefault(names[sweep[0].sha256], set()).add(kind)
    titles = []
    for sweep, kind in zip(sweeps, kinds, strict=True):
        name = names[sweep[0].sha256]
        several = [len(set(column)) > 1 for column in zip(*held[name], strict=True)]
        words = [word for word, told in zip(kind, several, strict=True) if told]
        titles.append(" · ".join([name, *words]))
    return titles


def sweep_rows(sweep: Sequence[AnyLatency], title: str) -> list[Row]:
    """One row for each batch size of one of ``sweeps_of``."""
    medians = [record.p50_ms or 0.0 for record in sweep]
    throughputs = {
        r.batch: 1000.0 * r.batch / ms if ms else 0.0 for r, ms in zip(sweep, medians, strict=True)
    }
    measured = [record for record in sweep if isinstance(record, Record)]
    knee = throughput_knee(measured) if all(medians) else None
    rows: list[Row] = []
    for record, median in zip(sweep, medians, strict=True):
        batch = record.batch
        low, high = (
            record.intervals.get("p50_ms", (None, None)) if isinstance(record, Record) else (None, None)
        )
        threads = f"{record.threads} thread{'s' if record.threads > 1 else ''}"
        rows.append(
            {
                "bundle": title,
                "runtime": record.runtime,
                "way": f"{way_of(record.runtime, record.precision)}, {threads}, {record.target}, {record.protocol}",
                "precision": record.precision,
                "threads": threads,
                "batch": batch,
                "images_per_s": throughputs[batch],
                "images_low": 1000.0 * batch / high if high else None,
                "images_high": 1000.0 * batch / low if low else None,
                "ms_per_image": median / batch,
                "ms_low": None if low is None else low / batch,
                "ms_high": None if high is None else high / batch,
                "knee": int(batch == knee),
            }
        )
    return rows


def _sweep_spec(
    rows: Sequence[Row], field: str, title: str, ends: tuple[str, str], scale: Mapping[str, Any]
) -> dict[str, Any]:
    import altair as alt

    names, colours = runtime_scale([row["runtime"] for row in rows])
    batches = sorted({row["batch"] for row in rows})
    across = (
        alt.X("batch:Q")
        .scale(type="log", base=2, nice=False, padding=16)
        .title("batch size")
        .axis(values=batches, format="d")
    )
    up = alt.Y(f"{field}:Q").title(title).axis(format="~s" if scale.get("zero") else "~g").scale(**scale)
    colour = alt.Color("runtime:N").scale(domain=names, range=colours).title("runtime")
    dash = alt.StrokeDash("threads:N").title("threads")
    base = alt.Chart(alt.NamedData(name="rows")).encode(across, up, detail="way:N")
    told = ["bundle:N", "way:N", "batch:Q", *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in (field, *ends))]
    lines = base.mark_line(strokeWidth=2).encode(color=colour, strokeDash=dash)
    precisions, shapes = precision_scale([row["precision"] for row in rows])
    shape = alt.Shape("precision:N").scale(domain=precisions, range=shapes).title("precision")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(color=colour, shape=shape, tooltip=told)
    reach = (
        alt.Chart(alt.NamedData(name="rows"))
        .mark_rule()
        .encode(across, alt.Y(f"{ends[0]}:Q"), y2=f"{ends[1]}:Q", color=colour)
        .transform_filter(f"isValid(datum.{ends[0]})")
    )
    knees = base.mark_point(size=210, color=INK, strokeWidth=1.3, fillOpacity=0).transform_filter(
        "datum.knee == 1"
    )
    return spec_of(alt.layer(lines, reach, dots, knees))


def time_figure(
    records: Sequence[Record], names: Mapping[str, str], commands: tuple[str, ...]
) -> Figure | None:
    """The median of each visit beside that of the whole record; None without records."""
    import altair as alt

    shown = records[:MOST_SERIES]
    series = time_series(shown, names)
    rows = [row for record, name in zip(shown, series, strict=True) for row in time_rows(record, name)]
    if not rows:
        return None
    base = alt.Chart(alt.NamedData(name="rows")).encode(
        alt.X("visit:Q").title("visit, in the order they were made").axis(format="d", labelExpr=WHOLE),
        alt.Y("share:Q").title("median of the visit (% of the record's)").scale(zero=False, padding=12),
        color=alt.Color("series:N").title(None),
    )
    told = [
        "series:N",
        "visit:Q",
        "calls:Q",
        *(alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("p50_ms", "p90_ms", "share")),
    ]
    even = (
        alt.Chart(alt.InlineData([{"share": 100}]))
        .mark_rule(color=INK, strokeDash=[4, 3], opacity=0.6)
        .encode(y="share:Q")
    )
    return Figure(
        key="time",
        title="Latency over time",
        reading="A flat line is a steady machine; one that rises tells of heat or of other work beside it.",
        alt="Lines of the median latency of each visit, in percent of the record's median",
        spec=spec_of(
            alt.layer(
                even,
                base.mark_line(strokeWidth=2),
                base.mark_point(filled=True, size=40, opacity=1).encode(tooltip=told),
            )
        ),
        rows=rows,
        commands=commands,
        chooser=Chooser("series", "Records", many=True),
        note=left_out(len(shown), len(records), "records"),
    )


def time_series(records: Sequence[Record], names: Mapping[str, str]) -> list[str]:
    """What each record is called: its bundle, its way, and of its setting what not all of them share."""
    settings = [
        (f"batch {r.batch}", f"{r.threads} thread{'s' if r.threads > 1 else ''}", r.target, r.protocol)
        for r in records
    ]
    differs = [len(set(column)) > 1 for column in zip(*settings, strict=True)]
    return [
        ", ".join(
            (
                f"{names[record.sha256]} · {way_of(record.runtime, record.precision)}",
                *(word for word, told in zip(setting, differs, strict=True) if told),
            )
        )
        for record, setting in zip(records, settings, strict=True)
    ]


def time_rows(record: Record, series: str) -> list[Row]:
    """The visits of ``record``; where it does not know them, PARTS equal parts of its calls."""
    samples = np.array(record.samples_ms)
    ends = np.cumsum(record.visits)[:-1] if record.visits else None
    parts = np.split(samples, ends) if ends is not None else np.array_split(samples, min(PARTS, len(samples)))
    whole = record.p50_ms or 1.0
    return [
        {
            "series": series,
            "visit": number,
            "calls": len(part),
            "p50_ms": float(np.median(part)),
            "p90_ms": float(np.percentile(part, 90)),
            "share": float(100.0 * np.median(part) / whole),
        }
        for number, part in enumerate(parts, start=1)
        if len(part)
    ]
