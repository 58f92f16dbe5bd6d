"""LiteRT's benchmark_model on an Android device: brought there, run, and its figures and outputs read.

Two programs have this name. TensorFlow Lite's runs files in the interpreter, takes inputs and gives outputs; its flags
are in tensorflow/lite/tools/benchmark/README.md and in GetFlags of benchmark_tflite_model.cc there. That of LiteRT's
CompiledModel (litert/tools/benchmark_litert_model.h in google-ai-edge/LiteRT) has only some of them.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.shell import Shell

# Where neither is said TensorFlow Lite's program takes XNNPACK if it was built so.
_DELEGATE_FLAGS: Mapping[str, str] = MappingProxyType(
    {"xnnpack": "--use_xnnpack=true", "gpu": "--use_gpu=true", "none": "--use_xnnpack=false"}
)
DELEGATES = tuple(_DELEGATE_FLAGS)
LONGEST_SECONDS = 3600
"""When the program breaks off by itself; after 150 s where it is not told."""
# Not the name in the file: the program takes any, and goes by the order.
_INPUT = "image"


@dataclass(frozen=True)
class Settings:
    """How a file is run.

    ``delegate`` is one of DELEGATES; ``input_shape`` is for files that take batches of any size. Without one the
    program takes the file's.
    """

    threads: int
    delegate: str
    warm_up: Span
    length: Span
    input_shape: tuple[int, ...] | None = None

    def flags(self) -> list[str]:
        """The flags of the command line."""
        flags = [
            f"--num_threads={self.threads}",
            f"--warmup_runs={self.warm_up.calls}",
            f"--warmup_min_secs={self.warm_up.seconds:g}",
            f"--num_runs={self.length.calls}",
            f"--min_secs={self.length.seconds:g}",
            f"--max_secs={LONGEST_SECONDS}",
            _DELEGATE_FLAGS[self.delegate],
        ]
        if self.input_shape is not None:
            flags += [f"--input_layer={_INPUT}", f"--input_layer_shape={_listed(self.input_shape)}"]
        return flags


@dataclass(frozen=True)
class Figures:
    """What benchmark_model tells of one run, in milliseconds: it gives no single samples, from which to compute others.

    ``first_ms`` is the first inference, which belongs to the warm-up, and ``warm_up_ms`` the mean of that; the others
    are of the ``count`` inferences after it. What the version at hand does not print is None.
    """

    init_ms: float
    first_ms: float
    warm_up_ms: float
    count: int
    mean_ms: float
    min_ms: float
    max_ms: float
    std_ms: float | None = None
    p5_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None

    def __post_init__(self) -> None:
        told = [value for value in vars(self).values() if value is not None]
        if self.count < 1 or not all(math.isfinite(value) and value >= 0 for value in told):
            raise ValueError("figures that are NaN, infinite or negative")


@dataclass(frozen=True)
class _Paths:
    """Where on the device program and model lie."""

    program: str
    model: str


class BenchmarkModel:
    """The program at ``program`` on this machine, for the device that ``shell`` reaches."""

    def __init__(self, shell: Shell, program: Path) -> None:
        self._shell = shell
        self._program = program

    @property
    def version(self) -> str:
        """The program, by the start of its sha256: several have this name, and many versions."""
        return f"benchmark_model {self._digest(self._program)[:16]}"

    def measure(self, model: Path, settings: Settings) -> Figures:
        """Run the .tflite file ``model`` on random input.

        Raises UserError where it does not run, or not in the delegate, or where the program does not know a flag.
        """
        return read_figures(self._run(self._brought(model), settings.flags(), settings.delegate))

    def outputs(self, model: Path, inputs: NDArray[Any], settings: Settings) -> list[bytes]:
        """What ``model`` computes of each of ``inputs``: the raw bytes of its outputs, one after the other.

        ``inputs`` are (N, ...) numbers as the model takes them, quantised where it is; each runs as a batch of 1, with
        the threads and the delegate of ``settings``. TensorFlow Lite's program alone can do this.
        """
        shape = (1, *inputs.shape[1:])
        once = Settings(settings.threads, settings.delegate, Span(1, 0.0), Span(1, 0.0), shape)
        folder = f"work/{secrets.token_hex(8)}"
        with tempfile.TemporaryDirectory() as name:
            here = Path(name)
            files = {f"{folder}/{number}": here / str(number) for number in range(len(inputs))}
            for path, values in zip(files.values(), inputs, strict=True):
                path.write_bytes(values.tobytes())
            self._shell.push(files)
            try:
                paths = self._brought(model)
                return [self._output(paths, once, place, here / "out") for place in files]
            finally:
                with suppress(UserError):  # of two errors, the first is the cause
                    self._shell.run(f"rm -rf {folder}")

    def _output(self, paths: _Paths, once: Settings, place: str, to: Path) -> bytes:
        files = [f"--input_layer_value_files={_INPUT}:{place}", f"--output_filepath={place}.out"]
        self._run(paths, [*once.flags(), *files], once.delegate)
        self._shell.pull(f"{place}.out", to)
        return to.read_bytes()

    def _brought(self, model: Path) -> _Paths:
        program = self._bring(self._program, "")
        self._shell.run(f"chmod 755 {program}")
        return _Paths(program, self._bring(model, ".tflite"))

    def _run(self, paths: _Paths, flags: Sequence[str], delegate: str) -> str:
        told = self._shell.run(f"./{paths.program} --graph={paths.model} {' '.join(flags)} 2>&1")
        ignored = re.search(r"Unconsumed cmdline flags:[ \t]*(\S.*)", told)
        # CompiledModel's knows no other kernels for the CPU than XNNPACK's.
        unknown = [one for one in ignored[1].split() if one != _DELEGATE_FLAGS["xnnpack"]] if ignored else []
        if unknown:
            raise UserError(f"{self._program}: knows no {unknown[0]}; take TensorFlow Lite's benchmark_model")
        if delegate != "none" and "will not be executed by the delegate" in told:
            raise UserError(
                f"{self._shell.address}: does not run the file by {delegate}; choose another delegate"
            )
        return told

    def _digest(self, file: Path) -> str:
        try:
            return hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); name a file for {self._shell.address}"
            ) from None

    def _bring(self, file: Path, ending: str) -> str:
        """The path on the device of a file that is pushed unless it is there."""
        path = f"files/{self._digest(file)}{ending}"
        if not self._shell.run(f"ls {path} 2>/dev/null || true"):
            self._shell.push({path: file})
        return path


def read_figures(text: str) -> Figures:
    """The figures in what either program has written; raises UserError where they are not all there."""
    try:
        figures = _of_tensorflow_lite(text) or _of_compiled_model(text)
    except (KeyError, ValueError):
        figures = None
    if figures is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()] or ["nothing"]
        raise UserError(f"benchmark_model gave no figures that can be read; it ended with: {lines[-1]}")
    return figures


def _of_tensorflow_lite(text: str) -> Figures | None:
    """Of a summary and lines of counts, all in microseconds."""
    summary = re.search(
        r"Inference timings in us: Init: (\S+), First inference: (\S+), Warmup \(avg\): (\S+), Inference \(avg\)",
        text,
    )
    counts = re.findall(r"\bcount=\d+ .*", text)
    if summary is None or not counts:
        return None
    # The last line of counts is that of the inferences that count; of a single one it has the current one alone.
    steady = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", counts[-1])}
    init_ms, first_ms, warm_up_ms = (float(value) / 1e3 for value in summary.groups())
    mean, least, most = (steady[name if name in steady else "curr"] / 1e3 for name in ("avg", "min", "max"))
    rest = {f"{name}_ms": _thousandth(steady.get(name)) for name in ("std", "p5", "median", "p95")}
    return Figures(init_ms, first_ms, warm_up_ms, int(steady["count"]), mean, least, most, **rest)


def _of_compiled_model(text: str) -> Figures | None:
    """Of a table in milliseconds."""
    row = r"(Model initialization|(?:Warmup|Inference) \(\w+\)): +(\S+)(?: ms)?(?: \((\d+) runs\))?"
    found = re.findall(row, text)
    values = {name: float(value) for name, value, _ in found}
    counts = {name: int(runs) for name, _, runs in found if runs}
    if not values:
        return None
    init_ms, first_ms, warm_up_ms = (
        values[name] for name in ("Model initialization", "Warmup (first)", "Warmup (avg)")
    )
    mean, least, most, std = (values[f"Inference ({name})"] for name in ("avg", "min", "max", "std"))
    return Figures(init_ms, first_ms, warm_up_ms, counts["Inference (avg)"], mean, least, most, std)


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1e3


def _listed(shape: Sequence[int]) -> str:
    return ",".join(str(size) for size in shape)
