"""How much of a training step goes into data: a real step against the same step on one fixed batch.

``python -m slimalign.benchmarks.training_speed --size 128`` prints the ratio on drawn faces; ``--data`` takes a
folder of 300W faces instead. Both kinds of step are timed in turns in one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
from torch import nn

from slimalign.compress.batches import Batch, TrainingFaces, seeded
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import Sample
from slimalign.compress.data.splits import load_split
from slimalign.compress.losses import SoftmaxLoss
from slimalign.compress.networks.catalogue import build_network
from slimalign.compress.recipe import AugmentRecipe
from slimalign.runtimes.schemes import W300

FACES = 256


def main() -> None:
    """Print medians of both kinds of step and their ratio."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--network", default="sd-hrnet-300w")
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--data", type=Path)
    chosen = options.parse_args()
    samples = load_split("300w", chosen.data, "train").samples[:FACES] if chosen.data else drawn(FACES)
    with tempfile.TemporaryDirectory() as folder:
        cache = cached_faces(samples, chosen.size, Path(folder))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        faces = TrainingFaces(cache, W300, chosen.size, 1.25, AugmentRecipe(), device)
        network = build_network(chosen.network, input_size=chosen.size).network.to(device).train()
        real, fixed = step_times(network, faces, chosen.batch, chosen.rounds, device)
    speed = fixed / real
    print(f"real {real:.1f} ms, fixed batch {fixed:.1f} ms a step: {speed:.3f}x as fast")  # noqa: T201


def drawn(number: int) -> list[Sample]:
    """Drawn faces to train on."""
    return drawn_samples(number, W300, seed=0)


def step_times(
    network: nn.Module, faces: TrainingFaces, batch: int, rounds: int, device: torch.device
) -> tuple[float, float]:
    """Median milliseconds of a step on fresh augmented batches, and on one batch kept in memory."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss = SoftmaxLoss(4, 1.0)
    endless = _endless(faces, batch)
    kept = next(endless)

    def step(data: Callable[[], Batch]) -> float:
        began = time.perf_counter()
        now = data()
        with torch.autocast(device.type, torch.bfloat16):
            heatmaps = network(now.images)
        loss(heatmaps.float(), now.points).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - began)

    for _ in range(3):
        step(lambda: next(endless))
    pairs = [(step(lambda: next(endless)), step(lambda: kept)) for _ in range(rounds)]
    return statistics.median(real for real, _ in pairs), statistics.median(fixed for _, fixed in pairs)


def _endless(faces: TrainingFaces, batch: int) -> Iterator[Batch]:
    for epoch in count():
        yield from faces.batches(batch, seeded("speed", epoch))


if __name__ == "__main__":
    main()
