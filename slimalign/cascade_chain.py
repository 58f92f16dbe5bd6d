"""A cascade's recipe at work: the heatmap network and its stages trained together, and what each stage is worth."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from lightning_fabric import Fabric
from rich.progress import Progress
from torch import nn

from slimalign.compress.batches import seeded
from slimalign.compress.boundary import boundary_segments
from slimalign.compress.cascade_losses import AdaptiveWingLoss, HeatmapLoss, StackedSoftmaxLoss
from slimalign.compress.cascade_recipe import CascadeRecipe, StudentHeatmap
from slimalign.compress.cascade_training import train_cascade
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade, StudentBranches
from slimalign.compress.networks.cascade_shape import CascadeShape, HourglassShape
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.processes import failing_together
from slimalign.compress.stage_curve import (
    StageFigures,
    draw_stages,
    proposed_stages,
    stage_figures,
    stage_losses,
)
from slimalign.compress.teachers import PointTeacher, taught_by
from slimalign.compress.torch_files import read_network
from slimalign.faces import Faces
from slimalign.run_names import CASCADE_NAME, STAGES_NAME
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.workshop import Workshop

LOSS_BATCHES = 20
"""Batches of training faces on which the stages' losses are measured."""


class CascadeChain(Workshop):
    """A recipe of a cascade at work in a run folder."""

    def __init__(
        self, recipe: CascadeRecipe, faces: Faces, folder: Path, fabric: Fabric, progress: Progress
    ) -> None:
        super().__init__(recipe, faces, folder, fabric, progress)
        self.recipe = recipe
        self._student = student_of(recipe)

    @property
    def _loss(self) -> HeatmapLoss:
        sigma = self.recipe.input.sigma
        if self.recipe.loss == "softmax":
            return StackedSoftmaxLoss(STRIDE, sigma)
        heatmap = self.recipe.heatmap
        has_boundary = isinstance(heatmap, HourglassShape) and heatmap.boundary
        segments = boundary_segments(self.faces.scheme) if has_boundary else None
        return AdaptiveWingLoss(STRIDE, sigma, segments)

    def cascade(self) -> Cascade:
        """The heatmap network and all stages, trained together; its shape is kept in the run folder."""
        cascade = self._trained("cascade", self.recipe.regression.stages)
        with failing_together(self.fabric):
            if self.fabric.is_global_zero:
                write_text(self.folder / CASCADE_NAME, cascade.shape.model_dump_json(indent=1) + "\n")
        return cascade

    def alone(self) -> Cascade | None:
        """The heatmap network, trained without stages; None where the recipe does not ask for it."""
        return self._trained("alone", 0) if self.recipe.alone else None

    def _trained(self, name: str, stages: int) -> Cascade:
        shape = cascade_shape_of(self.recipe, self._student).keeping(stages)
        cascade = self.seeded("cascade", lambda: Cascade(shape))
        if self._student is not None:
            cascade.heatmap = StudentBranches(copy.deepcopy(self._student))
        teacher = teacher_of_cascade(self.recipe)
        if teacher is not None:
            teacher.to(self.fabric.device)
        train_cascade(self.trainer, name, cascade, self.recipe.training, self._loss, self.validation, teacher)
        return cascade

    def stages(self, cascade: Cascade) -> list[StageFigures]:
        """What each stage is worth, kept in the run folder as JSON and drawn, see StageFigures."""
        rng = seeded(self.recipe.seed, "stages")
        batches = self.trainer.faces.batches(self.recipe.training.batch, rng)
        losses = stage_losses(cascade, islice(batches, LOSS_BATCHES), self._loss)
        nmes = self.validation.stage_image_nmes(cascade, self.fabric.device)
        figures = stage_figures(cascade, losses, nmes)
        with failing_together(self.fabric):
            if self.fabric.is_global_zero:
                text = json.dumps([asdict(one) for one in figures], indent=1) + "\n"
                write_text(self.folder / STAGES_NAME, text)
                draw_stages(figures, self.kept(figures), self.folder / "stages.png", self.recipe.name)
        return figures

    def kept(self, figures: Sequence[StageFigures]) -> int:
        """How many stages the run keeps: all, where there are no faces to choose by but those of the test."""
        return proposed_stages(figures) if self.faces.has_validation else len(figures) - 1


def cascade_shape_of(recipe: CascadeRecipe, student: HRSuperNet | None) -> CascadeShape:
    """The shape of the cascade with all stages, the ``student`` being the one that the recipe names, if any."""
    return recipe.shape(
        scheme_named(recipe.data.scheme).count, None if student is None else student.architecture
    )


def teacher_of_cascade(recipe: CascadeRecipe) -> PointTeacher | None:
    """The teacher of ``recipe``, where it names one."""
    if recipe.teacher is None:
        return None
    return PointTeacher(taught_by(recipe.teacher.bundle, recipe), recipe.input.size)


def student_of(recipe: CascadeRecipe) -> HRSuperNet | None:
    """The student that the recipe names as its heatmap network; None where it is made of hourglasses.

    Raises UserError where the bundle holds another network, or one of another input or scheme.
    """
    if not isinstance(recipe.heatmap, StudentHeatmap):
        return None
    place = Path(recipe.heatmap.bundle)
    bundle = read_bundle(place)
    network: nn.Module | None = read_network(bundle.folder) if bundle.manifest.format == "torch" else None
    if not isinstance(network, HRSuperNet):
        raise UserError(
            f"heatmap.bundle = {place}: holds no student of a supernet; give the PyTorch bundle of a run's student"
        )
    manifest = bundle.manifest
    wanted = {
        "data.scheme": (recipe.data.scheme, manifest.scheme),
        "input.size": (recipe.input.size, manifest.input_size),
        "input.box_scale": (recipe.input.box_scale, manifest.box_scale),
        "decoder": (recipe.decoder, manifest.decoder),
    }
    for entry, (ours, theirs) in wanted.items():
        if ours != theirs:
            raise UserError(
                f"heatmap.bundle = {place}: its student has {entry} = {theirs}, the recipe {ours}; change the "
                "recipe, or give another bundle"
            )
    return network.train()
