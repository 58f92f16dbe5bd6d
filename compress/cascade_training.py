"""Training a cascade: the heatmap network and the stages of regression together (equation 8)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from slimalign.compress.batches import Batch
from slimalign.compress.cascade_losses import HeatmapLoss, scaled_adaptive, task_losses
from slimalign.compress.cascade_recipe import CascadeTrainingRecipe
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade, CascadeOutput
from slimalign.compress.networks.supernet import weights_of
from slimalign.compress.teachers import PointTeacher
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces


class CascadeTask(nn.Module):
    """A cascade and the trained weights of its tasks' losses: ``log_sigmas`` (1 + stages,)."""

    def __init__(self, cascade: Cascade, loss: HeatmapLoss, recipe: CascadeTrainingRecipe) -> None:
        super().__init__()
        self.cascade = cascade
        self.log_sigmas = nn.Parameter(torch.zeros(1 + len(cascade.stages)))
        self._loss, self._recipe = loss, recipe
        self._weights = recipe.task_weights(len(cascade.stages))

    def forward(self, images: Tensor, points: Tensor, taught: Tensor | None = None) -> Tensor:
        """Normalised images (N, 3, S, S) and true points (N, K, 2) in crop pixels -> the loss of equation 8.

        ``taught`` points (N, K, 2) are a teacher's: each task's loss against them is added, weighed by the recipe.
        """
        losses = self.losses(images, points, taught)
        return scaled_adaptive(losses, self.log_sigmas.float(), self._weights)

    def losses(self, images: Tensor, points: Tensor, taught: Tensor | None = None) -> list[Tensor]:
        """The plain loss of each task: the heatmaps' over all stacks, then that of each stage's offsets."""
        found = self.cascade.all_stages(images, self._recipe.backward)
        losses = self._against(found, points)
        if taught is None:
            return losses
        weight = self._recipe.teacher_weight
        return [a + weight * b for a, b in zip(losses, self._against(found, taught), strict=True)]

    def _against(self, found: CascadeOutput, points: Tensor) -> list[Tensor]:
        return task_losses(found.heatmaps, found.points, points, self._loss, STRIDE)


def train_cascade(
    trainer: Trainer,
    name: str,
    cascade: Cascade,
    recipe: CascadeTrainingRecipe,
    loss: HeatmapLoss,
    validation: ValidationFaces,
    teacher: PointTeacher | None = None,
) -> CascadeTask:
    """Train ``cascade`` in place by equation 8; the answer holds it with the weights of its tasks.

    A ``teacher`` sees the same images, and what it finds counts as a second truth.
    """
    task = CascadeTask(cascade, loss, recipe)
    module = trainer.set_up(task)
    # As in distillation the importance factors of a student stay what the search has found.
    weights = weights_of(cascade)
    parameters = [*weights, task.log_sigmas]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": [task.log_sigmas], "weight_decay": 0.0},
    ]
    optimizer = trainer.optimizer(groups, recipe.optimiser)

    def batch_loss(batch: Batch, _: Generator) -> Tensor:
        taught = None if teacher is None else teacher(batch.images)
        out: Tensor = module(batch.images, batch.points, taught)
        return out

    def validate() -> dict[str, float]:
        nmes = validation.stage_nmes(cascade, trainer.fabric.device)
        row = {"val_nme": nmes[-1]} | {f"val_nme_{number}": nme for number, nme in enumerate(nmes)}
        return row | {f"log_sigma_{t}": value for t, value in enumerate(task.log_sigmas.tolist())}

    trainer.run(
        Stage(
            name=name,
            seed_name="cascade",
            network=task,
            passes=[TrainingPass("train", batch_loss, optimizer, parameters, recipe.learning_rate)],
            epochs=recipe.epochs,
            batch=recipe.batch,
            validate=validate,
        )
    )
    return task
