"""What a check of a file finds, and the rules that find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeVar

from slimalign.targets.target import Target

Model = TypeVar("Model")
Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
WHOLE_FILE = "(the file)"
"""The place of what is wrong with no single operator."""


@dataclass(frozen=True)
class Fault:
    """What a rule finds at one operator or tensor; what it finds alike at many of them it says in the same words."""

    node: str
    message: str


@dataclass(frozen=True)
class Rule(Generic[Model]):
    """A property that a file must have on a target, what breaks it, and how to mend that.

    ``error`` is for what does not run there or computes something else, ``warning`` for what runs more slowly than it
    could or puts accuracy at risk.
    """

    name: str
    level: Level
    mend: str
    faults: Callable[[Model, Target], Iterable[Fault]]


@dataclass(frozen=True)
class Finding:
    """The same fault at all the ``nodes`` that have it, and how to ``mend`` it."""

    rule: str
    level: Level
    nodes: tuple[str, ...]
    message: str
    mend: str

    @property
    def told(self) -> str:
        """In a line."""
        places = self.nodes[0] if len(self.nodes) == 1 else f"{len(self.nodes)} operators or tensors"
        return f"{self.level} {self.rule}: {places}: {self.message}; {self.mend}"


@dataclass(frozen=True)
class Facts:
    """What is in a file: its operators, the number types of its tensors by count and of its weights in bytes, its
    resizes by mode, and which share of the multiply-adds outside the head is in int8, None where nothing is quantised.
    """

    version: str
    operators: Mapping[str, int]
    tensors: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    transposes: int
    resizes: Mapping[str, int]
    int8_share: float | None


@dataclass(frozen=True)
class Report:
    """The facts of a file and what was found in it for a target, the worst first."""

    file: str
    target: str
    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings say that it does not run there, or computes something else."""
        return sum(found.level == "error" for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """What ``lint --json`` prints."""
        return asdict(self)


def findings(rules: Sequence[Rule[Model]], model: Model, target: Target) -> tuple[Finding, ...]:
    """What ``rules`` find in ``model``: one finding for all that a rule says in the same words, the worst first."""
    found: dict[tuple[str, str], Finding] = {}
    for rule in sorted(rules, key=lambda rule: LEVELS.index(rule.level)):
        for fault in rule.faults(model, target):
            before = found.get((rule.name, fault.message))
            nodes = (*(before.nodes if before else ()), fault.node)
            found[rule.name, fault.message] = Finding(rule.name, rule.level, nodes, fault.message, rule.mend)
    return tuple(found.values())
