"""What an int8 file that failed the gate was rescued by, as its bundle keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from slimalign.export.gate import GateReport

RESCUE_NAME = "rescue.json"


@dataclass(frozen=True)
class LatencyCost:
    """Median latencies on one thread of the rescued file and of the one all in int8, in one sweep."""

    p50_ms: float
    all_int8_p50_ms: float
    batch: int
    runtime: str
    protocol: str
    cpu: str


@dataclass(frozen=True)
class Training:
    """The quantisation-aware training that a file's network went through."""

    epochs: int
    batch: int
    peak_learning_rate: float
    seed: int
    faces: int


@dataclass(frozen=True)
class Judged:
    """What the gate found of a file: its NME in percent, and its loss in parts of what is allowed."""

    nme: float
    strain: float

    @classmethod
    def of(cls, report: GateReport) -> Judged:
        """What ``report`` says."""
        return cls(report.nme, report.strain)


@dataclass(frozen=True)
class Rescue:
    """The blocks that a file keeps in float32 and why these, or the training that its network went through.

    ``network_nme`` is PyTorch's NME in percent on the gate's faces, ``all_int8`` what the gate found of the file that
    failed, ``alone`` of files with only this block in float; blocks without which too little would be in int8 are not
    among them. ``latency`` is what the blocks cost, None for files that run on other devices.
    """

    network_nme: float
    all_int8: Judged
    alone: Mapping[str, Judged] = field(default_factory=dict)
    float_blocks: tuple[str, ...] = ()
    latency: LatencyCost | None = None
    training: Training | None = None

    @property
    def told(self) -> str:
        """The outcome as people read it."""
        if self.training is not None:
            return (
                f"after quantisation-aware training; before it the NME in int8 was {self.all_int8.nme:.3f} %"
            )
        worst = ", ".join(
            f"{block} ({self.alone[block].nme:.3f} % with it alone)" for block in self.float_blocks
        )
        cost = ""
        if self.latency is not None:
            cost = f"; p50 {self.latency.p50_ms:.2f} ms against {self.latency.all_int8_p50_ms:.2f} ms all in int8"
        return f"in float stay {worst}; all in int8 its NME is {self.all_int8.nme:.3f} %{cost}"

    def to_json(self) -> str:
        """The text of ``rescue.json``."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"
