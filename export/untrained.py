"""Bundles of an untrained network: they find nothing, but take the time and memory of a trained one.

``python -m slimalign.export.untrained --out DIR`` writes one a format, ``DIR/untrained-<format>``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.catalogue import build_network
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_unjudged
from slimalign.export.formats import format_named
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import W300

FACES = 40
"""Drawn faces that files of fewer bits are calibrated on."""
BOX_SCALE = 1.25


def main() -> None:
    """Write the bundles that the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--network", default="sd-hrnet-300w")
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--formats", default="onnx,litert,litert-int8")
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args()
    write_untrained(chosen.out, chosen.network, chosen.size, chosen.formats.split(","))


def write_untrained(out: Path, network: str, size: int, formats: Sequence[str]) -> list[Bundle]:
    """The network named ``network`` for 68 points and ``size`` pixels, in each of ``formats``; no file is judged.

    Raises UserError for names that are unknown, and for a network other than the supernet and its students.
    """
    torch.manual_seed(0)
    built = build_network(network, W300.count, size).network.eval()
    if not isinstance(built, HRSuperNet):
        raise UserError(f"network '{network}': give the supernet, a student or an architecture's JSON")
    with torch.no_grad():
        # Its heatmaps start flat, and of many equal values the first is slow to find.
        built.head.heatmaps.weight.normal_(0, 0.3)
    faces = drawn_samples(FACES, W300, seed=0)
    subject = ExportSubject("untrained", built, size, BOX_SCALE, W300.name, "local-softmax", STRIDE)
    crops = cut_crops(faces[:1], CropRule(size, BOX_SCALE))
    bench = Workbench(subject, crops, ExportFaces(faces, faces, "inter-ocular"))
    return [write_unjudged(out / f"untrained-{name}", bench, format_named(name)) for name in formats]


if __name__ == "__main__":
    main()
