"""Where a recipe is at work: its faces, its run folder, and what trains and measures its networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import nn

from slimalign.compress.batches import TrainingFaces, seeded
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.processes import failing_together
from slimalign.compress.recipe import CommonRecipe
from slimalign.compress.training import Trainer
from slimalign.compress.validation import ValidationFaces
from slimalign.faces import Faces
from slimalign.runtimes.crop import CropRule

Built = TypeVar("Built", bound=nn.Module)


class Workshop:
    """What the chains of all recipes share."""

    def __init__(
        self, recipe: CommonRecipe, faces: Faces, folder: Path, fabric: Fabric, progress: Progress
    ) -> None:
        self.faces = faces
        self.folder = folder
        self.fabric = fabric
        self.progress = progress
        self.rule = CropRule(recipe.input.size, recipe.input.box_scale)
        self.validation = ValidationFaces(
            faces.val, self.rule, faces.scheme, recipe.data.normaliser, recipe.decoder
        )
        self._common = recipe
        self.trainer = Trainer(
            fabric, self._training_faces(), folder, recipe.seed, progress, recipe.batch_norm_momentum
        )

    def _training_faces(self) -> TrainingFaces:
        task = self.progress.add_task("decoding train", total=len(self.faces.train))
        size = self._common.input.size
        cached = partial(cached_faces, self.faces.train, size, self.folder / "cache")
        with failing_together(self.fabric):
            if self.fabric.is_global_zero:
                cached(lambda: self.progress.advance(task))
        self.progress.remove_task(task)
        return TrainingFaces(
            cached(), self.faces.scheme, size, self.rule.box_scale, self._common.augment, self.fabric.device
        )

    def nme(self, network: nn.Module) -> float:
        """NME on the validation split, in percent."""
        return self.validation.nme(network, self.fabric.device)

    def seeded(self, name: str, build: Callable[[], Built]) -> Built:
        """What ``build`` returns, its random weights drawn from the recipe's seed and ``name`` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(self._common.seed, "weights", name).initial_seed())
            return build()
