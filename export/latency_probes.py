"""The networks that a latency table is measured on: one for every part of the search space, and random ones.

A network of one operation would be another thing than the operation in its place. So each probe is a small network of
the search space that has one part some times more often than another probe has: what the part takes is the difference.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from slimalign.compress.batches import seeded
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.networks.architecture import STRIDE, Architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.slim import CutCosts, successive_cuts
from slimalign.export.bundle_writer import write_unjudged
from slimalign.export.formats import Format, format_named
from slimalign.export.litert_from_torch import write_litert_files
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.runtimes.bundle import Bundle, is_bundle, read_bundle
from slimalign.runtimes.schemes import scheme_named

COPIES = 8
"""How often a probe has the operation that it is for."""
FACES = 40
"""Drawn faces that files of fewer bits are calibrated on."""
GROUP = 8
"""Networks that one process of LiteRT's converter takes: it needs seconds to start, and memory for each."""

Stage = dict[int, tuple[int, ...]]
"""One stage's blocks and what they read, see Architecture."""


def probes(full: Architecture) -> dict[str, Architecture]:
    """Small networks of ``full``'s shape that tell its parts apart, each by the name of the part that it is for."""
    levels = range(len(full.widths))
    first: Stage = dict.fromkeys(levels, (0,))
    same: Stage = {level: (level,) for level in levels}
    longest = COPIES if len(full.stages) > 1 else 0
    stages: dict[str, list[Stage]] = {"base": [first, *[same] * longest]}
    for source in levels:
        for target in levels:
            if source != target:
                both = tuple(sorted((source, target)))
                stages[f"{source}>{target}"] = [first, *[same | {target: both}] * longest]
    for level in levels:
        other = (level + 1) % len(levels)
        # The other block reads this one, or nothing would: what nothing reads is in no file.
        without = same | {level: (other,), other: tuple(sorted({level, other}))}
        stages[f"{level}>{level}"] = [first, *[without] * longest]
        stages[f"path@{level}"] = [{level: (0,)}, *[_only(level)] * longest]
        stages[f"stem>{level}"] = [{level: (0,)}]
        if longest:
            # Of the first level the head's share is told by a network that ends without it.
            ends: Stage = {other: (0,)} if level == 0 else {0: (0,), level: (0,)}
            stages[f"head@{level}"] = [_only(0), ends]
    found = {name: _network(full, given, 0) for name, given in stages.items()}
    found["mbconv@stem"] = _network(full, stages["stem>0"], full.encoders)
    for level in levels:
        found[f"mbconv@{level}"] = _network(full, stages[f"path@{level}"], full.encoders)
    return _distinct(found)


def _only(level: int) -> Stage:
    return {level: (level,)}


def _network(full: Architecture, stages: Sequence[Stage], encoders: int) -> Architecture:
    shape = {"stages": tuple(stages), "encoders": encoders, "head_width": full.hidden_width}
    return Architecture.model_validate(full.model_dump() | shape)


def _distinct(found: Mapping[str, Architecture]) -> dict[str, Architecture]:
    """Each network once, under its first name."""
    names: dict[str, str] = {}
    for name, architecture in found.items():
        names.setdefault(architecture.model_dump_json(), name)
    return {name: found[name] for name in names.values()}


def random_networks(full: Architecture, count: int, *seed: object) -> dict[str, Architecture]:
    """``count`` random cuts of ``full``, from near the lightest to near the whole, by names."""
    operations, costs = full.operations, CutCosts(full)
    found = {}
    for number in range(count):
        order = torch.randperm(len(operations), generator=seeded(*seed, number)).tolist()
        cuts = list(successive_cuts(full, [operations[place] for place in order]))
        found[f"random-{number + 1}"] = spread(costs, cuts, (number + 0.5) / count)
    return found


def spread(costs: CutCosts, cuts: Sequence[Architecture], share: float) -> Architecture:
    """Of ``cuts``, the largest first, the one whose multiply-adds are ``share`` of the way from the least to the most.

    The way is measured by ratios, so that small networks are as many as large ones.
    """
    most, least = costs.of(cuts[0]).macs, costs.of(cuts[-1]).macs
    wanted = least * (most / least) ** share
    return min(cuts, key=lambda cut: abs(costs.of(cut).macs - wanted))


class UntrainedFiles:
    """Untrained networks as bundles of one format in ``folder``: they take the time of trained ones.

    A bundle that is there already is not written again. ``scheme`` is the landmark scheme that they are for.
    """

    def __init__(self, folder: Path, format_name: str, scheme: str, box_scale: float) -> None:
        self._folder = folder
        self._format_name = format_name
        self._scheme = scheme
        self._box_scale = box_scale

    def write(
        self, networks: Mapping[str, Architecture], progress: Callable[[int, int], None]
    ) -> list[Bundle]:
        """The bundles of ``networks``; ``progress`` is told how many there are, and of how many.

        Raises UserError where the format's packages are missing or a network cannot be converted.
        """
        places = {name: self._place(architecture) for name, architecture in networks.items()}
        missing = [name for name, place in places.items() if not is_bundle(place)]
        benches: Iterable[tuple[str, Workbench]] = (
            (name, self._bench(name, networks[name])) for name in missing
        )
        prepared = _converted(benches) if self._format.kind == "litert" else benches
        progress(len(networks) - len(missing), len(networks))
        for done, (name, bench) in enumerate(prepared, start=len(networks) - len(missing) + 1):
            write_unjudged(places[name], bench, self._format)
            progress(done, len(networks))
        return [read_bundle(place) for place in places.values()]

    @property
    def _format(self) -> Format:
        return format_named(self._format_name)

    def _place(self, architecture: Architecture) -> Path:
        """Where a network's bundle lies: another network, or other versions of the tools, have another place."""
        versions = [importlib.metadata.version(tool) for tool in ("slimalign", *self._format.tools)]
        key = sha256(repr([architecture.model_dump_json(), self._scheme, versions]).encode()).hexdigest()
        return self._folder / f"{self._format_name}-{key[:16]}"

    def _bench(self, name: str, architecture: Architecture) -> Workbench:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            network = HRSuperNet(architecture).eval()
            # As a search leaves them: a factor of one would be no multiplication.
            network.factors.copy_(0.5 + torch.rand(len(network.factors)))
        subject = ExportSubject(
            name, network, architecture.input_size, self._box_scale, self._scheme, "local-softmax", STRIDE
        )
        # What the file computes is not judged, and of calibrated ones alone the faces matter.
        nothing = np.zeros((0, architecture.input_size, architecture.input_size, 3), np.uint8)
        return Workbench(subject, nothing, self._faces if self._format.calibrated else None)

    @cached_property
    def _faces(self) -> ExportFaces:
        faces = drawn_samples(FACES, scheme_named(self._scheme), seed=0)
        return ExportFaces(faces, faces, "inter-ocular")


class _ConvertedWorkbench(Workbench):
    """A bench whose LiteRT file was converted together with others."""

    def __init__(self, bench: Workbench, converted: Path, faces: ExportFaces | None) -> None:
        super().__init__(bench.subject, bench.parity_crops, faces)
        self._converted = converted

    @cached_property
    def litert(self) -> Path:
        """The network as LiteRT in float32."""
        return self._converted


def _converted(benches: Iterable[tuple[str, Workbench]]) -> Iterator[tuple[str, Workbench]]:
    """``benches`` with their LiteRT files, group by group; a file is there until the next bench is asked for."""
    left = iter(benches)
    while group := list(islice(left, GROUP)):
        with TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{place}.tflite" for place in range(len(group))]
            networks = {path: bench.subject.network for path, (_, bench) in zip(paths, group, strict=True)}
            write_litert_files(networks, group[0][1].subject.input_size)
            for path, (name, bench) in zip(paths, group, strict=True):
                yield name, _ConvertedWorkbench(bench, path, bench.faces if bench.has_faces else None)
