"""The report: what a results file, and the run folder it may lie in, hold, as one page or as a picture."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slimalign.benchmarks.points import Point, join
from slimalign.benchmarks.report_page.frontier_plot import save_frontier
from slimalign.benchmarks.report_page.page import Subject, page_of
from slimalign.benchmarks.report_page.saved import save_figures
from slimalign.benchmarks.report_page.settings import Ranked, Setting, ranked
from slimalign.benchmarks.results import Results
from slimalign.measuring import held_records
from slimalign.run_names import (
    ARCHITECTURE_NAME,
    BUNDLES,
    PREDICTIONS_NAME,
    RESULTS_NAME,
    RUN_NAME,
    WATERFALL_NAME,
)
from slimalign.runtimes.bundle import is_bundle, read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_replaceable, write_text

PAGE, PICTURES = ".html", (".png", ".svg")


@dataclass(frozen=True)
class Wish:
    """What a report is to be about: the split and normaliser of its NME, and which latency it opens with.

    ``protocol`` and ``target`` keep other latencies out of it; ``x`` is the cost across. None leaves the choice to
    what the results hold.
    """

    split: str = "val"
    normaliser: str = "inter-ocular"
    protocol: str | None = None
    target: str | None = None
    batch: int | None = None
    threads: int | None = None
    x: str | None = None


@dataclass(frozen=True)
class Report:
    """What was written, and the ``points`` of the setting that it opens with, one of ``settings``."""

    points: list[Point]
    settings: int
    files: list[Path]


def report(given: Path, out: Path, wish: Wish, figures: Path | None = None) -> Report:
    """Write the report of ``given``, a results file or a run folder, to ``out``: .html, or the frontier as .png, .svg.

    ``figures`` is a folder for every figure as SVG and CSV. Raises UserError where the results hold nothing of what is
    wished, or a file cannot be written.
    """
    if out.suffix not in (PAGE, *PICTURES):
        raise UserError(
            f"{out}: a report is written as .html, its frontier alone as .png or .svg; change its ending"
        )
    check_replaceable(out)
    path = given / RESULTS_NAME if given.is_dir() else given
    found = held_records(path, wish.split, wish.normaliser, wish.protocol, wish.target)
    known = ranked(found, wish.split, wish.normaliser)
    shown = _shown(found, known, wish)
    files = [out]
    if out.suffix != PAGE:
        # One picture has room for one machine: several are refused.
        points = join(found, wish.split, wish.normaliser, batch=shown.batch, threads=shown.threads)
        save_frontier(points, out, wish.x or "latency")
    if out.suffix == PAGE or figures is not None:
        page = page_of(_subject(path, _again(path, out, wish, figures), found, known, shown, wish))
        if out.suffix == PAGE:
            write_text(out, page.html)
        if figures is not None:
            files += save_figures(page, figures)
    return Report(known.at(shown), len(known.settings), files)


def _shown(found: Results, known: Ranked, wish: Wish) -> Setting:
    for setting in known.settings:
        if wish.batch in (None, setting.batch) and wish.threads in (None, setting.threads):
            return setting
    if not found.latencies:
        return known.settings[0]
    asked = (("batch", wish.batch), ("threads", wish.threads))
    words = " ".join(f"--{name} {value}" for name, value in asked if value is not None)
    held = sorted({(record.batch, record.threads) for record in found.latencies})
    listed = ", ".join(f"--batch {size} --threads {count}" for size, count in held)
    raise UserError(f"no latency with {words}; the results hold {listed}")


def _again(path: Path, out: Path, wish: Wish, figures: Path | None) -> str:
    """The command that makes the report again, with all that was wished."""
    wished = ((entry.name, getattr(wish, entry.name)) for entry in fields(wish))
    options = [*wished, ("figures", figures), ("out", out)]
    words = (word for name, value in options if value is not None for word in (f"--{name}", str(value)))
    return shlex.join(["slimalign", "report", str(path), *words])


def _subject(path: Path, again: str, found: Results, known: Ranked, shown: Setting, wish: Wish) -> Subject:
    folder = path.parent
    run = _json(folder / RUN_NAME)
    return Subject(
        results=found,
        path=str(path),
        again=again,
        split=wish.split,
        normaliser=wish.normaliser,
        ranked=known,
        shown=shown,
        x=wish.x,
        places=_places(folder),
        waterfall=_json(folder / WATERFALL_NAME),
        recipe=run,
        run_folder=None if run is None else str(folder),
        architecture=_file(folder / ARCHITECTURE_NAME),
        predictions=_file(folder / PREDICTIONS_NAME),
    )


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _json(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: not JSON; let 'slimalign run' write it again, or move it away") from None
    return document


def _places(folder: Path) -> dict[str, str]:
    """Where the bundles beside the results lie, by their sha256."""
    places = {}
    for path in sorted((folder / BUNDLES).glob("*")):
        if is_bundle(path):
            with suppress(UserError):  # what cannot be read is called by its name
                places[read_bundle(path).sha256] = str(path)
    return places
