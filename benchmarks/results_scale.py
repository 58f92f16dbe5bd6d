"""How long ``pick`` and ``report`` take over 10 000 records, as whole commands with their start.

``python -m slimalign.benchmarks.results_scale`` writes such a results file in a temporary folder, made up from a
seed: 2500 bundles, each with its cost, its accuracy over 224 faces and its latency in two runtimes. It prints seconds
against what is allowed, and ends with status 1 where a command takes longer. The seconds of processor time beside them
are what would be left were nothing else at work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

from slimalign.benchmarks.mains import run_main
from slimalign.benchmarks.results import AccuracyRecord, AnyRecord, CostRecord, append
from slimalign.runtimes.metrics import accuracy
from slimalign.runtimes.timing import Record

BUNDLES = 2500
FACES = 224
VISITS, CALLS = 4, 50
"""Of each latency record."""
RUNTIMES = ("onnxruntime", "litert")
PRECISIONS = ("fp32", "fp16", "int8")
MOST_SECONDS = {"pick": 2.0, "report": 10.0}
SEED = 0
LIMITS = ("--max-latency-ms", "8", "--max-size-mb", "6")


def main() -> int:
    """Print a line a command; 0 where each is quick enough, else 1."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=3, help="of each command; their median counts")
    options.add_argument("--bundles", type=int, default=BUNDLES)
    options.add_argument("--keep", type=Path, help="where the results file is written, and left")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.keep or Path(folder) / "results.jsonl"
        path.unlink(missing_ok=True)
        records = list(made_records(chosen.bundles))
        append(path, records)
        print(f"{len(records)} records, {path.stat().st_size / 1e6:.1f} MB")  # noqa: T201
        commands = {
            "pick": ["pick", path, *LIMITS],
            "report": ["report", path, "--out", Path(folder) / "report.html"],
        }
        held = [_is_quick(name, commands[name], chosen.runs) for name in MOST_SECONDS]
    return 0 if all(held) else 1


def made_records(bundles: int) -> Iterator[AnyRecord]:
    """Records of so many bundles: the larger the slower, and the more accurate but for chance."""
    rng = np.random.default_rng(SEED)
    faces = rng.gamma(9.0, 1 / 9.0, FACES)
    for number in range(bundles):
        yield from _records_of(f"net-{number}", faces, rng)


def _records_of(name: str, faces: np.ndarray, rng: np.random.Generator) -> Iterator[AnyRecord]:
    """``faces`` (FACES,) say how hard each face is to all bundles."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    macs = float(np.exp(rng.uniform(np.log(2e7), np.log(2e9))))
    precision = str(rng.choice(PRECISIONS))
    size = int(macs / 40)
    yield CostRecord(name, sha256, precision, size_bytes=size, params=size // 4, macs=int(macs))
    level = 3 + 3 * (2e7 / macs) ** 0.3 + rng.uniform(0, 0.5)
    nmes = np.round(level * faces * rng.gamma(25.0, 1 / 25.0, FACES), 5)
    halves = {"common": nmes[: FACES // 2], "challenging": nmes[FACES // 2 :]}
    whole = accuracy(nmes)
    reach = 1.96 * float(nmes.std()) / FACES**0.5
    yield AccuracyRecord(
        name, sha256, RUNTIMES[0], "val", "made", "inter-ocular", FACES, whole.nme, whole.failure_rate, whole.auc,
        subsets={
            part: {"images": len(held), "nme": float(held.mean()), "failure_rate": 0.0, "auc": 0.0}
            for part, held in halves.items()
        },
        nmes=tuple(nmes.tolist()),
        subset_nmes={part: tuple(held.tolist()) for part, held in halves.items()},
        nme_interval=(whole.nme - reach, whole.nme + reach),
    )  # fmt: skip
    for runtime in RUNTIMES:
        yield _latency(name, sha256, precision, runtime, macs / 3e7, rng)


def _latency(
    name: str, sha256: str, precision: str, runtime: str, milliseconds: float, rng: np.random.Generator
) -> Record:
    visits = rng.normal(1, 0.01, (VISITS, 1)) + rng.gamma(2.0, 0.01, (VISITS, CALLS))
    samples = np.round(milliseconds * rng.uniform(0.8, 1.2) * visits, 5)
    percentiles = {f"p{percent}_ms": float(np.percentile(samples, percent)) for percent in (50, 90, 95)}
    return Record(
        bundle=name, sha256=sha256, runtime=runtime, precision=precision, batch=1, threads=1,
        protocol="kernel-1-draft", target="local", cpu="made up", started="2026-01-01T00:00:00+00:00",
        init_ms=1.0, first_ms=1.0, samples_ms=tuple(samples.ravel().tolist()), visits=VISITS * (CALLS,),
        intervals={key: (0.99 * value, 1.01 * value) for key, value in percentiles.items()},
    )  # fmt: skip


def _is_quick(name: str, arguments: list[str | Path], runs: int) -> bool:
    seconds, busy = [], []
    for _ in range(runs):
        began, before = perf_counter(), _processor_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "slimalign", *map(str, arguments), "--json"],
            check=False,
            capture_output=True,
            text=True,
        )
        seconds.append(perf_counter() - began)
        busy.append(_processor_seconds() - before)
        if done.returncode not in (0, 1):
            print(f"{name}: {done.stderr.strip()}")  # noqa: T201
            return False
        json.loads(done.stdout)
    median, most = statistics.median(seconds), MOST_SECONDS[name]
    print(  # noqa: T201
        f"{name}: {median:.2f} s, at most {most:g} s{'' if median <= most else ': TOO LONG'}"
        f" ({statistics.median(busy):.2f} s of processor time)"
    )
    return median <= most


def _processor_seconds() -> float:
    """Of all commands so far."""
    used = os.times()
    return used.children_user + used.children_system


if __name__ == "__main__":
    run_main(main)
