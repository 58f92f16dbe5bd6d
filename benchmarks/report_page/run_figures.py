"""Figures of a run and of a network's layers: the waterfall of NMEs, and where time and work go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slimalign.benchmarks.layers import LayersRecord
from slimalign.benchmarks.report_page.chosen import SHORT_HASH, way_of
from slimalign.benchmarks.report_page.figure import (
    INK,
    MOST_SERIES,
    Chooser,
    Figure,
    runtime_scale,
    spec_of,
)
from slimalign.benchmarks.report_page.frontier_plot import NOT_TIMED
from slimalign.benchmarks.report_page.packing import Row
from slimalign.targets.address import LOCAL

MOST_LAYERS = 24
"""Layers that are drawn for each bundle, the slowest first."""
LAYER_LETTERS = 34
"""Of the end of a layer's name, by which layers differ."""
STEP_FIGURES = ("val_nme", "test_nme", "test_failure_rate", "params", "macs", "size_bytes", "p50_ms")
"""What waterfall.json tells of a step."""
MEASURES = ("time", "multiply-adds", "bytes moved")


def waterfall_figure(waterfall: Mapping[str, Any], commands: tuple[str, ...]) -> Figure:
    """The NME of each step of a run, from ``waterfall``, its waterfall.json."""
    import altair as alt

    rows = waterfall_rows(waterfall)
    names, colours = runtime_scale([row["runtime"] for row in rows])
    told = [
        "step:N",
        "way:N",
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("test_nme", "val_nme", "test_failure_rate")),
        *(alt.Tooltip(f"{name}:Q", format=".3~s") for name in ("params", "macs", "size_bytes")),
        alt.Tooltip("p50_ms:Q", format=".3~g"),
    ]
    base = alt.Chart(alt.NamedData(name="rows")).encode(alt.Y("label:N").sort(None).title(None))
    bars = base.mark_bar(opacity=0.85, cornerRadiusEnd=2, height={"band": 0.62}).encode(
        alt.X("test_nme:Q").title("NME (%)").scale(zero=True).axis(tickCount=8),
        color=alt.Color("runtime:N").scale(domain=names, range=colours).title("runtime"),
        tooltip=told,
    )
    ticks = (
        base.mark_tick(color=INK, thickness=2, height={"band": 0.62})
        .encode(x="val_nme:Q")
        .transform_filter("isValid(datum.val_nme)")
    )
    # Within its bar: at the end it would stand beside the line of the other faces.
    texts = base.mark_text(align="left", color="#ffffff", fontSize=11.5, fontWeight=600).encode(
        x=alt.value(6), text=alt.Text("test_nme:Q", format=".2f")
    )
    return Figure(
        key="waterfall",
        title=f"NME of each step of the run {waterfall['recipe']}",
        reading="From the first network down to the files: a bar is the NME on the test faces, a black line that on "
        "the validation faces.",
        alt="Bars of the NME of each step of the run",
        spec=spec_of(alt.layer(bars, ticks, texts), height=max(140, 34 * len(rows))),
        rows=rows,
        commands=commands,
    )


def waterfall_rows(waterfall: Mapping[str, Any]) -> list[Row]:
    """The steps of ``waterfall``; files of older versions do not tell the precision."""
    rows: list[Row] = []
    for step in waterfall["steps"]:
        way = way_of(step["runtime"], step.get("precision"))
        row: dict[str, Any] = {
            "label": f"{step['step']} · {way}",
            "step": step["step"],
            "runtime": step["runtime"],
            "way": way,
        }
        rows.append({**row, **{name: step.get(name) for name in STEP_FIGURES}})
    return rows


def layers_figure(records: Sequence[LayersRecord], commands: tuple[str, ...]) -> Figure | None:
    """Shares of time, multiply-adds and bytes of each layer; None without records."""
    import altair as alt

    latest = list({record.setting: record for record in records}.values())
    shown = latest[-MOST_SERIES:]
    titles = layer_titles(shown)
    rows = [row for record, name in zip(shown, titles, strict=True) for row in layer_rows(record, name)]
    if not rows:
        return None
    note = f"Of each bundle the {MOST_LAYERS} slowest layers are drawn; the command below lists all."
    if len(shown) < len(latest):
        note += f" The last {len(shown)} of {len(latest)} profiles are kept in this page."
    layers = max(sum(row["bundle"] == one for row in rows) for one in {row["bundle"] for row in rows})
    spec = spec_of(
        alt.Chart(alt.NamedData(name="rows"))
        .mark_bar(cornerRadiusEnd=1)
        .encode(
            alt.X("share:Q").title("share of the whole network (%)").axis(tickCount=8).stack(None),
            alt.Y("layer:N")
            .sort(None)
            .title(None)
            .axis(labelExpr=f"truncate(datum.label, {LAYER_LETTERS}, 'left')"),
            yOffset=alt.YOffset("measure:N").sort(list(MEASURES)),
            color=alt.Color("measure:N").scale(domain=list(MEASURES)).title(None),
            tooltip=[
                "layer:N",
                "kind:N",
                "measure:N",
                alt.Tooltip("value:Q", format=".4~s"),
                alt.Tooltip("share:Q", format=".1f"),
            ],
        ),
        height=max(160, 14 * layers),
    )
    return Figure(
        key="layers",
        title="Where time and work go, layer by layer",
        reading="Slow layers stand first; one whose bar of time is far longer than that of its multiply-adds is slow "
        "for what it does.",
        alt="Bars of the share of time, multiply-adds and bytes of each layer",
        spec=spec,
        rows=rows,
        commands=commands,
        chooser=Chooser("bundle", "Bundle"),
        note=note,
    )


def layer_titles(records: Sequence[LayersRecord]) -> list[str]:
    """What each profile is called: bundle, way, threads and target; a part of the sha256 where that is double."""
    titles = []
    for record in records:
        timed = record.runtime is not None
        words = [f"{record.bundle} · {way_of(record.runtime or NOT_TIMED, record.precision)}"]
        if timed and record.threads is not None:
            words.append(f"{record.threads} thread{'s' if record.threads > 1 else ''}")
        titles.append(", ".join([*words, *(() if record.target == LOCAL else (record.target,))]))
    held = Counter(titles)
    return [
        f"{title}, {record.sha256[:SHORT_HASH]}" if held[title] > 1 else title
        for record, title in zip(records, titles, strict=True)
    ]


def layer_names(record: LayersRecord) -> list[str]:
    """The names of the layers; where a file gives one twice, the later ones get a number."""
    taken = {layer.name for layer in record.layers}
    names: list[str] = []
    for layer in record.layers:
        name, number = layer.name, 1
        if name in names:
            while name in taken:
                number += 1
                name = f"{layer.name} ({number})"
            taken.add(name)
        names.append(name)
    return names


def layer_rows(record: LayersRecord, title: str) -> list[Row]:
    """Rows of the slowest layers and each measure that is known; of a file that was not timed those that do most."""
    figures: dict[str, list[float | None]] = {
        "time": [layer.ms for layer in record.layers],
        "multiply-adds": [layer.macs for layer in record.layers],
        "bytes moved": [layer.bytes_moved for layer in record.layers],
    }
    known = {measure: [v or 0.0 for v in values] for measure, values in figures.items() if any(values)}
    if not known:
        return []
    names = layer_names(record)
    leading = next(iter(known.values()))
    order = sorted(range(len(record.layers)), key=lambda place: -leading[place])
    return [
        {
            "bundle": title,
            "layer": names[place],
            "kind": record.layers[place].kind,
            "measure": measure,
            "value": values[place],
            "share": 100.0 * values[place] / sum(values),
        }
        for place in order[:MOST_LAYERS]
        for measure, values in known.items()
    ]
