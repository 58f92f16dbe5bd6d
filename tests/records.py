"""Records for tests of what is done with them."""

from __future__ import annotations

from dataclasses import replace

from slimalign.benchmarks.points import Point
from slimalign.benchmarks.results import AccuracyRecord, CostRecord
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.runtimes.timing import Record


def latency(sha256: str, samples_ms: tuple[float, ...] = (1.0, 2.0, 3.0), batch: int = 1) -> Record:
    return Record(
        bundle=f"net-{sha256}",
        sha256=sha256,
        runtime="onnxruntime",
        precision="fp32",
        batch=batch,
        threads=1,
        protocol="kernel-1-draft",
        target="local",
        cpu="unknown",
        started="2026-01-01T00:00:00+00:00",
        init_ms=1.0,
        first_ms=1.0,
        samples_ms=samples_ms,
    )


def accuracy(sha256: str, nme: float, split: str = "test", faces: str = "0a1b") -> AccuracyRecord:
    subsets = {"far": {"images": 1, "nme": nme, "failure_rate": 0.0, "auc": 60.0}}
    return AccuracyRecord(
        f"net-{sha256}", sha256, "onnxruntime", split, faces, "inter-ocular", 3, nme, 0.0, 60.0, subsets
    )


def cost(sha256: str) -> CostRecord:
    return CostRecord(f"net-{sha256}", sha256, "fp32", size_bytes=4_000_000, params=1_000_000, macs=None)


def told(sha256: str, p50_ms: float | None, target: str = "adb:X") -> ToldLatency:
    """What a phone's program tells."""
    return ToldLatency(
        f"net-{sha256}", sha256, "litert", "fp32", batch=1, threads=1,
        protocol="benchmark_model-1-draft", target=target, cpu="unknown", started="2026-01-01T00:00:00+00:00",
        init_ms=1.0, first_ms=1.0, count=50, mean_ms=2.0, min_ms=1.0, max_ms=3.0, p50_ms=p50_ms,
    )  # fmt: skip


def point(name: str, ms: float | None, nme: float | None, **changes: object) -> Point:
    made = Point(
        name, name, "fp32", "litert", 1, 1, "local",
        protocol="kernel-1-draft", p50_ms=ms, p90_ms=ms, nme=nme,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


POINTS = [
    point("big", 10, 3.0, size_bytes=8_000_000),
    point("middle", 5, 3.5, size_bytes=4_000_000),
    point("small", 2, 4.5, size_bytes=1_000_000),
]
