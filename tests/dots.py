"""Faces of coloured dots, one colour a landmark, and a network made by hand that finds them in any arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from slimalign.compress.batches import MEAN, STD
from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.compress.networks.architecture import Operation, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, GraphOptions, Workbench
from slimalign.runtimes.crop import CropRule, tight_box

LANDMARKS, SIZE, PICTURE = 19, 64, 112
RADIUS = 8
GAIN = 16.0
"""By which the heatmaps rise above the background, so that their softmax has one narrow peak."""


def directions() -> NDArray[np.float64]:
    """(19, 3): unit vectors that lie far apart."""
    places = np.arange(LANDMARKS) + 0.5
    z, turn = 1 - 2 * places / LANDMARKS, np.pi * (1 + 5**0.5) * places
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def dotted_face(seed: int, subsets: tuple[str, ...] = ()) -> Sample:
    """A grey picture with a dot at each landmark."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(4)), axis=-1).reshape(-1, 2)[:LANDMARKS]
    points = 24 + 16 * grid + rng.uniform(-2, 2, (LANDMARKS, 2))
    places = np.stack(np.meshgrid(np.arange(PICTURE), np.arange(PICTURE)), axis=-1)
    colours = np.zeros((PICTURE, PICTURE, 3))
    for point, direction in zip(points, directions(), strict=True):
        # Brightest in the middle, so that rounding does not decide which pixel is.
        distance = np.linalg.norm(places - point, axis=-1, keepdims=True)
        colours += np.clip(1 - distance / RADIUS, 0, 1) * direction
    picture = (np.array(MEAN) + 2 * np.array(STD) * colours) * 255
    image = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return Sample(
        name=f"dots-{seed}",
        load=lambda: image,
        box=tight_box(points),
        points=points,
        occluded=np.zeros(LANDMARKS, dtype=bool),
        subsets=subsets,
    )


def dotted_faces(count: int, seed: int = 0) -> list[Sample]:
    """Every second face is of subset ``even``, the others of ``odd``."""
    return [dotted_face(seed + number, ("odd" if number % 2 else "even",)) for number in range(count)]


def dot_finder(stage_count: int = 3, encoders: int = 1) -> HRSuperNet:
    """Heatmap k is the blurred picture's brightness in the direction of colour k, each channel in two parts."""
    full = full_architecture(LANDMARKS, SIZE, 6, (6, 8), stage_count=stage_count, encoders=encoders)
    kept = full.keeping([Operation(stage, 0, 0) for stage in range(2, stage_count + 1)])
    network = HRSuperNet(kept.model_copy(update={"head_width": 6}))
    state = network.state_dict()
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d) and name != "head.heatmaps":
                # An encoder of next to nothing hands on its input; none at all has no range to quantise.
                nn.init.dirac_(module.weight, groups=module.groups)
                module.weight.mul_(1e-3)
        state["stem.0.weight"].zero_()
        state["stem.3.weight"].zero_()
        blur = torch.full((3, 3), 1 / 9)
        for channel in range(3):
            state["stem.0.weight"][channel, channel] = blur
            state["stem.0.weight"][channel + 3, channel] = -blur
        for channel in range(6):
            state["stem.3.weight"][channel, channel] = blur
        state["head.hidden.weight"].copy_(torch.eye(6)[:, :, None, None])
        state["head.hidden.bias"].zero_()
        weights = GAIN * torch.from_numpy(directions()).float()
        state["head.heatmaps.weight"].copy_(torch.cat([weights, -weights], dim=1)[:, :, None, None])
        state["head.heatmaps.bias"].zero_()
    return network.eval()


OFFSET = 100.0


def hurt_dot_finder(block: str) -> HRSuperNet:
    """The same function, but between the two encoders of ``block`` all lies ``OFFSET`` too high: int8 has no steps left
    there for what tells colours apart.
    """
    network = dot_finder(stage_count=7, encoders=2)
    state = network.state_dict()
    for encoder in (0, 1):
        # Weights so large that their biases have room in int32.
        state[f"encoders.{block}.{encoder}.body.0.weight"] *= 1e3
        state[f"encoders.{block}.{encoder}.body.3.weight"] *= 10
    state[f"encoders.{block}.0.body.4.bias"] += OFFSET
    state[f"encoders.{block}.1.body.4.bias"] -= OFFSET
    return network


def uneven_dot_finder() -> HRSuperNet:
    """The same function with channels of the stem scaled apart: in TensorRT's scheme some have no steps left."""
    network = dot_finder()
    factors = torch.logspace(-1, 1, 6)
    state = network.state_dict()
    state["stem.1.weight"].mul_(factors)
    state["stem.1.bias"].mul_(factors)
    state["stem.3.weight"].div_(factors[None, :, None, None])
    return network


def dot_bench(
    training: Sequence[Sample],
    validation: Sequence[Sample],
    options: GraphOptions | None = None,
    network: HRSuperNet | None = None,
) -> Workbench:
    """The dot finder with faces to calibrate it on and to judge it by."""
    crops = cut_crops(dotted_faces(3), CropRule(SIZE, 1.25))
    return Workbench(dot_subject(network), crops, ExportFaces(training, validation, "inter-ocular"), options)


def dot_subject(network: HRSuperNet | None = None) -> ExportSubject:
    """The dot finder as it is exported."""
    return ExportSubject("dots", network or dot_finder(), SIZE, 1.25, "aflw-19", "local-softmax", 4)
