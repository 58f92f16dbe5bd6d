"""What each stage of a cascade is worth: loss and NME at every stage (CHS's figure 6), and how many to keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from slimalign.compress.batches import Batch
from slimalign.compress.cascade_losses import HeatmapLoss, task_losses
from slimalign.compress.cost import count
from slimalign.compress.figures import check_picture_path, new_figure, save_figure
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.validation import inferring
from slimalign.runtimes.intervals import NORMAL_95

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class StageFigures:
    """One number of kept stages: the training loss of the last of them, the NME in percent on validation faces, by how
    much it is lower than after the last stage before it that is sure, with the 95 % interval of that gain, and what the
    whole network costs.

    ``loss`` of 0 stages is that of the heatmaps, of the others equation 7's mean in crop pixels; 0 stages gain nothing.
    """

    stages: int
    loss: float
    nme: float
    gain: float
    gain_interval: tuple[float, float]
    params: int
    macs: int

    @property
    def is_sure(self) -> bool:
        """Whether the stage makes the NME lower by more than its interval."""
        return self.gain_interval[0] > 0


def stage_figures(cascade: Cascade, losses: Sequence[float], nmes: Sequence[Floats]) -> list[StageFigures]:
    """The figures of every number of stages: ``losses`` of each, and ``nmes`` (N,) of single faces after each."""
    figures, best = [], nmes[0]
    for kept, (loss, found) in enumerate(zip(losses, nmes, strict=True)):
        gains = best - found
        # Of a single face nothing is sure.
        reach = (
            NORMAL_95 * float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        )
        gain = float(gains.mean())
        with torch.device("meta"):
            cost = count(Cascade(cascade.shape.keeping(kept)), cascade.shape.input_size)
        interval = (gain - reach, gain + reach)
        one = StageFigures(kept, loss, float(found.mean()), gain, interval, cost.params, cost.macs)
        figures.append(one)
        best = found if one.is_sure else best
    return figures


def proposed_stages(figures: Sequence[StageFigures]) -> int:
    """The last stage that makes the NME lower by more than its interval: what follows does not earn its cost."""
    return max((one.stages for one in figures if one.is_sure), default=0)


@torch.inference_mode()
def stage_losses(cascade: Cascade, batches: Iterable[Batch], loss: HeatmapLoss) -> list[float]:
    """The loss of the heatmaps, then of each stage's offsets, over ``batches`` of training faces."""
    rows = []
    with inferring(cascade):
        for batch in batches:
            found = cascade.all_stages(batch.images)
            losses = task_losses(found.heatmaps, found.points, batch.points, loss, STRIDE)
            rows.append([float(one) for one in losses])
    means: list[float] = np.mean(rows, axis=0).tolist()
    return means


def draw_stages(figures: Sequence[StageFigures], proposed: int, path: Path, title: str) -> None:
    """CHS's figure 6: the stages' training loss and validation NME, kept ones filled; ``path`` a .png or .svg."""
    path = check_picture_path(path)
    figure = new_figure(7.0, 3.6)
    left, right = figure.subplots(1, 2)
    stages = [one.stages for one in figures]
    nmes = [one.nme for one in figures]
    reaches = [(one.gain_interval[1] - one.gain_interval[0]) / 2 for one in figures]
    for axes, values, name in (
        (left, [one.loss for one in figures[1:]], "training loss of offsets"),
        (right, nmes, "NME on validation faces, %"),
    ):
        across = stages[len(stages) - len(values) :]
        axes.plot(across, values, color="#7a7e85", zorder=1)
        if axes is right:
            axes.errorbar(across[1:], values[1:], yerr=reaches[1:], fmt="none", ecolor="#b9bdc4", capsize=3)
        for stage, value in zip(across, values, strict=True):
            kept = stage <= proposed
            axes.scatter(
                [stage], [value], s=42, zorder=2, color="#d1495b" if kept else "#ffffff", edgecolor="#d1495b"
            )
        axes.set_xticks(across, ["heatmaps" if stage == 0 else f"{stage}" for stage in across])
        axes.set_xlabel("stages of regression")
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}: {proposed} of {stages[-1]} stages earn their cost (filled)", fontsize=11)
    save_figure(figure, path)
