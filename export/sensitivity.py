"""Which blocks of a network int8 hurts, and the fewest of them that must stay in float for a file to pass the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from slimalign.benchmarks.latency import sweep
from slimalign.export.bundle_writer import write_unjudged
from slimalign.export.formats import Format, format_named
from slimalign.export.gate import GateError, GateReport
from slimalign.export.rescue import LatencyCost, Rescue
from slimalign.export.workbench import Workbench
from slimalign.runtimes.bundle import Bundle

Progress = Callable[[int, int], None]
"""Called with how many blocks have been looked at and how many there are."""

Judge = Callable[[tuple[str, ...]], GateReport]
"""What the gate finds of a file with these blocks in float; raises GateError where too little of it is in int8."""


def rescue_by_blocks(bench: Workbench, format_name: str, progress: Progress) -> Rescue:
    """The worst blocks of the subject on ``bench``, kept in float until its file passes the gate.

    The format is one that is calibrated. Raises GateError where no blocks do it of which an int8 file may keep so many.
    """
    kind = format_named(format_name)
    assert kind.blocks is not None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        judge = partial(_judged, bench, kind, folder)
        all_int8 = judge(())
        alone = sensitivity(judge, kind.blocks(bench), progress)
        kept = worst_blocks(judge, alone, all_int8.nme)
        latency = None
        if kind.runs_here:
            latency = _latency_cost(
                bench, kind, _written(bench, kind, folder, kept), _written(bench, kind, folder, ())
            )
    return Rescue(all_int8.network_nme, all_int8.nme, alone, kept, latency)


def sensitivity(judge: Judge, blocks: list[str], progress: Progress) -> dict[str, float]:
    """The NME in percent of a file with each of ``blocks`` alone in float, but for those that hold too much."""
    found = {}
    for number, block in enumerate(blocks, start=1):
        with suppress(GateError):
            found[block] = judge((block,)).nme
        progress(number, len(blocks))
    return found


def worst_blocks(judge: Judge, alone: Mapping[str, float], all_int8_nme: float) -> tuple[str, ...]:
    """The blocks in ``alone`` with which in float a file passes, taken one by one by what each alone gains.

    One for which there is no room any more is passed over. Raises GateError where they do not do.
    """
    hurting = [
        block for block in sorted(alone, key=lambda block: alone[block]) if alone[block] < all_int8_nme
    ]
    kept: tuple[str, ...] = ()
    for block in hurting:
        with suppress(GateError):
            report = judge((*kept, block))
            kept = (*kept, block)
            if report.fault is None:
                return kept
    raise GateError(f"with {', '.join(kept) or 'any one block'} in float it does not pass either")


def all_int8_report(bench: Workbench, format_name: str) -> GateReport:
    """What the gate finds of the subject's file all in int8."""
    with tempfile.TemporaryDirectory() as folder:
        return _judged(bench, format_named(format_name), Path(folder), ())


def _written(bench: Workbench, kind: Format, folder: Path, blocks: tuple[str, ...]) -> Bundle:
    return write_unjudged(folder / f"with-{len(blocks)}", bench, kind, blocks)


def _judged(bench: Workbench, kind: Format, folder: Path, blocks: tuple[str, ...]) -> GateReport:
    with kind.opener(_written(bench, kind, folder, blocks), None) as session:
        return bench.gate.judge(session, kind.gate_faces)


def _latency_cost(bench: Workbench, kind: Format, rescued: Bundle, all_int8: Bundle) -> LatencyCost:
    openers = [partial(kind.opener, bundle) for bundle in (rescued, all_int8)]
    ours, plain = sweep(openers, [1], [1], lambda _: bench.parity_crops)
    return LatencyCost(ours.p50_ms, plain.p50_ms, ours.runtime, ours.protocol, ours.cpu)
