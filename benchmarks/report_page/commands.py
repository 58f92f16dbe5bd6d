"""The commands that make the data of a figure again, from what the records tell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from slimalign.benchmarks.layers import LayersRecord
from slimalign.benchmarks.report_page.settings import by_machine
from slimalign.benchmarks.results import AccuracyRecord, AnyLatency
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.sweep import END_TO_END
from slimalign.runtimes.timing import REFERENCE_MODE, SUSTAINED_MODE, Record
from slimalign.targets.address import LOCAL

MOST_BUNDLES = 12
"""Bundles that one command names; of more the first stand for all."""
FACES = "path/to/faces"
PHONES_PROGRAM = "path/to/benchmark_model"

Places = Mapping[str, str]
"""Where bundles lie, by their sha256."""


def bench_commands(records: Iterable[AnyLatency], places: Places, results: str) -> tuple[str, ...]:
    """One ``slimalign bench`` for each machine, protocol and set of sizes that bundles were timed at."""
    made = []
    for (target, _, protocol), group in by_machine(list(records)).items():
        sizes: dict[tuple[tuple[int, ...], tuple[int, ...]], list[AnyLatency]] = {}
        for same in _by_bundle(group).values():
            batches = tuple(sorted({record.batch for record in same}))
            threads = tuple(sorted({record.threads for record in same}))
            sizes.setdefault((batches, threads), []).append(same[0])
        for (batches, threads), bundles in sizes.items():
            words = ["--batch", _listed(batches), "--threads", _listed(threads), *_where(target)]
            if protocol.startswith(f"{END_TO_END}-"):
                words += ["--timed", END_TO_END]
            if protocol.endswith(f"-{REFERENCE_MODE}"):
                words.append("--reference")
            if protocol.endswith(f"-{SUSTAINED_MODE}"):
                words += ["--sustained", f"{_minutes(bundles[0]):g}"]
            if isinstance(bundles[0], ToldLatency):
                words += ["--benchmark-model", PHONES_PROGRAM]
            held = [_place(record, places) for record in bundles]
            made.append(_line("bench", held, [*words, "--results", results]))
    return tuple(made)


def eval_commands(records: Sequence[AccuracyRecord], places: Places, results: str) -> tuple[str, ...]:
    """One ``slimalign eval`` for each bundle, as a loop where there are several."""
    groups: dict[tuple[str, str, str], list[AccuracyRecord]] = {}
    for record in records:
        groups.setdefault((record.split, record.normaliser, record.target), []).append(record)
    made = []
    for (split, normaliser, target), held in groups.items():
        words = ["--data", FACES, "--split", split, "--normaliser", normaliser, *_where(target)]
        bundles = list(dict.fromkeys(_place(record, places) for record in held))
        rest = shlex.join([*words, "--results", results])
        if len(bundles) == 1:
            made.append(f"slimalign eval {shlex.quote(bundles[0])} {rest}")
        else:
            made.append(f'for bundle in {_some(bundles)}; do slimalign eval "$bundle" {rest}; done')
    return tuple(made)


def profile_commands(records: Sequence[LayersRecord], places: Places, results: str) -> tuple[str, ...]:
    """One ``slimalign profile`` for each bundle and thread count."""
    made = []
    for record in records:
        timed = () if record.runtime is None else ("--timed", "--threads", str(record.threads))
        bundle = places.get(record.sha256, record.bundle)
        made.append(shlex.join(["slimalign", "profile", bundle, "--layers", *timed, "--results", results]))
    return tuple(dict.fromkeys(made))


def report_command(results: str, split: str, normaliser: str, out: str) -> str:
    """What makes the page again."""
    return shlex.join(
        ["slimalign", "report", results, "--split", split, "--normaliser", normaliser, "--out", out]
    )


def _minutes(record: AnyLatency) -> float:
    """How long the calls of a sustained record took."""
    return round(sum(record.samples_ms) / 60e3, 1) if isinstance(record, Record) else 0.0


def _by_bundle(records: Iterable[AnyLatency]) -> Mapping[str, list[AnyLatency]]:
    found: dict[str, list[AnyLatency]] = {}
    for record in records:
        found.setdefault(record.sha256, []).append(record)
    return found


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _where(target: str) -> list[str]:
    return [] if target == LOCAL else ["--target", target]


def _place(record: AnyLatency | AccuracyRecord, places: Places) -> str:
    return places.get(record.sha256, record.bundle)


def _line(command: str, bundles: Sequence[str], words: Sequence[str]) -> str:
    return f"slimalign {command} {_some(list(dict.fromkeys(bundles)))} {shlex.join(words)}"


def _some(bundles: Sequence[str]) -> str:
    named = " ".join(shlex.quote(bundle) for bundle in bundles[:MOST_BUNDLES])
    more = len(bundles) - MOST_BUNDLES
    return f"{named} and-{more}-more" if more > 0 else named
