"""The verb that measures a latency table, and puts it to the proof on networks that it was not made of."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from slimalign.benching import DRAWN
from slimalign.benchmarks.gathering import Aside
from slimalign.benchmarks.latency import Wanted, crops_of
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.latency_table import LatencyTable, Shape, Tried, parts_of
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.networks.supernet import operation_key
from slimalign.compress.recipe import Recipe
from slimalign.compress.slim import CutCosts, ranked_operations, successive_cuts
from slimalign.export.formats import check_imports, format_named
from slimalign.export.latency_fit import PERCENTILE, Measured, part_times
from slimalign.export.latency_probes import UntrainedFiles, probes, random_networks, spread
from slimalign.places import Place
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import check_replaceable, write_text
from slimalign.runtimes.schemes import scheme_named
from slimalign.runtimes.sweep import FACES
from slimalign.runtimes.timing import SETTLE, Protocol, Record
from slimalign.runtimes.timing_loop import Span

KINDS = ("onnx", "litert")
"""The runtimes whose files are quickly made and measured."""

CALIBRATING = 10
"""Whole random networks that the table is measured on beside the small ones: parts in their place, among others."""

ROUNDS = 30
VISIT = Span(calls=5, seconds=0.05)
PROTOCOL = Protocol(
    "kernel", 1, "draft", Span(5, 0.1), SETTLE, Span(ROUNDS * VISIT.calls, ROUNDS * VISIT.seconds), ROUNDS
)
"""Many short visits: a while in which the machine does something else then falls on all networks alike."""


@dataclass(frozen=True)
class TableRequest:
    """What a table is asked of: networks of ``recipe`` in a format, on so many threads (None: all cores).

    ``importances`` are those of a finished search by the operations' names, None where there is none. ``tried``
    networks put the table to the proof; half of them are cut by the importances where there are some, the others at
    random. ``command`` is what the user typed.
    """

    recipe: Recipe
    importances: Mapping[str, float] | None
    format_name: str
    threads: int | None
    tried: int
    command: str

    @property
    def full(self) -> Architecture:
        """The supernet."""
        recipe = self.recipe
        return recipe.search.supernet(scheme_named(recipe.data.scheme).count, recipe.input.size)


def measured_table(request: TableRequest, place: Place, out: Path, progress: Progress) -> LatencyTable:
    """Measure the table at ``place`` and write it to ``out``.

    All networks, those of the proof too, are measured in one interleaved sweep. Their files are kept beside ``out``,
    in ``<its name>-files``, and not made anew by a next time. Raises UserError for a format that cannot be measured,
    and where the place cannot be reached.
    """
    _check(request, out)
    place.check()  # writing the networks takes minutes
    full, recipe = request.full, request.recipe
    made_of, proof = _made_of(full), _proof(request)
    networks = {**made_of, **{f"tried {name}": network for name, network in proof.items()}}
    files = UntrainedFiles(
        out.with_name(f"{out.stem}-files"), request.format_name, recipe.data.scheme, recipe.input.box_scale
    )
    task = progress.add_task(f"writing {len(networks)} networks as {request.format_name}", total=None)
    bundles = files.write(networks, lambda done, total: progress.update(task, completed=done, total=total))
    progress.remove_task(task)
    records = dict(zip(networks, _measured(request, bundles, place, progress), strict=True))
    table = _table(request, full, [(made_of[name], records[name]) for name in made_of])
    tried = [_tried(table, name, network, records[f"tried {name}"]) for name, network in proof.items()]
    table = table.model_copy(update={"tried": tuple(tried)})
    write_text(out, table.to_json())
    return table


def _check(request: TableRequest, out: Path) -> None:
    """Before anything is written."""
    kind = format_named(request.format_name)
    if kind.kind not in KINDS or not kind.runs_here:
        raise UserError(
            f"--format {request.format_name}: tables are of formats that ONNX Runtime or LiteRT runs; choose onnx, "
            "onnx-int8, litert or litert-int8"
        )
    if request.tried < 0:
        raise UserError(f"--check {request.tried}: give a whole number, or 0 for no networks")
    check_imports([request.format_name])
    check_replaceable(out)


def _made_of(full: Architecture) -> dict[str, Architecture]:
    return {**probes(full), **random_networks(full, CALIBRATING, "latency table")}


def _proof(request: TableRequest) -> dict[str, Architecture]:
    """Networks of all sizes, none of which the table is made of."""
    full = request.full
    sliced = 0 if request.importances is None else math.ceil(request.tried / 2)
    found = {}
    if request.importances is not None and sliced:
        importances = {op: request.importances[operation_key(op)] for op in full.operations}
        costs, cuts = CutCosts(full), list(successive_cuts(full, ranked_operations(importances)))
        chosen = [spread(costs, cuts, (number + 0.5) / sliced) for number in range(sliced)]
        found = {f"slimmed to {len(network.operations)}": network for network in chosen}
    if request.tried > sliced:
        random = random_networks(full, request.tried - sliced, "latency table", "proof")
        found |= {f"{name} of {len(network.operations)}": network for name, network in random.items()}
    used = {network.operations for network in _made_of(full).values() if Shape.of(network) == Shape.of(full)}
    return {name: network for name, network in found.items() if network.operations not in used}


def _measured(
    request: TableRequest, bundles: Sequence[Bundle], place: Place, progress: Progress
) -> list[Record]:
    faces = drawn_samples(FACES, scheme_named(request.recipe.data.scheme), seed=0)
    task = progress.add_task(f"measuring {len(bundles)} networks in turns", total=None)
    with _frozen():
        records = place.sweep(
            Wanted(bundles, (1,), (request.threads,), crops_of(faces), PROTOCOL, memory=False),
            lambda done, total: progress.update(task, completed=done, total=total),
            Aside(DRAWN),
        )
    progress.remove_task(task)
    return records


@contextmanager
def _frozen() -> Iterator[None]:
    """PyTorch's objects are no garbage, but before each of many short visits they would be looked through for some."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _table(
    request: TableRequest, full: Architecture, measured: Sequence[tuple[Architecture, Record]]
) -> LatencyTable:
    shape, (_, record) = Shape.of(full), measured[0]
    networks = [Measured(parts_of(network), _rounds(record)) for network, record in measured]
    wanted = parts_of(full)
    return LatencyTable(
        format=request.format_name,
        runtime=record.runtime,
        version=record.version,
        threads=record.threads,
        target=record.target,
        cpu=record.cpu,
        protocol=record.protocol,
        percentile=PERCENTILE,
        started=record.started,
        before=dict(record.before),
        after=dict(record.after),
        command=request.command,
        shape=shape,
        parts={name: time for name, time in part_times(networks, shape).items() if name in wanted},
    )


def _rounds(record: Record) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    ends = np.cumsum(record.visits)[:-1]
    return list(np.split(np.array(record.samples_ms), ends))


def _tried(table: LatencyTable, name: str, network: Architecture, record: Record) -> Tried:
    counts = parts_of(network)
    return Tried(
        name=name,
        operations=len(network.operations),
        macs=CutCosts(network).of(network).macs,
        predicted_ms=table.predicted_ms(counts),
        measured_ms=Measured(counts, _rounds(record)).ms,
        p50_ms=record.p50_ms,
    )
