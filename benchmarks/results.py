"""The results file: JSON lines of latency, accuracy and cost records, keyed by the bundle's sha256."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from slimalign.benchmarks.garbage import collection_paused
from slimalign.benchmarks.json_lines import append_lines, check_last_line, is_json, read_whole
from slimalign.benchmarks.layers import LayersRecord
from slimalign.benchmarks.told_latency import ToldLatency
from slimalign.benchmarks.typed_json import object_in
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.counts import Count, OneOrMore
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import cannot_be_written, check_appendable, held, write_text
from slimalign.runtimes.intervals import Interval, mean_interval
from slimalign.runtimes.metrics import accuracy
from slimalign.runtimes.timing import Record
from slimalign.targets.address import LOCAL

if TYPE_CHECKING:  # brings OpenCV, for which whoever reads records should not wait
    from slimalign.compress.data.evaluation import Evaluation

KEPT_DIGITS = 5
"""Decimals of a single image's NME, in percent, that are kept."""


@dataclass(frozen=True)
class AccuracyRecord:
    """How well a bundle finds landmarks on a split; all figures but ``images`` are in percent.

    ``faces`` is the split's fingerprint: figures of other faces under the same name of a split do not compare.
    ``target`` is the address of the machine whose ``runtime`` found the points. ``nmes`` are those of the single
    images, in the order of the split, ``subset_nmes`` those of each subset; ``nme_interval`` is that of their mean.
    They are empty, and None, in records of older versions.
    """

    bundle: str
    sha256: str
    runtime: str
    split: str
    faces: str
    normaliser: str
    images: OneOrMore
    nme: float
    failure_rate: float
    auc: float
    subsets: Mapping[str, Mapping[str, int | float]] = field(default_factory=dict)
    target: str = LOCAL
    nmes: tuple[float, ...] = ()
    subset_nmes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    nme_interval: Interval | None = None

    def __post_init__(self) -> None:
        # A sum is finite only where each of its parts is.
        parts = (self.nme, self.failure_rate, self.auc, *(self.nme_interval or ()), *self.nmes)
        if not math.isfinite(sum(parts) + sum(map(sum, self.subset_nmes.values()))):
            raise UserError(
                f"bundle '{self.bundle}': its accuracy on {self.split} is NaN or infinite; measure again"
            )

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        runtime: str,
        split: str,
        faces: str,
        evaluation: Evaluation,
        target: str = LOCAL,
    ) -> AccuracyRecord:
        """The record of ``evaluation``, done with ``bundle`` in ``runtime`` on the split so named.

        ``faces`` is what ``fingerprint_of`` gives for that split. Failures and AUC are those at 10 % NME whatever
        the threshold of ``evaluation``, so that records compare.
        """
        return cls(
            bundle=bundle.manifest.name,
            sha256=bundle.sha256,
            runtime=runtime,
            split=split,
            faces=faces,
            normaliser=evaluation.normaliser,
            **asdict(accuracy(evaluation.nmes)),
            subsets={name: asdict(accuracy(nmes)) for name, nmes in evaluation.subset_nmes.items()},
            target=target,
            nmes=_rounded(evaluation.nmes),
            subset_nmes={name: _rounded(nmes) for name, nmes in evaluation.subset_nmes.items()},
            nme_interval=mean_interval(evaluation.nmes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def _rounded(nmes: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(np.round(nmes, KEPT_DIGITS).tolist())


@dataclass(frozen=True)
class CostRecord:
    """What a bundle costs whatever runs it; None stands for what is not known.

    ``params`` and ``macs``, the multiply-adds of one face, are those of the whole network, and without its head as the
    papers count; ``bytes_moved`` are read and written by all its operators for one face.
    """

    bundle: str
    sha256: str
    precision: str
    size_bytes: Count
    params: Count | None
    macs: Count | None
    params_without_head: Count | None = None
    macs_without_head: Count | None = None
    bytes_moved: Count | None = None

    @classmethod
    def of(cls, bundle: Bundle) -> CostRecord:
        """The cost of ``bundle``, from its manifest and the size of its model file."""
        cost = bundle.manifest.cost
        return cls(
            bundle=bundle.manifest.name,
            sha256=bundle.sha256,
            precision=bundle.manifest.precision,
            size_bytes=bundle.model_path.stat().st_size,
            params=cost.get("params"),
            macs=cost.get("macs"),
            params_without_head=cost.get("params_without_head"),
            macs_without_head=cost.get("macs_without_head"),
            bytes_moved=cost.get("bytes_moved"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


AnyLatency = Record | ToldLatency
AnyRecord = AnyLatency | AccuracyRecord | CostRecord | LayersRecord

KINDS: Mapping[str, type[AnyRecord]] = {
    "latency": Record,
    "told-latency": ToldLatency,
    "accuracy": AccuracyRecord,
    "cost": CostRecord,
    "layers": LayersRecord,
}
_KIND_OF = {made: kind for kind, made in KINDS.items()}


@dataclass(frozen=True)
class Results:
    """All records of a results file, each kind in the order it was written."""

    latency: tuple[Record, ...] = ()
    accuracy: tuple[AccuracyRecord, ...] = ()
    cost: tuple[CostRecord, ...] = ()
    told: tuple[ToldLatency, ...] = ()
    layers: tuple[LayersRecord, ...] = ()

    @property
    def latencies(self) -> tuple[AnyLatency, ...]:
        """Measured, and told by another program."""
        return (*self.latency, *self.told)

    def of(self, sha256s: Container[str]) -> Results:
        """The records of these bundles alone."""
        return Results(
            latency=tuple(record for record in self.latency if record.sha256 in sha256s),
            accuracy=tuple(record for record in self.accuracy if record.sha256 in sha256s),
            cost=tuple(record for record in self.cost if record.sha256 in sha256s),
            told=tuple(record for record in self.told if record.sha256 in sha256s),
            layers=tuple(record for record in self.layers if record.sha256 in sha256s),
        )


def forget(path: str | Path, stale: Callable[[AnyRecord], bool]) -> None:
    """Take the ``stale`` records out of the results file, which may be missing; all others stay as they are.

    A last line that a writer was killed within goes too, as ``append`` does with it.
    """
    path = Path(path)
    if not path.is_file():
        return
    check_results(path)
    with held(path) as file:  # nobody appends between reading and replacing
        text = read_whole(file).decode(errors="replace")
        last = text.rfind("\n") + 1
        whole = text if is_json(text[last:].encode()) else text[:last]
        kept = [line for line, record in _lines(whole, path) if not stale(record)]
        write_text(path, "".join(line + "\n" for line in kept))


def check_results(path: Path) -> None:
    """Raise UserError where ``append`` could not add to the file ``path``, which may be missing, as its folder may."""
    check_appendable(path)
    if path.exists():
        try:
            check_last_line(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); mend its rights") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _unsaid(text: str) -> None:
    """For whoever need not know that a line was cut off."""


def append(path: str | Path, records: Sequence[AnyRecord], note: Callable[[str], None] = _unsaid) -> None:
    """Add ``records`` to the results file, all or none; it and its folder are made where they are missing.

    A last line that an earlier writer was killed within is cut off, so that nothing but it is lost; ``note`` is told.
    Raises UserError where the file cannot be written, or is of another kind; what it held before is kept.
    """
    lines = [
        json.dumps({"kind": _KIND_OF[type(record)], **record.to_dict()}, allow_nan=False)
        for record in records
    ]
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path) as file:
            was_cut = append_lines(file, "".join(line + "\n" for line in lines).encode())
    except OSError as error:
        raise UserError(f"{path}: {cannot_be_written(error)}; nothing was added") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if was_cut:
        note(f"{path}: its last line was cut short, as by a kill: it was taken off")


def without_held(path: Path, records: Sequence[Record]) -> list[Record]:
    """Those of ``records`` that are not in the results file, which may be missing: the same setting and start."""
    if not path.is_file():
        return list(records)
    times = {record.started for record in records}
    held = set()
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if any(time in line for time in times):
            with suppress(UserError):  # what else is in the file is not looked at here
                found = _record(line, str(path))
                held |= {(found.setting, found.started)} if isinstance(found, Record) else set()
    return [record for record in records if (record.setting, record.started) not in held]


@collection_paused()
def read(path: str | Path) -> Results:
    """Every record of the results file.

    Raises UserError where the file is missing, or with the number of a line that is cut short or no record.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the results file in it, for a run {path / 'results.jsonl'}")
    if not path.is_file():
        raise UserError(f"{path}: no such results file; make one with 'slimalign bench' or 'slimalign eval'")
    text = path.read_text(encoding="utf-8", errors="replace")
    records = [record for _, record in _lines(text, path)]
    return Results(
        latency=tuple(record for record in records if isinstance(record, Record)),
        accuracy=tuple(record for record in records if isinstance(record, AccuracyRecord)),
        cost=tuple(record for record in records if isinstance(record, CostRecord)),
        told=tuple(record for record in records if isinstance(record, ToldLatency)),
        layers=tuple(record for record in records if isinstance(record, LayersRecord)),
    )


def _lines(text: str, path: Path) -> Iterator[tuple[str, AnyRecord]]:
    """Each line of the ``text`` in ``path`` that is not empty, and the record in it."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield line, _record(line, f"{path}, line {number}")


def _cut(place: str) -> str:
    return (
        f"{place}: not a whole record; if its writer was killed, delete that line and measure what it held again, "
        "if this is another kind of file, give a results.jsonl"
    )


def _record(line: str | bytes, place: str) -> AnyRecord:
    try:
        kind = object_in(line, _Kind).kind
        if kind not in KINDS:
            raise UserError(f"kind = '{kind}', must be one of {', '.join(KINDS)}; was it edited by hand?")
        return object_in(line, KINDS[kind])
    except ValueError:
        raise UserError(_cut(place)) from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


class _Kind(msgspec.Struct):
    """What each line begins with."""

    kind: str
