"""Checkpoints of a stage of training: one safetensors file, replaced as a whole, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing

CHECKPOINT_NAME = "checkpoint.safetensors"
"""The file in a stage's folder."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights, the optimisers' states and the history (one row of figures an epoch) after ``epoch`` epochs."""

    epoch: int
    weights: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    history: list[dict[str, float]]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside, then rename: a kill or a full disk leaves the old file as it was."""
    tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
    groups = []
    for index, state in enumerate(checkpoint.optimizers):
        groups.append([_plain(group) for group in state["param_groups"]])
        for parameter, values in state["state"].items():
            for key, value in values.items():
                tensors[f"optimizer{index}/{parameter}/{key}"] = value
    described = {"epoch": checkpoint.epoch, "history": checkpoint.history, "param_groups": groups}
    write_tensors(path, tensors, {"checkpoint": json.dumps(described)})


def non_finite(checkpoint: Checkpoint) -> str | None:
    """The name of the first tensor that holds NaN or infinite values; None where all are finite."""
    for name, tensor in checkpoint.weights.items():
        if not torch.isfinite(tensor).all():
            return name
    for state in checkpoint.optimizers:
        for values in state["state"].values():
            for key, value in values.items():
                if not torch.isfinite(value).all():
                    return f"the optimiser's {key}"
    return None


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(value) if isinstance(value, Tensor) else value for key, value in group.items()}


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in ``path``, or None where there is none yet."""
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path)
    described = json.loads(metadata["checkpoint"])
    optimizers: list[dict[str, Any]] = [
        {"state": {}, "param_groups": groups} for groups in described["param_groups"]
    ]
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        owner, rest = name.split("/", 1)
        if owner == "weights":
            weights[rest] = tensor
            continue
        parameter, key = rest.split("/")
        state = optimizers[int(owner.removeprefix("optimizer"))]["state"]
        state.setdefault(int(parameter), {})[key] = tensor
    return Checkpoint(described["epoch"], weights, optimizers, described["history"])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file beside ``path`` and rename it there; raises UserError where it cannot be written."""
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file would write to a hidden file of its own, which each kill leaves behind.
    data = safetensors.torch.save(copies, dict(metadata))
    with replacing(path, kept="the last good one is kept") as beside:
        beside.write_bytes(data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises UserError where it is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); delete it and run again"
        ) from None


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Load ``weights`` into ``network``; raises UserError where names, shapes or values do not fit."""
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise UserError(
            f"{origin}: {bad[0]} holds NaN or infinite values ({len(bad)} tensors do); train again"
        )
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise UserError(
            f"{origin}: not the weights of this network: {str(error).splitlines()[-1].strip()}"
        ) from None
