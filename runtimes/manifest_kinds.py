"""What kind of value each entry of ``bundle.json`` must be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimalign.runtimes.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What an entry must be, in ``words``; ``holds`` says whether a value that was read is that."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self) -> Kind:
        """That, or null."""
        return Kind(f"{self.words} or null", lambda value: value is None or self.holds(value))

    def by_name(self) -> Kind:
        """An object of which each value is that."""
        return Kind(
            f"an object in which each value is {self.words}",
            lambda value: isinstance(value, dict) and all(map(self.holds, value.values())),
        )

    def listed(self) -> Kind:
        """A list of which each value is that."""
        return Kind(
            f"a list of which each value is {self.words}",
            lambda value: isinstance(value, list) and all(map(self.holds, value)),
        )

    def three_times(self) -> Kind:
        """A list of three of that."""
        return Kind(
            f"a list of three values, each {self.words}",
            lambda value: isinstance(value, list) and len(value) == 3 and all(map(self.holds, value)),
        )


_TEXT = Kind("text", lambda value: isinstance(value, str))
# Not by isinstance: true and false are whole numbers to Python.
_WHOLE = Kind("a whole number", lambda value: type(value) is int)
_COUNT = Kind("a whole number from 0", lambda value: type(value) is int and value >= 0)
_NUMBER = Kind("a finite number", lambda value: type(value) in (int, float) and math.isfinite(value))

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "name": _TEXT,
        "model": _TEXT,
        "format": _TEXT,
        "precision": _TEXT,
        "input_size": _WHOLE,
        "box_scale": _NUMBER,
        "layout": _TEXT,
        "mean": _NUMBER.three_times(),
        "std": _NUMBER.three_times(),
        "scheme": _TEXT,
        "decoder": _TEXT,
        "stride": _WHOLE,
        "batch": _WHOLE.or_null(),
        "output": _TEXT,
        "files": _TEXT.by_name(),
        "cost": _COUNT.by_name(),
        "nme": _NUMBER.by_name(),
        "tools": _TEXT.by_name(),
        "calibration": _TEXT.or_null(),
        "int8_share": _NUMBER.or_null(),
        "gate": _NUMBER.by_name().or_null(),
        "score_threshold": _NUMBER.or_null(),
        "colour": _TEXT,
        "output_name": _TEXT.or_null(),
        "origin": _TEXT,
        "values_per_point": _WHOLE,
        "landmarks": _COUNT.listed().or_null(),
        "schema_version": _WHOLE,
    }
)


def check_kinds(data: Mapping[str, Any], path: Path) -> None:
    """Raise UserError for the first entry of a manifest that is of another kind than ``KINDS`` says."""
    for entry, value in data.items():
        if not KINDS[entry].holds(value):
            raise UserError(
                f"{path}: {entry} = {json.dumps(value)}, must be {KINDS[entry].words}; export the bundle again"
            )
