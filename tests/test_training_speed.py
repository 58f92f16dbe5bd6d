"""The training benchmark: real passes and passes on one kept batch take turns in a real training."""

import time

import numpy as np
import torch
from lightning_fabric import Fabric

from slimalign.benchmarks.training_speed import AlternatingFaces, drawn, step_times
from slimalign.compress.batches import Batch, seeded
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.networks.catalogue import NamedNetwork
from slimalign.compress.networks.hrnet import HRNet

SIZE = 32
STEP_MS = 20


def trained(batch: Batch) -> Batch:
    """What a trainer does with a batch: it takes its time."""
    time.sleep(STEP_MS / 1000)
    return batch


def test_passes_take_turns(tmp_path):
    """Passes 1 and 3 have batches of their own, passes 2 and 4 the kept one, all of them two steps."""
    made = AlternatingFaces(cached_faces(drawn(8), SIZE, tmp_path), SIZE, 4, torch.device("cpu"))
    passes = [[trained(batch) for batch in made.batches(4, seeded(turn))] for turn in range(4)]
    assert [len(one) for one in passes] == [2, 2, 2, 2]
    kept = passes[1][0]
    assert all(batch is kept for batch in (*passes[1], *passes[3]))
    fresh = [batch.points.numpy() for batch in (*passes[0], *passes[2])]
    for i, points in enumerate(fresh):
        assert not any(np.array_equal(points, other) for other in (kept.points.numpy(), *fresh[:i]))
    assert len(made.step_ms) == 4
    assert min(made.step_ms) >= STEP_MS  # the last step of a pass counts too


def test_steps_of_a_real_training_are_timed():
    """The weights move, so that it was a training; two passes warm up and two are timed."""
    network = HRNet(68, width=2)
    before = network.head.heatmaps.weight.detach().clone()
    fabric = Fabric(accelerator="cpu", devices=1)
    real, fixed = step_times(fabric, NamedNetwork("tiny", 68, SIZE, network), drawn(8), batch=4, rounds=1)
    assert not torch.equal(network.head.heatmaps.weight, before)
    assert min(real, fixed) > 0
