"""Architecture search: equation 2 on the supernet, factors and weights in turn (algorithm 1)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from slimalign.compress.batches import Batch
from slimalign.compress.losses import GroundTruthLoss, sparsity
from slimalign.compress.networks.supernet import HRSuperNet, weights_of
from slimalign.compress.recipe import SearchRecipe
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces


def search(
    trainer: Trainer,
    supernet: HRSuperNet,
    recipe: SearchRecipe,
    loss: GroundTruthLoss,
    validation: ValidationFaces,
) -> None:
    """Train ``supernet`` in place: each epoch a pass for the factors only, then one for the weights only.

    Both minimise equation 2; its L1 term has no gradient for the weights.
    """
    with torch.no_grad():
        supernet.factors.fill_(recipe.initial_factor)
    module = trainer.set_up(supernet)
    factors = [supernet.factors]
    weights = weights_of(supernet)

    def batch_loss(batch: Batch, _: Generator) -> Tensor:
        return loss(module(batch.images).float(), batch.points) + recipe.sparsity * sparsity(supernet.factors)

    weight_optimizer = trainer.adam(weights, recipe.weight_decay)
    # The paper leaves the factors' schedule open. Theirs falls with the weights', so that the weights can still
    # follow the factors' last steps.
    schedule = recipe.learning_rate.model_copy(update={"peak": recipe.factor_learning_rate})
    trainer.run(
        Stage(
            name="supernet",
            seed_name="supernet",
            network=supernet,
            passes=[
                TrainingPass("factors", batch_loss, trainer.adam(factors), factors, schedule),
                TrainingPass("weights", batch_loss, weight_optimizer, weights, recipe.learning_rate),
            ],
            epochs=recipe.epochs,
            batch=recipe.batch,
            validate=lambda: (
                {"val_nme": validation.nme(supernet, trainer.fabric.device)}
                | factor_figures(supernet.factors)
            ),
        )
    )


def factor_figures(factors: Tensor) -> dict[str, float]:
    """How the importance factors are spread: quantiles of their magnitudes."""
    magnitudes = factors.detach().abs().float().cpu()
    quantiles = torch.quantile(magnitudes, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
    return dict(
        zip(["factor_q05", "factor_q25", "factor_q50", "factor_q75", "factor_q95"], quantiles, strict=True)
    )
