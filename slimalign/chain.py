"""The chain of a recipe: teacher, supernet, slimming, distillation, each step resumed where it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lightning_fabric import Fabric
from rich.progress import Progress
from torch import nn

from slimalign.compress.baseline import random_architecture
from slimalign.compress.batches import seeded
from slimalign.compress.checkpoint import CHECKPOINT_NAME, load_weights, read_checkpoint
from slimalign.compress.distil import ABLATION, Switches, distil
from slimalign.compress.importance import importances_of
from slimalign.compress.losses import GroundTruthLoss, MseLoss, SoftmaxLoss
from slimalign.compress.networks.architecture import STRIDE, Architecture, Operation, read_architecture
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet, operation_key
from slimalign.compress.processes import failing_together
from slimalign.compress.recipe import BaselineRecipe, GivenTeacher, Recipe
from slimalign.compress.search import search
from slimalign.compress.slim import architecture_cost, slimmed_architecture, student_from
from slimalign.compress.supervised import train_supervised
from slimalign.compress.teachers import taught_by
from slimalign.faces import Faces
from slimalign.run_folder import known_importances, recipe_of, with_search
from slimalign.run_names import ARCHITECTURE_NAME, IMPORTANCES_NAME
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.workshop import Workshop

IMPORTANCE_BATCHES = 4
"""Batches of training faces on which the contributions of operations are measured."""


@dataclass(frozen=True)
class Distilled:
    """The outcome of one row of the distillation: its ``students``, the chosen one first."""

    switches: Switches
    students: list[HRSuperNet]

    @property
    def named(self) -> dict[str, HRSuperNet]:
        """The chosen student under the row's name, its peer as ``<row>-other``."""
        name = self.switches.name
        return dict(zip([name, f"{name}-other"], self.students, strict=False))


class Chain(Workshop):
    """A recipe of SD-HRNet at work in a run folder."""

    def __init__(
        self, recipe: Recipe, faces: Faces, folder: Path, fabric: Fabric, progress: Progress
    ) -> None:
        super().__init__(recipe, faces, folder, fabric, progress)
        self.recipe = recipe

    @property
    def _loss(self) -> GroundTruthLoss:
        kind = MseLoss if self.recipe.loss == "mse" else SoftmaxLoss
        return kind(STRIDE, self.recipe.input.sigma)

    def teacher(self) -> nn.Module | None:
        """The teacher, trained on the ground truth or given; None where the recipe has none."""
        recipe = self.recipe.teacher
        if recipe is None:
            return None
        if isinstance(recipe, GivenTeacher):
            return teacher_of(self.recipe)
        network = self.seeded("teacher", lambda: HRNet(self.faces.scheme.count, recipe.width))
        train_supervised(self.trainer, "teacher", "teacher", network, recipe, self._loss, self.validation)
        return network

    def supernet(self) -> HRSuperNet:
        """The supernet after the search."""
        architecture = self.recipe.search.supernet(self.faces.scheme.count, self.recipe.input.size)
        network = self.seeded("supernet", lambda: HRSuperNet(architecture))
        search(self.trainer, network, self.recipe.search, self._loss, self.validation)
        return network

    def student(self, supernet: HRSuperNet) -> HRSuperNet:
        """The dense student that is left of the supernet.

        It is cut once, by one process: importances that were measured again elsewhere might differ in a last digit
        and decide otherwise at the budget's edge. The architecture is kept in the run folder, and so are the
        importances that decided it.
        """
        path = self.folder / ARCHITECTURE_NAME
        with failing_together(self.fabric):
            if self.fabric.is_global_zero and not path.is_file():
                write_text(path, self._cut(supernet).model_dump_json(indent=1) + "\n")
        architecture = read_architecture(path)
        cost = architecture_cost(architecture)
        self.progress.console.print(
            f"slimmed: {len(architecture.operations)} of {len(supernet.architecture.operations)} operations kept, "
            f"{cost.params:,} parameters, {cost.macs:,} multiply-adds"
        )
        return student_from(supernet, architecture).to(self.fabric.device)

    def _cut(self, supernet: HRSuperNet) -> Architecture:
        importances = self._importances(supernet)
        # Kept first: where this recipe's cut is refused, ``slim`` may still try another one.
        by_key = {operation_key(op): importance for op, importance in importances.items()}
        write_text(self.folder / IMPORTANCES_NAME, json.dumps(by_key, indent=1) + "\n")
        return slimmed_architecture(supernet.architecture, importances, self.recipe.slim)

    def _importances(self, supernet: HRSuperNet) -> dict[Operation, float]:
        rng = seeded(self.recipe.seed, "importances")
        batches = self.trainer.faces.batches(self.recipe.search.batch, rng)
        images = (batch.images for batch in islice(batches, IMPORTANCE_BATCHES))
        return importances_of(supernet, self.recipe.slim.importance, images)

    def distilled(self, student: HRSuperNet, teacher: nn.Module | None) -> list[Distilled]:
        """The recipe's distillation, last; before it the other rows of table 6 where the recipe asks for them."""
        distillation = self.recipe.distil
        rows = ABLATION if distillation.ablation else (Switches.of(distillation),)
        return [self._distil(student, teacher, switches) for switches in rows]

    def _distil(self, student: HRSuperNet, teacher: nn.Module | None, switches: Switches) -> Distilled:
        students = distil(
            self.trainer, student, teacher, self.recipe.distil, switches, self._loss, self.validation
        )
        if self.faces.has_validation:
            students = sorted(students, key=self.nme)
        return Distilled(switches, students)

    def rivals(self, found: Architecture) -> dict[str, Architecture]:
        """The found architecture and random ones of its cost, as many as the recipe's baseline asks for."""
        if self.recipe.baseline is None:
            return {}
        macs = architecture_cost(found).macs
        full = self.recipe.search.supernet(self.faces.scheme.count, self.recipe.input.size)
        rivals = {"found": found}
        for number in range(1, self.recipe.baseline.count + 1):
            rng = seeded(self.recipe.seed, "baseline", number)
            rivals[f"random-{number}"] = random_architecture(full, macs, rng)
        return rivals

    def baselines(self, rivals: Mapping[str, Architecture]) -> dict[str, float]:
        """NME in percent on the validation split of ``rivals``, all trained alike from scratch."""
        recipe = self.recipe.baseline
        if recipe is None:
            return {}
        return {name: self._from_scratch(f"baseline-{name}", rival, recipe) for name, rival in rivals.items()}

    def _from_scratch(self, name: str, architecture: Architecture, recipe: BaselineRecipe) -> float:
        network = self.seeded("baseline", lambda: HRSuperNet(architecture))
        train_supervised(self.trainer, name, "baseline", network, recipe, self._loss, self.validation)
        return self.nme(network)


def teacher_of(recipe: Recipe) -> nn.Module | None:
    """The given teacher of ``recipe``, where it names one; raises UserError where that cannot teach its student."""
    if not isinstance(recipe.teacher, GivenTeacher):
        return None
    return taught_by(recipe.teacher.bundle, recipe).heatmap_teacher(recipe.loss, recipe.input.sigma)


@dataclass(frozen=True)
class Searched:
    """What the search of a run found: its recipe, the supernet, and what the supernet's operations count for."""

    recipe: Recipe
    supernet: HRSuperNet
    importances: dict[Operation, float]


def searched(folder: Path) -> Searched:
    """The outcome of a run's search; raises UserError where the run has not come so far."""
    recipe, weights = with_search(recipe_of(folder), folder), folder / "supernet" / CHECKPOINT_NAME
    saved, by_key = read_checkpoint(weights), known_importances(folder)
    # Importances are measured when the search is done; those of an earlier one go with its checkpoint.
    if saved is None or by_key is None:
        raise UserError(f"{folder}: its search is not finished; run the recipe again first")
    scheme = scheme_named(recipe.data.scheme)
    network = HRSuperNet(recipe.search.supernet(scheme.count, recipe.input.size))
    load_weights(network, saved.weights, str(weights))
    importances = {op: by_key[operation_key(op)] for op in network.architecture.operations}
    return Searched(recipe, network.eval(), importances)
