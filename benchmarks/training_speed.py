"""How much of a training step goes into data: a real pass over the faces against one on a batch kept in memory.

``python -m slimalign.benchmarks.training_speed --size 128`` prints the ratio on drawn faces; ``--data`` takes a
folder of 300W faces instead. The network is trained as a run trains it; real passes and passes on the kept
batch take turns within that training.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from torch import Generator

from slimalign.benchmarks.mains import run_main
from slimalign.compress.batches import Batch, TrainingFaces, seeded
from slimalign.compress.data.cache import FaceCache, cached_faces
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import Sample
from slimalign.compress.data.splits import load_split
from slimalign.compress.losses import SoftmaxLoss
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.catalogue import NamedNetwork, build_network
from slimalign.compress.recipe import AugmentRecipe, Schedule, TrainingRecipe
from slimalign.compress.supervised import train_supervised
from slimalign.compress.training import Trainer
from slimalign.compress.validation import ValidationFaces
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.schemes import W300

FACES = 128
BOX_SCALE = 1.25


def main() -> None:
    """Print medians of both kinds of step and their ratio."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--network", default="sd-hrnet-300w")
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rounds", type=int, default=5, help="passes of each kind")
    options.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    options.add_argument("--data", type=Path)
    chosen = options.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    samples = load_split("300w", chosen.data, "train").samples[:FACES] if chosen.data else drawn(FACES)
    fabric = Fabric(accelerator="auto", devices=1, precision=chosen.precision)
    named = build_network(chosen.network, landmarks=W300.count, input_size=chosen.size)
    real, fixed = step_times(fabric, named, samples, chosen.batch, chosen.rounds)
    speed = fixed / real
    print(f"real {real:.1f} ms, fixed batch {fixed:.1f} ms a step: {speed:.3f}x as fast")  # noqa: T201


def drawn(number: int) -> list[Sample]:
    """Drawn faces to train on."""
    return drawn_samples(number, W300, seed=0)


class AlternatingFaces(TrainingFaces):
    """Training faces whose passes take turns: fresh augmented batches, then as often one batch kept in memory.

    ``step_ms`` holds the mean milliseconds of a step for each pass, data, training and all.
    """

    def __init__(self, cache: FaceCache, input_size: int, batch: int, device: torch.device) -> None:
        super().__init__(cache, W300, input_size, BOX_SCALE, AugmentRecipe(), device)
        self.step_ms: list[float] = []
        self._kept = next(super().batches(batch, seeded("kept")))

    def batches(self, size: int, rng: Generator, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """One pass, of the kind whose turn it is."""
        steps = self.steps(size, world)
        fresh = len(self.step_ms) % 2 == 0
        began = self._now()
        yield from super().batches(size, rng, rank, world) if fresh else repeat(self._kept, steps)
        # The trainer asks for one more batch when its last step is done.
        self.step_ms.append(1000 * (self._now() - began) / steps)

    def _now(self) -> float:
        """Seconds, once the device has done all it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def step_times(
    fabric: Fabric, named: NamedNetwork, samples: Sequence[Sample], batch: int, rounds: int
) -> tuple[float, float]:
    """Median milliseconds of a step on fresh augmented batches, and on one batch kept in memory.

    The network is trained on the ground truth as in a run; the first pass of each kind warms up.
    """
    size = named.input_size
    recipe = TrainingRecipe(
        epochs=2 * (1 + rounds), batch=batch, learning_rate=Schedule(kind="one-cycle", peak=1e-4)
    )
    validation = ValidationFaces(
        samples[:1], CropRule(size, BOX_SCALE), W300, "inter-ocular", "local-softmax"
    )
    with tempfile.TemporaryDirectory() as folder:
        faces = AlternatingFaces(cached_faces(samples, size, Path(folder)), size, batch, fabric.device)
        silent = Progress(console=Console(quiet=True), disable=True)
        trainer = Trainer(fabric, faces, Path(folder), 0, silent, batch_norm_momentum=0.01)
        train_supervised(
            trainer, "speed", "speed", named.network, recipe, SoftmaxLoss(STRIDE, 1.0), validation
        )
    return statistics.median(faces.step_ms[2::2]), statistics.median(faces.step_ms[3::2])


if __name__ == "__main__":
    run_main(main)
