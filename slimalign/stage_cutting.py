"""Cutting a trained cascade to its first stages: how many earn their cost, or are within a budget, or are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import Progress

from slimalign.benchmarks.results import read
from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.checkpoint import CHECKPOINT_NAME, load_weights, read_checkpoint
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.cascade_shape import read_cascade_shape
from slimalign.compress.stage_curve import StageFigures, proposed_stages
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.workbench import Workbench
from slimalign.export_jobs import tell
from slimalign.exporting import parity_crops
from slimalign.run_names import CASCADE_NAME, RESULTS_NAME, STAGES_NAME, WATERFALL_NAME
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.waterfall import CASCADE, subject_of

TRAINED = "cascade."
"""What the names of the cascade's weights begin with in a checkpoint."""


@dataclass(frozen=True)
class CutWish:
    """How far to cut, as the command line's options; a cascade takes ``keep_stages`` or a budget."""

    threshold: float | None = None
    max_gmacs: float | None = None
    max_params: int | None = None
    max_ms: float | None = None
    latency_table: str | None = None
    keep_stages: int | None = None


@dataclass(frozen=True)
class StageCut:
    """A cascade cut to its first ``kept`` stages: its bundle, and the figures of every number of stages.

    ``ms`` are the milliseconds of each number of stages that was measured, in ``runtime`` at batch 1 on one thread.
    """

    bundle: Bundle
    kept: int
    figures: Sequence[StageFigures]
    ms: Mapping[int, float]
    runtime: str


def cut_stages(
    folder: Path, recipe: CascadeRecipe, wish: CutWish, place: Path, progress: Progress
) -> StageCut:
    """Write the cascade of the run in ``folder``, cut, as the PyTorch bundle ``place``.

    The stages that are asked for stay; else as many as earn their cost and the budget allows. Raises UserError for
    more stages than there are, and for a budget that not even the heatmap network alone meets.
    """
    cascade = trained_cascade(folder)
    figures = known_stages(folder)
    runtime, ms = measured_ms(folder, len(cascade.stages))
    if wish.keep_stages is None:
        kept = _within(figures, ms, wish)
    elif wish != CutWish(keep_stages=wish.keep_stages):
        raise UserError(
            f"--keep-stages {wish.keep_stages}: says how far to cut by itself; leave the other limits out"
        )
    else:
        kept = wish.keep_stages
    cut = cascade.keeping(kept)
    name = place.name.removesuffix("-torch")
    bench = Workbench(subject_of(recipe, name, cut), parity_crops(folder, subject_of(recipe, name, cut)))
    bundle = write_bundle(place, bench, "torch", partial(tell, progress, name, "torch"))
    return StageCut(bundle, kept, figures, ms, runtime)


def trained_cascade(folder: Path) -> Cascade:
    """The cascade of a run with all its stages; raises UserError where the run has not come so far."""
    path = folder / CASCADE / CHECKPOINT_NAME
    saved = read_checkpoint(path)
    if saved is None:
        raise UserError(f"{folder}: its cascade is not trained; run the recipe again first")
    cascade = Cascade(read_cascade_shape(folder / CASCADE_NAME))
    weights = {
        name.removeprefix(TRAINED): tensor
        for name, tensor in saved.weights.items()
        if name.startswith(TRAINED)
    }
    load_weights(cascade, weights, str(path))
    return cascade.eval()


def known_stages(folder: Path) -> list[StageFigures]:
    """What each stage of the run's cascade is worth; raises UserError where that was not measured yet."""
    path = folder / STAGES_NAME
    if not path.is_file():
        raise UserError(f"{folder}: holds no {STAGES_NAME}; run the recipe again first")
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [StageFigures(**{**row, "gain_interval": tuple(row["gain_interval"])}) for row in rows]


def measured_ms(folder: Path, stages: int) -> tuple[str, dict[int, float]]:
    """The quickest runtime in which every number of stages was timed, and its p50 for each; none where there is none.

    The number that a run keeps has the run's own name.
    """
    path = folder / RESULTS_NAME
    if not path.is_file() or not (folder / WATERFALL_NAME).is_file():
        return "", {}
    steps = json.loads((folder / WATERFALL_NAME).read_text(encoding="utf-8"))["steps"]
    numbered = {step["step"] for step in steps}
    (kept,) = (number for number in range(stages + 1) if f"{CASCADE}-{number}" not in numbered)
    names = {f"{CASCADE}-{number}": number for number in range(stages + 1)} | {CASCADE: kept}
    found: dict[str, dict[int, float]] = {}
    for record in read(path).latency:
        if record.bundle in names and (record.batch, record.threads, record.target) == (1, 1, "local"):
            way = f"{record.runtime} {record.precision}"
            found.setdefault(way, {})[names[record.bundle]] = record.p50_ms
    whole = {way: ms for way, ms in found.items() if len(ms) == stages + 1}
    return min(whole.items(), key=lambda entry: sum(entry[1].values()), default=("", {}))


def _within(figures: Sequence[StageFigures], ms: Mapping[int, float], budget: CutWish) -> int:
    """As many stages as earn their cost, of those that the ``budget`` allows."""
    if budget.threshold is not None or budget.latency_table is not None:
        raise UserError(
            "--threshold, --latency-table: for supernets; a cascade takes --keep-stages, --max-gmacs, --max-params or "
            "--max-ms, by what its run measured"
        )
    if budget.max_ms is not None and not ms:
        raise UserError(
            "--max-ms: the run has no latency of every number of stages; run the recipe again first"
        )
    allowed = [
        one
        for one in figures
        if (budget.max_gmacs is None or one.macs <= budget.max_gmacs * 1e9)
        and (budget.max_params is None or one.params <= budget.max_params)
        and (budget.max_ms is None or ms[one.stages] <= budget.max_ms)
    ]
    if not allowed:
        least, told = figures[0], f", {ms[0]:.2f} ms" if ms else ""
        raise UserError(
            f"slim: not even the heatmap network alone meets the budget, it has {least.params} parameters and "
            f"{least.macs / 1e9:.4f} G multiply-adds{told}; raise the budget"
        )
    return proposed_stages(allowed)
