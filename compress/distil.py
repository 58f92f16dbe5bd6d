"""Triple distillation: two peer students with masked inputs, their ensemble and a frozen teacher (eq. 4)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import product

import torch
from torch import Generator, Tensor, nn

from slimalign.compress.batches import Batch, masked, seeded
from slimalign.compress.losses import GroundTruthLoss, distillation_loss
from slimalign.compress.networks.supernet import HRSuperNet, weights_of
from slimalign.compress.recipe import DistilRecipe
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces

PEER_NOISE = 0.01
"""Noise on the second peer's first weights where there are no masks, as a share of each layer's spread."""


@dataclass(frozen=True)
class Switches:
    """Which parts of the distillation are on: the columns of the paper's table 6."""

    teacher: bool = True
    peer: bool = True
    masks: bool = True

    @property
    def name(self) -> str:
        """A name for the stage, as in ``distilled-teacher-peer`` or ``fine-tuned-masks``; the whole scheme is
        ``distilled``.
        """
        if self == Switches():
            return "distilled"
        on = [name for name in ("teacher", "peer", "masks") if getattr(self, name)]
        return "-".join(["distilled" if self.distils else "fine-tuned", *on])

    @property
    def distils(self) -> bool:
        """Whether the student learns from another network, not from the ground truth alone."""
        return self.teacher or self.peer

    @classmethod
    def none(cls) -> Switches:
        """Training on the ground truth alone."""
        return cls(teacher=False, peer=False, masks=False)

    @classmethod
    def of(cls, recipe: DistilRecipe) -> Switches:
        """The parts that count for something in ``recipe``."""
        return cls(recipe.teacher_weight > 0, recipe.ensemble_weight > 0, recipe.mask.covers)

    @classmethod
    def every(cls) -> list[Switches]:
        """All that there are, from none of the parts to all."""
        return [cls(*parts) for parts in product((False, True), repeat=3)]


ABLATION = (
    Switches.none(),
    Switches(teacher=True, peer=False, masks=False),
    Switches(teacher=True, peer=True, masks=False),
    Switches(),
)
"""The rows of table 6, in its order."""


class Peers(nn.Module):
    """The students trained together: one, or two with inputs of their own."""

    def __init__(self, students: list[HRSuperNet]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        self.members = students

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        """One input (N, 3, S, S) a student -> one set of heatmaps a student."""
        return [student(x) for student, x in zip(self.students, images, strict=True)]


@dataclass(frozen=True)
class TripleLoss:
    """Equation 4 for each student, summed: ground truth + l1 KD(ensemble || student) + l2 KD(teacher || student).

    ``ensemble_weight`` is l1 and ``teacher_weight`` l2; a weight of 0 leaves its term out.
    """

    ground_truth: GroundTruthLoss
    ensemble_weight: float
    teacher_weight: float

    def __call__(self, heatmaps: list[Tensor], points: Tensor, taught: Tensor | None) -> Tensor:
        """``heatmaps``: one (N, K, H, W) a student; ``points`` (N, K, 2) in crop pixels; ``taught`` (N, K, H, W)."""
        total = torch.stack([self.ground_truth(p, points) for p in heatmaps]).sum()
        if self.ensemble_weight:
            ensemble = torch.stack(heatmaps).mean(dim=0)
            total = total + self.ensemble_weight * _divergences(ensemble, heatmaps)
        if taught is not None and self.teacher_weight:
            total = total + self.teacher_weight * _divergences(taught, heatmaps)
        return total


def _divergences(target: Tensor, heatmaps: list[Tensor]) -> Tensor:
    return torch.stack([distillation_loss(target, p) for p in heatmaps]).sum()


def distil(
    trainer: Trainer,
    student: HRSuperNet,
    teacher: nn.Module | None,
    recipe: DistilRecipe,
    switches: Switches,
    loss: GroundTruthLoss,
    validation: ValidationFaces,
) -> list[HRSuperNet]:
    """Fine-tune copies of ``student`` by equation 4, weights only, and return them.

    The masks are drawn apart for each student; the teacher, which may be None where ``switches`` leave it out, sees
    the clean images. All rows of the ablation see the same faces in the same order. Raises ValueError where a teacher
    is wanted and none is given.
    """
    if switches.teacher and teacher is None:
        raise ValueError(f"{switches.name}: there is no teacher to learn from")
    device = trainer.fabric.device
    peers = Peers(_students(student, switches, seeded(trainer.seed, "peer")))
    module = trainer.set_up(peers)
    taught_by = (
        teacher.to(device).eval().requires_grad_(False) if teacher is not None and switches.teacher else None
    )
    parameters = weights_of(peers)
    optimizer = trainer.adam(parameters, recipe.weight_decay)
    triple_loss = TripleLoss(
        loss,
        recipe.ensemble_weight if switches.peer else 0.0,
        recipe.teacher_weight if switches.teacher else 0.0,
    )

    def batch_loss(batch: Batch, rng: Generator) -> Tensor:
        inputs = [
            masked(batch.images, recipe.mask, rng) if switches.masks else batch.images for _ in peers.students
        ]
        taught = None
        if taught_by is not None:
            with torch.no_grad():
                taught = taught_by(batch.images).float()
        return triple_loss([p.float() for p in module(inputs)], batch.points, taught)

    def validate() -> dict[str, float]:
        nmes = [validation.nme(one, device) for one in peers.students]
        return {f"val_nme_{number}": nme for number, nme in enumerate(nmes, start=1)}

    trainer.run(
        Stage(
            name=switches.name,
            seed_name="distil",
            network=peers,
            passes=[TrainingPass("train", batch_loss, optimizer, parameters, recipe.learning_rate)],
            epochs=recipe.epochs,
            batch=recipe.batch,
            validate=validate,
        )
    )
    return peers.members


def _students(student: HRSuperNet, switches: Switches, rng: Generator) -> list[HRSuperNet]:
    """One copy, or two peers. Both start alike, as in algorithm 1; their masks drive them apart.

    Without masks they would stay one network, so that there the second starts with a little noise.
    """
    students = [copy.deepcopy(student) for _ in range(2 if switches.peer else 1)]
    if switches.peer and not switches.masks:
        with torch.no_grad():
            for module in students[1].modules():
                if isinstance(module, nn.Conv2d):
                    noise = torch.randn(module.weight.shape, generator=rng).to(module.weight)
                    module.weight += PEER_NOISE * module.weight.std() * noise
    return students
