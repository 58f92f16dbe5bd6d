"""A results file of a few bundles, and of many, for the tests of the report; all figures are made up by arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slimalign.benchmarks.results import AccuracyRecord, AnyRecord, CostRecord, append
from slimalign.runtimes.timing import Record

EVIL = "<img src=x onerror=alert(1)>"
FACES = 40
STATE = {
    "time": "2026-01-01T00:00:00Z",
    "power_mode": "unknown",
    "cpu_governors": ["performance"],
    "cpu_mhz": [1500.0],
    "temperatures_c": {"cpu": 41.5},
    "load_average": [0.1, 0.1, 0.1],
    "memory_mb": {"total": 8000, "available": 6000},
}


def latency_of(sha256: str, name: str, runtime: str, batch: int, ms: float, calls: int = 30) -> Record:
    """``calls`` calls, a third of them a hundredth faster and a third slower than ``ms``, in three visits."""
    samples = tuple(ms * (0.99 + 0.01 * (call % 3)) for call in range(calls))
    return Record(
        bundle=name,
        sha256=sha256,
        runtime=runtime,
        precision="fp32",
        batch=batch,
        threads=1,
        protocol="kernel-1-draft",
        target="local",
        cpu="a board",
        started=f"2026-01-01T00:00:{batch:02}+00:00",
        init_ms=1.0,
        first_ms=1.0,
        samples_ms=samples,
        version="1.2",
        before=STATE,
        after={**STATE, "cpu_mhz": [1200.0]},
        visits=(calls - 2 * (calls // 3), calls // 3, calls // 3),
        intervals={"p50_ms": (ms * 0.98, ms * 1.02), "p90_ms": (ms * 0.99, ms * 1.03)},
    )


def accuracy_of(sha256: str, name: str, runtime: str, nme: float, faces: int = FACES) -> AccuracyRecord:
    """Errors spread evenly from half of ``nme`` to three halves of it; the second half of the faces is ``far``."""
    nmes = np.linspace(0.5 * nme, 1.5 * nme, faces).round(5)
    far = nmes[faces // 2 :]
    subsets = {"far": {"images": len(far), "nme": float(far.mean()), "failure_rate": 0.0, "auc": 50.0}}
    return AccuracyRecord(
        name, sha256, runtime, "val", "0a1b", "inter-ocular", faces, float(nmes.mean()), 0.0, 60.0, subsets,
        nmes=tuple(nmes.tolist()), subset_nmes={"far": tuple(far.tolist())}, nme_interval=(0.9 * nme, 1.1 * nme),
    )  # fmt: skip


BUNDLES = (("big", 8.0, 3.0, 8_000_000), ("middle", 4.0, 5.0, 4_000_000), (EVIL, 2.0, 9.0, 1_000_000))
"""Name, milliseconds at batch 1, NME in percent and parameters: each beats the others in one."""


def few_records() -> list[AnyRecord]:
    """Three bundles in two runtimes, the second twice as slow, at three batch sizes; from 4 on no image is faster."""
    records: list[AnyRecord] = []
    for name, ms, nme, params in BUNDLES:
        for runtime, slower in (("onnxruntime", 1.0), ("litert", 2.0)):
            sha256 = f"{name}-{runtime}".encode().hex()[:64].ljust(64, "0")
            for batch, factor in ((1, 1.0), (4, 2.0), (8, 4.0)):
                records.append(latency_of(sha256, name, runtime, batch, slower * factor * ms))
            records.append(accuracy_of(sha256, name, runtime, nme))
            records.append(CostRecord(name, sha256, "fp32", 4 * params, params, 100 * params))
    return records


def few_results(folder: Path) -> Path:
    """``few_records`` as a results file in ``folder``."""
    append(folder / "results.jsonl", few_records())
    return folder / "results.jsonl"


def many_results(path: Path, bundles: int) -> Path:
    """Four records of each of so many ``bundles``: 200 calls at two batch sizes, 224 faces, cost."""
    rng = np.random.default_rng(0)
    records: list[AnyRecord] = []
    for number in range(bundles):
        params = int(np.exp(rng.uniform(np.log(1e5), np.log(1e7))))
        sha256, name = f"{number:064x}", f"student-{number}"
        nme = 3 + 1 / np.log10(params / 1e4) + rng.exponential(0.3)
        records += [
            latency_of(sha256, name, "litert", batch, batch * params / 1e6, calls=200) for batch in (1, 8)
        ]
        records.append(accuracy_of(sha256, name, "litert", nme, faces=224))
        records.append(CostRecord(name, sha256, "fp32", 4 * params, params, 100 * params))
    append(path, records)
    return path
