"""Training one network on the ground truth alone: the teacher, and architectures to compare."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from slimalign.compress.batches import Batch
from slimalign.compress.losses import GroundTruthLoss
from slimalign.compress.networks.supernet import weights_of
from slimalign.compress.recipe import TrainingRecipe
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces


def train_supervised(
    trainer: Trainer,
    name: str,
    seed_name: str,
    network: nn.Module,
    recipe: TrainingRecipe,
    loss: GroundTruthLoss,
    validation: ValidationFaces,
) -> None:
    """Train ``network`` in place on the ground truth."""
    module = trainer.set_up(network)
    parameters = weights_of(network)
    optimizer = trainer.adam(parameters, recipe.weight_decay)

    def batch_loss(batch: Batch, _: Generator) -> Tensor:
        return loss(module(batch.images).float(), batch.points)

    trainer.run(
        Stage(
            name=name,
            seed_name=seed_name,
            network=network,
            passes=[TrainingPass("train", batch_loss, optimizer, parameters, recipe.learning_rate)],
            epochs=recipe.epochs,
            batch=recipe.batch,
            validate=lambda: {"val_nme": validation.nme(network, trainer.fabric.device)},
        )
    )
