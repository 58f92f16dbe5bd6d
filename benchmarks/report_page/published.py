"""Figures of published methods, where they were found on the faces that the results are about."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import Any

AXES_WITH_PUBLISHED = ("params", "macs")
WFLW_SUBSETS = frozenset({"pose", "expression", "illumination", "make-up", "occlusion", "blur"})
LABEL = "published, 256x256, other training data"

Parts = Mapping[str, str]
"""The axis of ours, and the part of the data set that papers give."""

PARTS_300W: Parts = MappingProxyType({"nme": "full", "nme:common": "common", "nme:challenge": "challenge"})


def published_parts(
    subsets: Collection[str], normaliser: str, data_format: str | None
) -> tuple[str, Parts] | None:
    """The data set of the papers that results with these ``subsets`` may stand beside, and its parts by our axes.

    ``data_format`` is how the faces were read where that is known. None where the faces are others: no set of the
    papers, its faces known by its subsets, or not judged by the papers' ``normaliser``.
    """
    held = set(subsets)
    if normaliser != "inter-ocular":
        return None
    if {"common", "challenge"} <= held:
        return "300w", PARTS_300W
    if "common" in held or "challenge" in held:
        (part,) = held & {"common", "challenge"}
        return "300w", {"nme": part, f"nme:{part}": part}
    if held >= WFLW_SUBSETS or data_format == "wflw":
        return "wflw", {"nme": "full"}
    return ("cofw", {"nme": "full"}) if data_format == "cofw" else None


def published_rows(dataset: str, parts: Parts) -> list[dict[str, Any]]:
    """The methods with figures on ``dataset``: name, source, ``params``, ``macs`` and an NME by each axis of ours."""
    text = (files("slimalign.benchmarks.report_page") / "published.json").read_text(encoding="utf-8")
    methods: Sequence[dict[str, Any]] = json.loads(text)["methods"]
    return [
        {
            "name": method["name"],
            "source": method["source"],
            **{name: method[name] for name in AXES_WITH_PUBLISHED},
            **{axis: method["nme"].get(part) for axis, part in parts.items()},
        }
        for method in methods
        if method["dataset"] == dataset
    ]
