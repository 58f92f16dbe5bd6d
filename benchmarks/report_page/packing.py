"""Rows of a figure as compact JSON for the page, and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

DIGITS = 5
"""Significant digits of a number in the page, more than any figure is sure of."""


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """``rows``, all of the same names, by columns: texts are told once, and then by their number.

    A column is a list of values, or ``{"values": [...], "codes": [...]}``.
    """
    names = list(rows[0]) if rows else []
    return {name: _column([row[name] for row in rows]) for name in names}


def _column(values: Sequence[Any]) -> Any:
    if not any(isinstance(value, str) for value in values):
        return [rounded(value) for value in values]
    told = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return {"values": list(told), "codes": [told[value] for value in values]}


def rounded(value: Any) -> Any:
    """A float of DIGITS significant digits; whatever else is left as it is."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def script_json(document: Any) -> str:
    """``document`` as JSON that can stand within a script element, whatever texts it holds."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def csv_text(rows: Sequence[Row]) -> str:
    """``rows`` with a header; what is None is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
