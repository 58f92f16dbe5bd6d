"""The training loop that every stage shares: passes over the data, validation, checkpoints, logs."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from slimalign.compress.batches import Batch, TrainingFaces, seeded
from slimalign.compress.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    load_weights,
    non_finite,
    read_checkpoint,
    save_checkpoint,
)
from slimalign.compress.processes import failing_together
from slimalign.compress.recipe import Schedule
from slimalign.runtimes.errors import NonFiniteError, UserError
from slimalign.runtimes.files import write_text

CHECK_EVERY = 20
"""Batches between two looks at the loss; each look waits for the device."""

TENSORBOARD = "tensorboard"
"""Folder within a run's; each stage has one of its own in it."""

WARM_UP = 0.1
"""Share of a one-cycle schedule over which the learning rate rises."""

MOMENTUM = 0.9

BatchLoss = Callable[[Batch, Generator], Tensor]


@dataclass(frozen=True)
class TrainingPass:
    """One pass over the training set within an epoch: what is minimised, by which optimiser, how fast.

    ``batch_loss`` may draw (masks, say) from the generator it is given. Only ``trained`` parameters get
    gradients in this pass.
    """

    name: str
    batch_loss: BatchLoss
    optimizer: Optimizer
    trained: Sequence[nn.Parameter]
    schedule: Schedule


@dataclass(frozen=True)
class Stage:
    """One stage of training: everything that is saved and restored together.

    ``network`` holds all that is trained (two students, for instance); ``validate`` gives figures in
    percent or of the factors, by name, after each epoch; ``remedy`` is what to do where they are not finite. Stages of
    one ``seed_name`` see the same faces in the same order with the same augmentation, so that they can be compared.
    """

    name: str
    seed_name: str
    network: nn.Module
    passes: Sequence[TrainingPass]
    epochs: int
    batch: int
    validate: Callable[[], dict[str, float]]
    remedy: str = "lower its learning rate in the recipe and run again with --retrain"


@dataclass
class Trainer:
    """Runs stages in a run folder; a stage that was broken off goes on after its last whole epoch.

    Every random draw depends on seed, stage, epoch and pass alone, so an interrupted run ends with the
    weights of an unbroken one. A stage's ``batch`` is that of one process.
    """

    fabric: Fabric
    faces: TrainingFaces
    folder: Path
    seed: int
    progress: Progress
    batch_norm_momentum: float

    def set_up(self, network: nn.Module) -> nn.Module:
        """The network on the training device, wrapped for its precision and for several processes."""
        torch.nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = self.batch_norm_momentum
        return cast(nn.Module, self.fabric.setup_module(network))

    def adam(self, parameters: Sequence[nn.Parameter], weight_decay: float = 0.0) -> Optimizer:
        """Adam as SD-HRNet uses it; the schedule sets its learning rate before every step."""
        return self.optimizer([{"params": list(parameters), "weight_decay": weight_decay}], "adam")

    def optimizer(self, groups: Sequence[dict[str, Any]], name: str) -> Optimizer:
        """``adam``, or ``sgd`` with CHS's momentum, for groups of parameters with a ``weight_decay`` each."""
        if name == "adam":
            made: Optimizer = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.999))
        else:
            made = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
        return cast(Optimizer, self.fabric.setup_optimizers(made))

    def run(self, stage: Stage) -> None:
        """Train ``stage`` to its end; all processes end with the same weights."""
        self._check_batch(stage)
        path = self.folder / stage.name / CHECKPOINT_NAME
        history, first = self._restore(stage, path)
        self.progress.console.print(_standing(stage, first, self._batches_an_epoch(stage)))
        task = self.progress.add_task(stage.name, total=stage.epochs * self._batches_an_epoch(stage))
        self.progress.advance(task, first * self._batches_an_epoch(stage))
        for epoch in range(first, stage.epochs):
            began = time.monotonic()
            row = {"epoch": float(epoch + 1)}
            for one in stage.passes:
                row[f"{one.name}_loss"] = self._one_pass(
                    stage, path, one, epoch, lambda: self.progress.advance(task)
                )
            with failing_together(self.fabric):
                row |= _validated(stage, path)
                _refuse_non_finite(stage, path, row)
            row["seconds"] = round(time.monotonic() - began, 2)
            history.append(row)
            with failing_together(self.fabric):
                if self.fabric.is_global_zero:
                    _save(stage, path, epoch + 1, history)
                    self._log(stage, row)
        self.progress.remove_task(task)
        if self.fabric.world_size > 1:
            # Each has running statistics of its own until the next forward pass; the checkpoint's are the first one's.
            self._restore(stage, path)

    def _check_batch(self, stage: Stage) -> None:
        needed = stage.batch * self.fabric.world_size
        if len(self.faces) < needed:
            raise UserError(
                f"{stage.name}: batch = {stage.batch} on {self.fabric.world_size} processes needs {needed} faces, "
                f"the training split has {len(self.faces)}; lower the batch in the recipe"
            )

    def _batches_an_epoch(self, stage: Stage) -> int:
        return len(stage.passes) * self.faces.steps(stage.batch, self.fabric.world_size)

    def _restore(self, stage: Stage, path: Path) -> tuple[list[dict[str, float]], int]:
        saved = read_checkpoint(path)
        if saved is None:
            return [], 0
        load_weights(stage.network, saved.weights, str(path))
        for one, state in zip(stage.passes, saved.optimizers, strict=True):
            one.optimizer.load_state_dict(state)
        if self.fabric.is_global_zero:
            # A kill between checkpoint and log leaves the log a row short.
            _write_csv(path.with_name("log.csv"), saved.history)
        return saved.history, saved.epoch

    def _one_pass(
        self, stage: Stage, path: Path, one: TrainingPass, epoch: int, advance: Callable[[], None]
    ) -> float:
        """Train over the whole set once; the mean loss."""
        stage.network.train()
        for parameter in stage.network.parameters():
            parameter.requires_grad_(False)
        for parameter in one.trained:
            parameter.requires_grad_(True)
        rng = seeded(self.seed, stage.seed_name, epoch, one.name)
        draws = seeded(self.seed, stage.seed_name, epoch, one.name, self.fabric.global_rank)
        steps = self.faces.steps(stage.batch, self.fabric.world_size)
        total = torch.zeros((), device=self.fabric.device)
        batches = self.faces.batches(stage.batch, rng, self.fabric.global_rank, self.fabric.world_size)
        for step, batch in enumerate(batches):
            set_learning_rate(one.optimizer, one.schedule, epoch + step / steps, stage.epochs)
            with self.fabric.autocast():
                loss = one.batch_loss(batch, draws)
            self.fabric.backward(loss)
            one.optimizer.step()
            one.optimizer.zero_grad()
            total += loss.detach()
            if step % CHECK_EVERY == 0:
                with failing_together(self.fabric):
                    _refuse_non_finite(stage, path, {f"{one.name}_loss": float(total)})
            advance()
        return float(total) / steps

    def _log(self, stage: Stage, row: dict[str, float]) -> None:
        _write_tensorboard(self.folder / TENSORBOARD / stage.name, row)
        # The spread of the factors is for the CSV and TensorBoard.
        shown = [key for key in row if key.endswith("_loss") or key.startswith("val_nme")]
        figures = "  ".join(f"{key} {row[key]:.4g}" for key in shown)
        left = (stage.epochs - row["epoch"]) * row["seconds"] / 60
        epoch = f"{stage.name} epoch {row['epoch']:.0f}/{stage.epochs}"
        self.progress.console.print(
            f"{epoch}  {figures}  {row['seconds']:.0f} s, {left:.0f} min left in this stage"
        )


def _standing(stage: Stage, done: int, batches: int) -> str:
    if done == stage.epochs:
        return f"{stage.name}: all of its {done} epochs are trained already"
    goes_on = f", goes on after epoch {done}" if done else ""
    return f"{stage.name}: {stage.epochs} epochs of {batches} batches{goes_on}"


def set_learning_rate(optimizer: Optimizer, schedule: Schedule, epoch: float, epochs: int) -> None:
    """Set the learning rate for the moment ``epoch`` (with its fraction) of ``epochs``."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, epoch, epochs)


def learning_rate(schedule: Schedule, epoch: float, epochs: int) -> float:
    """The learning rate of ``schedule`` at ``epoch`` (with its fraction) of ``epochs``."""
    if schedule.kind == "steps":
        return schedule.peak * schedule.factor ** sum(epoch >= milestone for milestone in schedule.milestones)
    share = epoch / epochs
    if share < WARM_UP:
        return schedule.peak * (0.04 + 0.96 * share / WARM_UP)
    return schedule.peak * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def _save(stage: Stage, path: Path, epoch: int, history: list[dict[str, float]]) -> None:
    states = [one.optimizer.state_dict() for one in stage.passes]
    checkpoint = Checkpoint(epoch, stage.network.state_dict(), states, history)
    # A statistic may overflow before the loss does, and nobody could go on from there.
    if bad := non_finite(checkpoint):
        raise _stopped(stage, path, f"{bad} became NaN or infinite")
    save_checkpoint(path, checkpoint)
    _write_csv(path.with_name("log.csv"), history)


def _validated(stage: Stage, path: Path) -> dict[str, float]:
    """The stage's figures; a network so broken that it has none stops the training as a bad loss does."""
    try:
        return stage.validate()
    except NonFiniteError as error:
        raise _stopped(stage, path, str(error)) from None


def _refuse_non_finite(stage: Stage, path: Path, row: dict[str, float]) -> None:
    for name, value in row.items():
        if not math.isfinite(value):
            raise _stopped(stage, path, f"{name} became {value}")


def _stopped(stage: Stage, path: Path, fault: str) -> UserError:
    kept = "the last good checkpoint is kept" if path.exists() else "no epoch was finished"
    return UserError(f"{stage.name}: {fault}; {kept}, {stage.remedy}")


def _write_csv(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _write_tensorboard(folder: Path, row: dict[str, float]) -> None:
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the main process logs

    try:
        with SummaryWriter(str(folder)) as writer:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); free some space and run again"
        ) from None
