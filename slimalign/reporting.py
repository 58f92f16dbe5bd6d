"""The report: what a results file, and the run folder it may lie in, hold, as one page or as a picture."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slimalign.benchmarks.points import Point, join
from slimalign.benchmarks.report_page.axes import drawn_axes
from slimalign.benchmarks.report_page.frontier_plot import save_frontier
from slimalign.benchmarks.report_page.page import Subject, page_of
from slimalign.benchmarks.report_page.run_figures import STEP_FIGURES
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
    what the results hold. Without ``photos`` no face of a data set is in it.
    """

    split: str = "val"
    normaliser: str = "inter-ocular"
    protocol: str | None = None
    target: str | None = None
    batch: int | None = None
    threads: int | None = None
    x: str | None = None
    photos: bool = True


@dataclass(frozen=True)
class Report:
    """What was written, and the ``points`` of the setting that it opens with, one of ``settings``.

    ``photos`` says that the page shows photographs of people.
    """

    points: list[Point]
    settings: int
    files: list[Path]
    photos: bool = False


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
    _check_cost(path, known, wish.x)
    shown = _shown(found, known, wish)
    files = [out]
    if out.suffix != PAGE:
        # One picture has room for one machine: several are refused.
        points = join(found, wish.split, wish.normaliser, batch=shown.batch, threads=shown.threads)
        save_frontier(points, out, wish.x or "latency")
    subject = _subject(path, _again(path, out, wish, figures), found, known, shown, wish)
    if out.suffix == PAGE or figures is not None:
        page = page_of(subject)
        if out.suffix == PAGE:
            write_text(out, page.html)
        if figures is not None:
            files += save_figures(page, figures)
    return Report(known.at(shown), len(known.settings), files, out.suffix == PAGE and subject.photos)


def _check_cost(path: Path, known: Ranked, x: str | None) -> None:
    """Raise UserError where ``x`` is no cost that a point has."""
    held = [axis.name for axis in drawn_axes(known.points)[0]]
    if x is not None and x not in held:
        raise UserError(f"--x {x}: no cost of {path}; choose one of {', '.join(held) or 'none'}")


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
    wished = ((entry.name, getattr(wish, entry.name)) for entry in fields(wish) if entry.name != "photos")
    options = [*wished, ("figures", figures), ("out", out)]
    words = [word for name, value in options if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["slimalign", "report", str(path), *words, *(() if wish.photos else ("--no-photos",))])


def _subject(path: Path, again: str, found: Results, known: Ranked, shown: Setting, wish: Wish) -> Subject:
    folder = path.parent
    run = _json(folder / RUN_NAME, _is_run)
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
        waterfall=_json(folder / WATERFALL_NAME, _is_waterfall),
        recipe=run,
        run_folder=None if run is None else str(folder),
        architecture=_file(folder / ARCHITECTURE_NAME),
        predictions=_file(folder / PREDICTIONS_NAME) if wish.photos else None,
    )


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _json(path: Path, is_whole: Callable[[Any], bool]) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    mend = "let 'slimalign run' write it again, or move it away"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: not JSON; {mend}") from None
    if not is_whole(document):
        raise UserError(f"{path}: not as 'slimalign run' writes it; {mend}")
    found: Mapping[str, Any] = document
    return found


def _is_run(document: Any) -> bool:
    """Whether ``document`` has what the page takes of a run.json."""
    held = document if isinstance(document, dict) else {}
    data, faces = held.get("data"), held.get("faces")
    return (
        isinstance(held.get("name"), str)
        and isinstance(data, dict)
        and isinstance(data.get("format"), str)
        and isinstance(faces, dict)
        and all(isinstance(text, str) for text in faces.values())
    )


def _is_waterfall(document: Any) -> bool:
    """Whether ``document`` has what the page takes of a waterfall.json: a recipe, and steps with their figures."""
    steps = document.get("steps") if isinstance(document, dict) else None
    return (
        isinstance(steps, list)
        and isinstance(document.get("recipe"), str)
        and len(steps) > 0
        and all(isinstance(step, dict) and _is_step(step) for step in steps)
    )


def _is_step(step: Mapping[str, Any]) -> bool:
    texts = (step.get("step"), step.get("runtime"), step.get("precision", ""))
    figures = (step.get(name) for name in STEP_FIGURES)
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(step.get("test_nme"), (int, float))
        and all(
            value is None or (isinstance(value, (int, float)) and math.isfinite(value)) for value in figures
        )
    )


def _places(folder: Path) -> dict[str, str]:
    """Where the bundles beside the results lie, by their sha256."""
    places = {}
    for path in sorted((folder / BUNDLES).glob("*")):
        if is_bundle(path):
            with suppress(UserError):  # what cannot be read is called by its name
                places[read_bundle(path).sha256] = str(path)
    return places
