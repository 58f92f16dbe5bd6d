"""Networks as files: the weights in safetensors and, beside them, what to build before loading them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from slimalign.compress.checkpoint import load_weights, read_tensors, write_tensors
from slimalign.compress.networks.architecture import read_architecture
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.cascade_shape import read_cascade_shape
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text

WEIGHTS = "weights.safetensors"
ARCHITECTURE = "architecture.json"
"""Stands beside the weights of a supernet or a student."""
CASCADE = "cascade.json"
"""Stands beside the weights of a cascade."""
HRNET = "hrnet.json"
"""Stands beside the weights of a teacher."""


class HRNetShape(BaseModel):
    """What tells one HRNet from another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    landmarks: int = Field(gt=0)
    width: int = Field(gt=0)


def write_network(folder: Path, network: nn.Module) -> tuple[str, ...]:
    """Write ``network`` into ``folder`` and return the names of its files, the weights first.

    Raises UserError for a network that cannot be told from its files again.
    """
    name, text = _described(network)
    write_tensors(folder / WEIGHTS, network.state_dict(), {})
    write_text(folder / name, text + "\n")
    return WEIGHTS, name


def _described(network: nn.Module) -> tuple[str, str]:
    # A subclass may compute something else from the same weights.
    if type(network) is HRSuperNet:
        return ARCHITECTURE, network.architecture.model_dump_json(indent=1)
    if type(network) is HRNet:
        width = network.state_dict()["first_branch.0.weight"].shape[0]
        shape = HRNetShape(landmarks=network.head.heatmaps.out_channels, width=width)
        return HRNET, shape.model_dump_json(indent=1)
    if type(network) is Cascade:
        return CASCADE, network.shape.model_dump_json(indent=1)
    raise UserError(
        f"a network of class {type(network).__name__} cannot be written as files; only HRSuperNet, its students,"
        " HRNet and cascades can"
    )


def read_network(folder: Path) -> nn.Module:
    """The network that ``write_network`` wrote into ``folder``, on the CPU and for inference.

    Raises UserError where a file is missing, damaged or does not fit the other.
    """
    network = _built(folder)
    weights, _ = read_tensors(folder / WEIGHTS)
    load_weights(network, weights, str(folder / WEIGHTS))
    return network.eval()


def _built(folder: Path) -> nn.Module:
    if (folder / ARCHITECTURE).is_file():
        return HRSuperNet(read_architecture(folder / ARCHITECTURE))
    if (folder / CASCADE).is_file():
        return Cascade(read_cascade_shape(folder / CASCADE))
    path = folder / HRNET
    try:
        shape = HRNetShape.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: holds none of {ARCHITECTURE}, {CASCADE} and {HRNET}; export the network again"
        ) from None
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}; export the network again") from None
    return HRNet(shape.landmarks, shape.width)
