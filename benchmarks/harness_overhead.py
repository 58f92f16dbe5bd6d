"""What the harness adds to the time of a call, beside a bare loop around the same session.

``python -m slimalign.benchmarks.harness_overhead --bundle BUNDLE`` measures it with one thread on drawn faces, for each
bundle that is given and for a tiny network of its own. The sweep and the bare loop take turns in one run. It ends with
status 1 where the harness adds more than 2 % and more than 20 microseconds to the median of a call.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from slimalign.benchmarks.mains import run_main
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, Manifest, file_sha256, read_bundle
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.opening import open_session
from slimalign.runtimes.schemes import AFLW
from slimalign.runtimes.session import Float32, Session
from slimalign.runtimes.sweep import FACES, Plan, Setting, Subjects, Visit, sweep
from slimalign.runtimes.timing_loop import Span

LARGEST_SHARE = 0.02
LARGEST_US = 20.0
"""A call may cost the larger of this share of its time and these microseconds more than in a bare loop."""
VISIT_SECONDS = 0.2
SETTLING = 3
"""Calls at the beginning of a visit that are not counted."""
TINY_SIZE, TINY_STRIDE = 16, 4


@dataclass(frozen=True)
class Overhead:
    """Medians over rounds of the median of a call, in milliseconds: in a bare loop, as the harness measures it, and of
    what it took longer in the harness than in the loop beside it. That is sure on a machine whose pace changes, when
    the difference of the other two is not.
    """

    bundle: str
    runtime: str
    precision: str
    calls: int
    bare_ms: float
    harness_ms: float
    added_ms: float

    @property
    def added_us(self) -> float:
        """What the harness adds, in microseconds."""
        return 1e3 * self.added_ms

    @property
    def ratio(self) -> float:
        """The time in the harness in parts of that in the bare loop."""
        return 1 + self.added_ms / self.bare_ms

    @property
    def holds(self) -> bool:
        """Whether that is no more than is allowed."""
        return self.ratio <= 1 + LARGEST_SHARE or self.added_us <= LARGEST_US


def main() -> int:
    """Print a line a bundle; 0 where all of them hold, else 1."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bundle", type=Path, action="append", default=[], help="may be repeated")
    options.add_argument("--rounds", type=int, default=40, help="visits to each, in turns with the bare loop")
    options.add_argument("--out", type=Path, help="JSON file for the figures")
    chosen = options.parse_args()
    bundles = [read_bundle(place) for place in chosen.bundle]
    with TemporaryDirectory() as folder:
        found = [measured(bundle, chosen.rounds) for bundle in (tiny_bundle(Path(folder)), *bundles)]
    for one in found:
        print(  # noqa: T201
            f"{one.bundle} {one.runtime} {one.precision}: {one.bare_ms:.4f} ms in a bare loop, {one.harness_ms:.4f} ms"
            f" in the harness: {one.added_us:+.2f} us, {one.ratio:.4f} of it ({one.calls} calls each)"
            f"{'' if one.holds else ': TOO MUCH'}"
        )
    if chosen.out is not None:
        figures = [
            {**asdict(one), "added_us": one.added_us, "ratio": one.ratio, "holds": one.holds} for one in found
        ]
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.holds for one in found) else 1


def measured(bundle: Bundle, rounds: int, seconds: float = VISIT_SECONDS) -> Overhead:
    """One face at a time in one session, which a sweep and a bare loop run in turns, ``seconds`` each time."""
    crops = cut_crops(
        drawn_samples(FACES, bundle.manifest.landmark_scheme, seed=0), bundle.manifest.crop_rule
    )
    with open_session(bundle, threads=1) as session:
        subjects = Subjects([Setting(0, 1, 1)], lambda setting: lent(session), lambda setting: crops)
        visit = Span(SETTLING, seconds)
        plan = Plan(visit, Span(SETTLING, 0.0), Span(rounds, rounds * seconds), rounds)
        inputs = network_inputs(crops, bundle.manifest)
        bare_ms, harness_ms, calls = [], [], 0
        for event in sweep(subjects, plan):
            if isinstance(event, Visit):
                harness_ms.append(statistics.median(event.samples_ms))
                bare_ms.append(statistics.median(bare_loop_ms(session, inputs, len(event.samples_ms))))
                calls += len(event.samples_ms)
        return Overhead(
            bundle=bundle.manifest.name,
            runtime=session.runtime,
            precision=bundle.manifest.precision,
            calls=calls,
            bare_ms=statistics.median(bare_ms),
            harness_ms=statistics.median(harness_ms),
            added_ms=statistics.median(np.subtract(harness_ms, bare_ms).tolist()),
        )


def bare_loop_ms(session: Session, inputs: Float32, calls: int) -> list[float]:
    """What somebody would write who has no harness: the same faces in turn, the first calls not counted."""
    durations_ms = []
    for call in range(SETTLING + calls):
        face = call % len(inputs)
        one = inputs[face : face + 1]
        start = perf_counter()
        session.run(one)
        durations_ms.append(1e3 * (perf_counter() - start))
    return durations_ms[SETTLING:]


@contextmanager
def lent(session: Session) -> Iterator[Session]:
    """``session`` for a while: it stays open."""
    yield session


def tiny_bundle(folder: Path) -> Bundle:
    """One convolution, which takes so little time that all that is around it shows; written into ``folder``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((AFLW.count, 3, TINY_STRIDE, TINY_STRIDE), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["crops", "weights"], ["heatmaps"], strides=[TINY_STRIDE, TINY_STRIDE])],
        "tiny",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, TINY_SIZE, TINY_SIZE])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", AFLW.count, None, None])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    manifest = Manifest(
        name="tiny",
        model="model.onnx",
        format="onnx",
        precision="fp32",
        input_size=TINY_SIZE,
        box_scale=1.0,
        layout="NCHW",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scheme=AFLW.name,
        decoder="local-mean",
        stride=TINY_STRIDE,
        batch=None,
        files={"model.onnx": file_sha256(folder / "model.onnx")},
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return read_bundle(folder)


if __name__ == "__main__":
    run_main(main)
