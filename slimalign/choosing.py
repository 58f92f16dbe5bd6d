"""The verbs that choose and compare: pick and compare, on results files."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from slimalign.benchmarks import compare as comparing
from slimalign.benchmarks import pick as picking
from slimalign.benchmarks.compare import Comparison
from slimalign.benchmarks.limits import Limits
from slimalign.benchmarks.pick import Choice
from slimalign.benchmarks.points import names_of
from slimalign.benchmarks.results import read
from slimalign.measuring import check_held, points


def pick(
    results: Path,
    limits: Limits,
    runtime: str | None = None,
    precision: str | None = None,
    split: str | None = "val",
    normaliser: str = "inter-ocular",
    protocol: str | None = None,
    target: str | None = None,
    batch: int = 1,
    threads: int = 1,
) -> tuple[Choice, dict[str, str]]:
    """The best point of a results file within ``limits``, and a name for each bundle by its sha256.

    See slimalign.benchmarks.pick for the choice, and ``points`` for the rest.
    """
    found = points(results, split, normaliser, protocol, target, batch, threads)
    return picking.pick(found, limits, runtime, precision), names_of(found)


def compare(
    before: Path,
    after: Path,
    split: str,
    normaliser: str,
    max_worse: float,
    force: bool,
    progress: Progress,
) -> Comparison:
    """What changed from one results file to another, see slimalign.benchmarks.compare.

    Raises UserError too where a file holds accuracy, but none on ``split`` by ``normaliser``.
    """
    held = [read(path) for path in (before, after)]
    for path, found in zip((before, after), held, strict=True):
        check_held(path, found, split, normaliser)
    task = progress.add_task("comparing", total=None)
    comparison = comparing.compare(
        held[0],
        held[1],
        split,
        normaliser,
        max_worse,
        force,
        lambda done, total: progress.update(task, completed=done, total=total),
    )
    progress.remove_task(task)
    return comparison
