"""Triple distillation: two peer students with masked inputs, their ensemble and a frozen teacher (eq. 4)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from slimalign.compress.batches import Batch, masked, seeded
from slimalign.compress.losses import GroundTruthLoss, distillation_loss
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import DistilRecipe
from slimalign.compress.training import Stage, Trainer, TrainingPass
from slimalign.compress.validation import ValidationFaces

PEER_NOISE = 0.01
"""Noise on the second peer's first weights, as a share of each layer's spread."""


@dataclass(frozen=True)
class Switches:
    """Which parts of the distillation are on: the columns of the paper's table 6."""

    teacher: bool = True
    peer: bool = True
    masks: bool = True

    @property
    def name(self) -> str:
        """A name for the stage, as in ``distilled-teacher-peer``; the whole scheme is ``distilled``."""
        if self == Switches():
            return "distilled"
        on = [name for name in ("teacher", "peer", "masks") if getattr(self, name)]
        return "-".join(["distilled", *on]) if on else "fine-tuned"


ABLATION = (
    Switches(teacher=False, peer=False, masks=False),
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

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        """One input (N, 3, S, S) a student -> one set of heatmaps a student."""
        return [student(x) for student, x in zip(self.students, images, strict=True)]


def distil(
    trainer: Trainer,
    student: HRSuperNet,
    teacher: nn.Module,
    recipe: DistilRecipe,
    switches: Switches,
    loss: GroundTruthLoss,
    validation: ValidationFaces,
) -> list[HRSuperNet]:
    """Fine-tune copies of ``student`` by equation 4, weights only, and return them.

    The masks are drawn apart for each student; the teacher sees the clean images.
    """
    fabric = trainer.fabric
    students = [copy.deepcopy(student)]
    if switches.peer:
        students.append(_peer_of(student, seeded(trainer.seed, "peer")))
    peers = Peers(students)
    module = trainer.set_up(peers)
    teacher = teacher.to(fabric.device).eval().requires_grad_(False)
    parameters = [p for name, p in peers.named_parameters() if not name.endswith("factors")]
    optimizer = trainer.adam(parameters, recipe.weight_decay)

    def batch_loss(batch: Batch, rng: Generator) -> Tensor:
        inputs = [_input(batch.images, recipe, switches, rng) for _ in students]
        heatmaps = [p.float() for p in module(inputs)]
        total = sum((loss(p, batch.points) for p in heatmaps), torch.zeros((), device=fabric.device))
        if switches.peer:
            ensemble = torch.stack(heatmaps).mean(dim=0)
            total = total + recipe.ensemble_weight * _divergences(ensemble, heatmaps)
        if switches.teacher:
            with torch.no_grad():
                taught = teacher(batch.images).float()
            total = total + recipe.teacher_weight * _divergences(taught, heatmaps)
        return total

    def validate() -> dict[str, float]:
        nmes = [validation.nme(one, fabric.device) for one in students]
        return {f"val_nme_{index}": nme for index, nme in enumerate(nmes, start=1)}

    trainer.run(
        Stage(
            name=switches.name,
            network=peers,
            passes=[TrainingPass("train", batch_loss, optimizer, parameters, recipe.learning_rate)],
            epochs=recipe.epochs,
            batch=recipe.batch,
            validate=validate,
        )
    )
    return students


def _peer_of(student: HRSuperNet, rng: Generator) -> HRSuperNet:
    """A copy whose convolutions differ a little; without masks, equal peers would stay one network."""
    peer = copy.deepcopy(student)
    with torch.no_grad():
        for module in peer.modules():
            if isinstance(module, nn.Conv2d):
                noise = torch.randn(module.weight.shape, generator=rng).to(module.weight)
                module.weight += PEER_NOISE * module.weight.std() * noise
    return peer


def _input(images: Tensor, recipe: DistilRecipe, switches: Switches, rng: Generator) -> Tensor:
    return masked(images, recipe.mask, rng) if switches.masks else images


def _divergences(target: Tensor, heatmaps: list[Tensor]) -> Tensor:
    return sum((distillation_loss(target, p) for p in heatmaps), torch.zeros((), device=target.device))
