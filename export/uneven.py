"""A student that int8 hurts, to try the rescue and the training on; run as a module it writes one as a PyTorch bundle.

Channels are scaled apart within transformations of two or more convolutions: what one convolution multiplies by, the
next divides by, so that in float the function is the same. In int8 the small channels have no steps left.

    python -m slimalign.export.uneven RUN/bundles/distilled-torch uneven --operations s5_t3_f0,s8_t2_f0
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from slimalign.compress.batches import seeded
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.torch_files import read_network, write_network
from slimalign.runtimes.bundle import MANIFEST_NAME, file_sha256, read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text

SPREAD = 1.5
"""The factors are 10 to the power of -SPREAD up to SPREAD."""


@torch.no_grad()
def uneven(network: HRSuperNet, operations: Sequence[str]) -> HRSuperNet:
    """A copy of ``network`` whose ``operations``, as ``s5_t3_f0``, have channels scaled apart.

    Raises UserError for one that is not there, or has no ReLU between two convolutions.
    """
    made = copy.deepcopy(network)
    transforms = dict(made.transforms.items())
    for name in operations:
        transform = transforms.get(name)
        if not (isinstance(transform, nn.Sequential) and len(transform) > 3):
            raise UserError(f"operation '{name}': not one of the network's that go down two levels or more")
        norm, conv = transform[1], transform[3]
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        order = torch.randperm(norm.num_features, generator=seeded("uneven", name))
        factors = torch.logspace(-SPREAD, SPREAD, norm.num_features)[order]
        norm.weight.mul_(factors)
        norm.bias.mul_(factors)
        conv.weight.div_(factors[None, :, None, None])
    return made


def write_uneven(source: Path, folder: Path, operations: Sequence[str]) -> None:
    """Write the PyTorch bundle ``source`` to ``folder`` with ``operations`` made uneven.

    Raises UserError where something lies at ``folder``, ``source`` holds no student, or has no such operations.
    """
    bundle = read_bundle(source)
    network = read_network(source)
    if not isinstance(network, HRSuperNet):
        raise UserError(f"{source}: holds no student; give the PyTorch bundle of one")
    made = uneven(network, operations)
    if folder.exists():
        raise UserError(f"{folder}: is there already; give another place")
    with tempfile.TemporaryDirectory(dir=folder.resolve().parent) as place:
        part = Path(place) / folder.name
        part.mkdir()
        files = {name: file_sha256(part / name) for name in write_network(part, made)}
        manifest = dataclasses.replace(bundle.manifest, name=folder.name, files=files, nme={})
        write_text(part / MANIFEST_NAME, manifest.to_json())
        part.rename(folder)


def main() -> None:
    """Read the command line and write the bundle."""
    options = argparse.ArgumentParser(description="A student that int8 hurts.")
    options.add_argument("source", type=Path)
    options.add_argument("folder", type=Path)
    options.add_argument("--operations", required=True, help="comma-separated, as s5_t3_f0,s8_t2_f0")
    chosen = options.parse_args()
    try:
        write_uneven(chosen.source, chosen.folder, chosen.operations.split(","))
    except UserError as error:
        sys.exit(f"uneven: {error}")


if __name__ == "__main__":
    main()
