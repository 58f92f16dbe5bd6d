"""Charts as files, drawn without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimalign.benchmarks.report_page.figure import WIDTH
from slimalign.compress.figures import check_picture_path
from slimalign.runtimes.files import replacing

SCALE = 2.0
"""Pixels of a PNG for each of the chart's."""


def chart_svg(spec: Mapping[str, Any]) -> str:
    """``spec``, Vega-Lite with its data, as SVG."""
    import vl_convert

    return vl_convert.vegalite_to_svg(_of_fixed_width(spec))


def save_chart(spec: Mapping[str, Any], path: Path) -> None:
    """Write ``spec``, Vega-Lite with its data, to ``path`` by way of a file beside it.

    Raises UserError where ``path`` ends in neither .png nor .svg, or cannot be written.
    """
    import vl_convert

    path = check_picture_path(path)
    if path.suffix == ".svg":
        data = chart_svg(spec).encode()
    else:
        data = vl_convert.vegalite_to_png(_of_fixed_width(spec), scale=SCALE)
    with replacing(path) as beside:
        beside.write_bytes(data)


def _of_fixed_width(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Only a page has a width to fit."""
    return {**spec, "width": WIDTH}
