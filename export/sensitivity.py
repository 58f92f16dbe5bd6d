"""Which blocks of a network int8 hurts, and which of them stay in float for a file to pass the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from slimalign.benchmarks.latency import Wanted, sweep
from slimalign.export.bundle_writer import write_unjudged
from slimalign.export.formats import Format, format_named
from slimalign.export.gate import GateError, GateReport
from slimalign.export.rescue import Judged, LatencyCost, Rescue
from slimalign.export.workbench import Workbench
from slimalign.runtimes.bundle import Bundle

Progress = Callable[[int, int], None]
"""Called with how many blocks have been looked at and how many there are."""

Judge = Callable[[tuple[str, ...]], GateReport]
"""What the gate finds of a file with these blocks in float; raises GateError where too little of it is in int8."""


def rescue_by_blocks(bench: Workbench, format_name: str, all_int8: GateReport, progress: Progress) -> Rescue:
    """The worst blocks of the subject on ``bench``, kept in float until its file passes the gate.

    ``all_int8`` is what the gate found of the file that failed, in a format that has blocks. Raises GateError where no
    blocks do it of which an int8 file may keep so many.
    """
    kind = format_named(format_name)
    assert kind.blocks is not None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        judge = partial(_judged, bench, kind, folder)
        alone = sensitivity(judge, kind.blocks(bench), progress)
        kept = worst_blocks(judge, alone, all_int8)
        latency = None
        if kind.runs_here:
            files = [_written(bench, kind, folder, blocks) for blocks in (kept, ())]
            latency = _latency_cost(bench, kind, *files)
    judged = {block: Judged.of(report) for block, report in alone.items()}
    return Rescue(all_int8.network_nme, Judged.of(all_int8), judged, kept, latency)


def sensitivity(judge: Judge, blocks: list[str], progress: Progress) -> dict[str, GateReport]:
    """What the gate finds with each of ``blocks`` alone in float, but for those whose file cannot be judged.

    Those are too large for the rest to be called int8.
    """
    found = {}
    for number, block in enumerate(blocks, start=1):
        with suppress(GateError):
            found[block] = judge((block,))
        progress(number, len(blocks))
    return found


def worst_blocks(judge: Judge, alone: Mapping[str, GateReport], all_int8: GateReport) -> tuple[str, ...]:
    """Blocks in ``alone`` with which in float a file passes, taken one by one by what each gains by itself.

    One for which there is no room any more is passed over. Raises GateError where they do not do.
    """
    kept: tuple[str, ...] = ()
    for block in sorted(alone, key=lambda block: alone[block].strain):
        if alone[block].strain >= all_int8.strain:
            break
        with suppress(GateError):
            report = judge((*kept, block))
            kept = (*kept, block)
            if report.fault is None:
                return kept
    raise GateError(f"with {', '.join(kept) or 'any one block'} in float it does not pass either")


def _written(bench: Workbench, kind: Format, folder: Path, blocks: tuple[str, ...]) -> Bundle:
    return write_unjudged(folder / f"with-{len(blocks)}", bench, kind, blocks)


def _judged(bench: Workbench, kind: Format, folder: Path, blocks: tuple[str, ...]) -> GateReport:
    with kind.opener(_written(bench, kind, folder, blocks), None) as session:
        return bench.gate.judge(session, kind.gate_faces)


def _latency_cost(bench: Workbench, kind: Format, rescued: Bundle, all_int8: Bundle) -> LatencyCost:
    batch = rescued.manifest.batch or 1
    ours, plain = sweep(
        Wanted([rescued, all_int8], [batch], [1], lambda _: bench.parity_crops), opener=kind.opener
    )
    return LatencyCost(ours.p50_ms, plain.p50_ms, batch, ours.runtime, ours.protocol, ours.cpu)
