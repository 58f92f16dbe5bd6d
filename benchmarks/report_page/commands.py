"""The commands that make the data of a figure again, from what the records tell."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from slimalign.benchmarks.layers import LayersRecord
from slimalign.benchmarks.report_page.chosen import SHORT_HASH
from slimalign.benchmarks.report_page.settings import by_machine
from slimalign.benchmarks.results import AccuracyRecord, AnyLatency, CostRecord, Results
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.sweep import END_TO_END
from slimalign.runtimes.timing import REFERENCE_MODE, SUSTAINED_MODE, Record
from slimalign.targets.address import LOCAL

PATH_TO = "PATH/TO/"
"""Before what only the user knows where it lies."""
FACES = f"{PATH_TO}faces"
PHONES_PROGRAM = f"{PATH_TO}benchmark_model"
A_FORMAT = "FORMAT"
"""For --data-format, where no record tells how the faces were read."""
_INPUTS = re.compile(r"(\S+) (.+), \d+ faces, ([0-9a-f]+)")
"""What a record's ``inputs`` say of faces of a split, as slimalign.benching writes it: format, split, fingerprint."""

Places = Mapping[str, str]
"""Where bundles lie, by their sha256."""


def all_places(results: Results, known: Places) -> dict[str, str]:
    """The path of every bundle: a ``known`` one, else its name after ``PATH/TO/``.

    Where several bundles have that name, runtime and precision follow, and a part of the sha256 where needed.
    """
    names: dict[str, str] = {}
    runtimes: dict[str, str] = {}
    precisions: dict[str, str] = {}
    for record in (*results.cost, *results.layers, *results.accuracy, *results.latencies):
        names[record.sha256] = record.bundle
        if not isinstance(record, AccuracyRecord):
            precisions[record.sha256] = record.precision
        if not isinstance(record, CostRecord) and record.runtime is not None:
            runtimes[record.sha256] = record.runtime.split("-")[0]
    full = {
        sha256: "-".join([name, *(kind[sha256] for kind in (runtimes, precisions) if sha256 in kind)])
        for sha256, name in names.items()
    }
    held, held_full = Counter(names.values()), Counter(full.values())
    made = {}
    for sha256, name in names.items():
        called = name if held[name] == 1 else full[sha256]
        double = held[name] > 1 and held_full[called] > 1
        made[sha256] = PATH_TO + (f"{called}-{sha256[:SHORT_HASH]}" if double else called)
    return {**made, **known}


def formats_of(records: Iterable[AnyLatency]) -> dict[str, str]:
    """How faces were read, by the beginning of their fingerprint, as far as latencies on them tell."""
    told = (_INPUTS.fullmatch(record.inputs) for record in records if isinstance(record, Record))
    return {found[3]: found[1] for found in told if found is not None}


def bench_commands(records: Iterable[AnyLatency], places: Places, results: str) -> tuple[str, ...]:
    """One ``slimalign bench`` for each machine, protocol, backend, faces and set of sizes that bundles were timed at.

    ``places`` are those of all bundles. Of bundles that bench could not tell apart each gets a command of its own.
    """
    made = []
    for (target, _, protocol), group in by_machine(list(records)).items():
        commands: dict[tuple[str, ...], list[AnyLatency]] = {}
        for same in _by_way(group):
            words = [
                "--batch", _listed(sorted({record.batch for record in same})),
                "--threads", _listed(sorted({record.threads for record in same})),
                *_where(target), *_how(same[0], protocol), *_faces(same[0]), *_backend(same[0].runtime),
            ]  # fmt: skip
            commands.setdefault(tuple(words), []).append(same[0])
        for options, bundles in commands.items():
            for apart in _told_apart(bundles):
                held = dict.fromkeys(places[record.sha256] for record in apart)
                made.append(shlex.join(["slimalign", "bench", *held, *options, "--results", results]))
    return tuple(dict.fromkeys(made))


def eval_commands(
    records: Sequence[AccuracyRecord], places: Places, formats: Mapping[str, str], results: str
) -> tuple[str, ...]:
    """One ``slimalign eval`` for each bundle, as a loop where there are several.

    ``formats`` says how faces were read, by the beginning of their fingerprint.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        read = next((name for start, name in formats.items() if record.faces.startswith(start)), A_FORMAT)
        words = (
            "--data", FACES, "--split", record.split, "--data-format", read,
            "--normaliser", record.normaliser, *_where(record.target), *_backend(record.runtime),
        )  # fmt: skip
        groups.setdefault(words, []).append(places[record.sha256])
    made = []
    for words, held in groups.items():
        bundles = list(dict.fromkeys(held))
        rest = shlex.join([*words, "--results", results])
        if len(bundles) == 1:
            made.append(f"slimalign eval {shlex.quote(bundles[0])} {rest}")
        else:
            made.append(f'for bundle in {shlex.join(bundles)}; do slimalign eval "$bundle" {rest}; done')
    return tuple(made)


def profile_commands(records: Sequence[LayersRecord], places: Places, results: str) -> tuple[str, ...]:
    """One ``slimalign profile`` for each bundle and thread count."""
    made = []
    for record in records:
        timed = () if record.runtime is None else ("--timed", "--threads", str(record.threads))
        bundle = places[record.sha256]
        made.append(shlex.join(["slimalign", "profile", bundle, "--layers", *timed, "--results", results]))
    return tuple(dict.fromkeys(made))


def _minutes(record: AnyLatency) -> float:
    """How long the calls of a sustained record took."""
    return round(sum(record.samples_ms) / 60e3, 1) if isinstance(record, Record) else 0.0


def _by_way(records: Iterable[AnyLatency]) -> list[list[AnyLatency]]:
    """The records of each bundle in each runtime and on each set of faces."""
    found: dict[tuple[str, ...], list[AnyLatency]] = {}
    for record in records:
        found.setdefault((record.sha256, record.runtime, *_faces(record)), []).append(record)
    return list(found.values())


def _told_apart(records: Iterable[AnyLatency]) -> list[list[AnyLatency]]:
    """``records`` in as few lists as hold no two bundles of one name, runtime and precision."""
    lists: list[dict[tuple[str, str, str], AnyLatency]] = []
    for record in records:
        kind = (record.bundle, record.runtime, record.precision)
        free = next((held for held in lists if kind not in held), None)
        if free is None:
            free = {}
            lists.append(free)
        free[kind] = record
    return [list(held.values()) for held in lists]


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _where(target: str) -> list[str]:
    return [] if target == LOCAL else ["--target", target]


def _how(record: AnyLatency, protocol: str) -> list[str]:
    words = []
    if protocol.startswith(f"{END_TO_END}-"):
        words += ["--timed", END_TO_END]
    if protocol.endswith(f"-{REFERENCE_MODE}"):
        words.append("--reference")
    if protocol.endswith(f"-{SUSTAINED_MODE}"):
        words += ["--sustained", f"{_minutes(record):g}"]
    if isinstance(record, ToldLatency):
        words += ["--benchmark-model", PHONES_PROGRAM]
    return words


def _faces(record: AnyLatency) -> list[str]:
    """What gives bench the faces of a split, where ``record`` tells of them; else they were drawn."""
    found = _INPUTS.fullmatch(record.inputs) if isinstance(record, Record) else None
    return [] if found is None else ["--data", FACES, "--split", found[2], "--data-format", found[1]]


def _backend(runtime: str) -> list[str]:
    """The option that lets ``runtime``, as records name it, compute; a delegate's library is known by name alone."""
    name, _, part = runtime.partition("-")
    if not part:
        return []
    if name == "tensorrt":
        return ["--cuda-graph"]
    if name == "litert":
        return ["--delegate", part if part in ("none", "gpu") else PATH_TO + part]
    return ["--provider", part]
