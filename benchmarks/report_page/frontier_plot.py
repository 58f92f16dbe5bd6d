"""The frontier: its chart, the points on it for each pair of axes, and the chart as a picture of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimalign.benchmarks.axes import Axis
from slimalign.benchmarks.frontier import Ranking, unbeaten_points
from slimalign.benchmarks.points import Point
from slimalign.benchmarks.report_page.axes import drawn_axes, title
from slimalign.benchmarks.report_page.chosen import point_names
from slimalign.benchmarks.report_page.drawing import save_chart
from slimalign.benchmarks.report_page.figure import INK, SOFT, Spec, precision_scale, runtime_scale, spec_of
from slimalign.benchmarks.report_page.packing import Row
from slimalign.runtimes.errors import UserError

Spot = tuple[float, float]
"""Values across and up."""

NOT_TIMED = "not timed"
ON, UNSURE, OFF, PUBLISHED = "on the frontier", "uncertain", "behind it", "published"
NAME_ROOM = (120.0, 16.0)
"""Pixels across and up that a name takes; where another stands already, none is written."""
PLOT = (640.0, 300.0)
"""Pixels across and up that names are placed for."""
MOST_NAMES = 14


@dataclass(frozen=True)
class Curve:
    """The frontier over two axes, as places of points: the corners of its line, which no point beats by value, and
    those that noise alone may have put on it, or behind.
    """

    line: tuple[int, ...]
    uncertain: tuple[int, ...]


def curve(ranking: Ranking, x: Axis, y: Axis) -> Curve:
    """The frontier of the ``ranking``'s points; places are those in it."""
    # Where nobody was judged on a subset, it is no axis.
    if not any(x.value(point) is not None and y.value(point) is not None for point in ranking.points):
        return Curve((), ())
    found = ranking.frontier((x.name, y.name))
    # Whoever is beaten by value is so by one of these too.
    line = sorted(unbeaten_points(found.points, (x.name, y.name)), key=lambda point: x.value(point) or 0.0)
    place = {id(point): number for number, point in enumerate(ranking.points)}
    return Curve(tuple(place[id(p)] for p in line), tuple(place[id(p)] for p in found.uncertain))


def _named(points: Sequence[Point], shown: Curve, x: Axis, y: Axis) -> set[int]:
    """Places of those on the curve whose names do not lie on each other where all ``points`` are drawn."""
    drawn = [(a, b) for p in points if (a := x.value(p)) and a > 0 and (b := y.value(p)) is not None]
    wanted = [place for place in (*shown.line, *shown.uncertain) if (x.value(points[place]) or 0) > 0]
    found = spaced(
        drawn, [(x.value(points[place]) or 0.0, y.value(points[place]) or 0.0) for place in wanted]
    )
    return {wanted[number] for number in found[:MOST_NAMES]}


def spaced(drawn: Sequence[Spot], wanted: Sequence[Spot], taken: Sequence[Spot] = ()) -> list[int]:
    """Places of the ``wanted`` whose names lie neither on each other nor on those of ``taken``, where all ``drawn``
    are shown with a logarithmic x.
    """
    if not drawn:
        return []
    across = (math.log(min(x for x, _ in drawn)), math.log(max(x for x, _ in drawn)))
    up = (min(y for _, y in drawn), max(y for _, y in drawn))

    def pixels(spot: Spot) -> Spot:
        return (_share(math.log(spot[0]), *across) * PLOT[0], _share(spot[1], *up) * PLOT[1])

    held = [pixels(spot) for spot in taken]
    found = []
    for place, spot in enumerate(map(pixels, wanted)):
        if all(any(abs(spot[i] - other[i]) > NAME_ROOM[i] for i in (0, 1)) for other in held):
            held.append(spot)
            found.append(place)
    return found


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)


def drawn_rows(points: Sequence[Point], found: Curve, x: Axis, y: Axis) -> list[dict[str, Any]]:
    """What the chart draws of ``points``: those with a value on both axes, of which costs are above zero."""
    on, unsure, named = set(found.line), set(found.uncertain), _named(points, found, x, y)
    names = point_names(points)
    rows = []
    for place, point in enumerate(points):
        across, up = x.value(point), y.value(point)
        if across is None or up is None or across <= 0:
            continue
        x_low, x_high = x.interval(point) or (None, None)
        y_low, y_high = y.interval(point) or (None, None)
        state = UNSURE if place in unsure else ON if place in on else OFF
        rows.append(
            {
                "bundle": names[point.sha256],
                "runtime": point.runtime or NOT_TIMED,
                "precision": point.precision or "unknown",
                "x": across,
                "x_low": x_low,
                "x_high": x_high,
                "y": up,
                "y_low": y_low,
                "y_high": y_high,
                "state": state,
                "name": names[point.sha256] if place in named else "",
                "place": place,
            }
        )
    return rows


def frontier_spec(runtimes: Sequence[str], precisions: Sequence[str], interactive: bool) -> Spec:
    """The chart over data named ``points``, ``line`` and ``published``; the axes' titles are set when it is drawn.

    ``interactive`` points carry their place for the page's own box of figures.
    """
    import altair as alt

    points, line, published = (alt.NamedData(name=name) for name in ("points", "line", "published"))
    across = alt.X("x:Q").scale(type="log", nice=False, padding=24).title("x")
    up = alt.Y("y:Q").scale(zero=False, nice=True, padding=16).title("y")
    names, colours = runtime_scale(runtimes)
    colour = alt.Color("runtime:N").scale(domain=names, range=colours).title("runtime")
    precisions, shapes = precision_scale(precisions)
    shape = alt.Shape("precision:N").scale(domain=precisions, range=shapes)
    on, unsure = alt.datum.state == ON, alt.datum.state == UNSURE
    grey = (
        alt.Chart(published)
        .mark_point(shape="circle", filled=True, color="#AEB4BB", size=70, opacity=1)
        .encode(across, up, tooltip="name:N")
    )
    grey_names = (
        alt.Chart(published)
        .mark_text(align="left", dx=7, dy=1, fontSize=10, color="#8C949E")
        .encode(across, up, text="label:N")
    )
    path = (
        alt.Chart(line)
        .mark_line(color="#8C949E", strokeWidth=1.5, interpolate="step-after")
        .encode(across, up, order="order:Q")
    )
    bars = alt.Chart(points).mark_rule(strokeWidth=1.2, opacity=0.6)
    reach_x = bars.encode(alt.X("x_low:Q"), up, x2="x_high:Q", color=colour).transform_filter(
        "isValid(datum.x_low)"
    )
    reach_y = bars.encode(across, alt.Y("y_low:Q"), y2="y_high:Q", color=colour).transform_filter(
        "isValid(datum.y_low)"
    )
    told = alt.Tooltip("place:Q") if interactive else alt.Tooltip("bundle:N")
    spots = alt.Chart(points).encode(across, up, color=colour, shape=shape.title("precision"), tooltip=told)
    dots = (
        spots.mark_point(filled=True)
        .encode(
            size=alt.when(on).then(alt.value(95)).otherwise(alt.value(52)),
            opacity=alt.when(on).then(alt.value(1)).otherwise(alt.value(0.45)),
        )
        .transform_filter(f"datum.state != '{UNSURE}'")
    )
    rings = spots.mark_point(size=85, strokeWidth=2, fill="#ffffff", opacity=1).transform_filter(unsure)
    labels = (
        alt.Chart(points)
        .mark_text(align="left", dx=9, dy=-8, fontSize=11.5, color=INK)
        .encode(across, up, text="name:N")
        .transform_filter("datum.name != ''")
    )
    chart = alt.layer(grey, grey_names, path, reach_x, reach_y, dots, rings, labels)
    return spec_of(chart, height=420)


def set_axes(spec: Spec, x: Axis, y: Axis) -> Spec:
    """``spec`` with what is written along the axes; the line steps where a point of the frontier is met."""
    layers = []
    for layer in spec["layer"]:
        encoding = {**layer["encoding"]}
        for channel, axis in (("x", x), ("y", y)):
            encoding[channel] = {
                **encoding[channel],
                "title": title(axis),
                "axis": {"format": number_format(axis)},
            }
        mark = layer["mark"]
        if mark.get("interpolate"):
            mark = {**mark, "interpolate": step_of(x)}
        layers.append({**layer, "encoding": encoding, "mark": mark})
    return {**spec, "layer": layers}


def step_of(x: Axis) -> str:
    """How the line goes from point to point, so that what lies behind it is beaten."""
    return "step-before" if x.more_is_better else "step-after"


def number_format(axis: Axis) -> str:
    """How figures stand along an axis: 1.5M, but 0.005 of milliseconds."""
    return "~g" if axis.unit in ("ms", "%", "mJ") else "~s"


def line_rows(points: Sequence[Point], found: Curve, x: Axis, y: Axis) -> list[Row]:
    """The corners of the frontier's line."""
    line = [points[place] for place in found.line]
    return [{"x": x.value(p), "y": y.value(p), "order": number} for number, p in enumerate(line)]


def published_dots(
    published: Sequence[Mapping[str, Any]], x: Axis, y: Axis, points: Sequence[Row]
) -> list[Row]:
    """The ``published`` methods that have figures on both axes, labelled where neither those nor ``points`` stand."""
    known = [m for m in published if m.get(x.name) is not None and m.get(y.name) is not None]
    spots = [(m[x.name], m[y.name]) for m in known]
    drawn = [(row["x"], row["y"]) for row in points]
    labelled = set(spaced([*drawn, *spots], spots, drawn))
    return [
        {
            "name": m["name"],
            "label": m["name"].split(" (")[0] if place in labelled else "",
            "source": m["source"],
            "x": a,
            "y": b,
        }
        for place, (m, (a, b)) in enumerate(zip(known, spots, strict=True))
    ]


def save_frontier(points: Sequence[Point], path: str | Path, x: str = "latency", y: str = "nme") -> None:
    """Draw ``points`` and their frontier with ``x`` across and ``y`` up into ``path``, a .png or .svg.

    Latencies are all drawn on one axis: give points of one setting. Points that lack either value are left out.
    Raises UserError where nothing can be drawn, for an axis that is none, or where ``path`` cannot be written.
    """
    costs, errors = ({axis.name: axis for axis in axes} for axes in drawn_axes(points))
    if x not in costs or y not in errors:
        held = ", ".join([*costs, *errors]) or "nothing"
        raise UserError(
            f"none of {len(points)} points has both {x} and {y}; they have {held}; run 'slimalign eval' and 'bench'"
        )
    across, up = costs[x], errors[y]
    found = curve(Ranking(points), across, up)
    rows = drawn_rows(points, found, across, up)
    if not rows:
        raise UserError(
            f"none of {len(points)} points has both {x} and {y}; run 'slimalign eval' and 'bench'"
        )
    spec = set_axes(frontier_spec(*kinds(points), interactive=False), across, up)
    left_out = len(points) - len(rows)
    if left_out:
        told = f"{left_out} points without {x} or {y} are not shown"
        spec["title"] = {"text": told, "color": SOFT, "fontSize": 11, "fontWeight": 400, "anchor": "start"}
    data = {"points": rows, "line": line_rows(points, found, across, up), "published": []}
    save_chart({**spec, "datasets": data}, Path(path))


def kinds(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """The runtimes and precisions among ``points``."""
    runtimes = sorted({point.runtime or NOT_TIMED for point in points})
    return runtimes, sorted({point.precision or "unknown" for point in points})
