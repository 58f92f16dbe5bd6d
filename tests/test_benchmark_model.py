"""LiteRT's benchmark_model: its output read, and the dialogue with a device.

The outputs are put together from the program's documentation and sources, and none was recorded from a device: they say
nothing of how fast anything is. The device is this machine, see adb_device.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from adb_device import Device, Manner, adb_server, connected

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.benchmark_model import BenchmarkModel, Figures, Settings, read_figures

NEWER = """INFO: STARTING!
INFO: Loaded model model.tflite
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=9000 curr=5000 min=4000 max=9000 avg=5500.5 std=1000 p5=4000 median=5000 p95=9000

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=1200000 curr=1250000 min=1100000 max=1400000 avg=1.25027e+06 std=2500 p5=1150000 \
median=1240000 p95=1300000

INFO: Inference timings in us: Init: 120000, First inference: 9000, Warmup (avg): 5500.5, Inference (avg): 1.25027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=50.5 overall=55.5
"""
OLDER = """STARTING!
count=1 curr=360000

count=50 first=250000 curr=251000 min=245000 max=255000 avg=249500 std=1500

Inference timings in us: Init: 16000, First inference: 360000, Warmup (avg): 360000, Inference (avg): 249500
Peak memory footprint (MB): init=5.5 overall=140.5
"""
COMPILED = """INFO: [benchmark_litert_model.h:69]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:70] Model initialization: 3.65 ms
INFO: [benchmark_litert_model.h:71] Warmup (first):       2.50 ms
INFO: [benchmark_litert_model.h:73] Warmup (avg):         2.25 ms (200 runs)
INFO: [benchmark_litert_model.h:75] Inference (avg):      2.00 ms (500 runs)
INFO: [benchmark_litert_model.h:79] Inference (min):      1.50 ms
INFO: [benchmark_litert_model.h:81] Inference (max):      4.00 ms
INFO: [benchmark_litert_model.h:83] Inference (std):      0.25
INFO: [benchmark_litert_model.h:88] Throughput:           80.00 MB/s
"""


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (
            NEWER,
            Figures(
                *(120.0, 9.0, 5.5005, 50, 1250.27, 1100.0, 1400.0),
                std_ms=2.5,
                p5_ms=1150.0,
                median_ms=1240.0,
                p95_ms=1300.0,
            ),
        ),
        (OLDER, Figures(16.0, 360.0, 360.0, 50, 249.5, 245.0, 255.0, std_ms=1.5)),
        (COMPILED, Figures(3.65, 2.5, 2.25, 500, 2.0, 1.5, 4.0, std_ms=0.25)),
        (
            re.sub("count=50 .*", "count=1 curr=7", OLDER),
            Figures(16.0, 360.0, 360.0, 1, 0.007, 0.007, 0.007),
        ),
    ],
    ids=["with percentiles", "without", "CompiledModel", "one inference"],
)
def test_figures_are_read_in_the_wording_of_each_version(text: str, figures: Figures) -> None:
    found = read_figures(text)
    assert found.count == figures.count
    for name, value in vars(figures).items():
        assert vars(found)[name] == pytest.approx(value), name


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("", "nothing"),
        ("STARTING!\nERROR: Failed to load model\n", "ERROR: Failed to load model"),
        (OLDER.replace("count=", "calls="), "Peak memory footprint (MB): init=5.5 overall=140.5"),
        (OLDER.replace("avg=249500", "avg=nan"), "Peak memory footprint (MB): init=5.5 overall=140.5"),
        (
            COMPILED.replace("Inference (min)", ""),
            "INFO: [benchmark_litert_model.h:88] Throughput:           80.00 MB/s",
        ),
    ],
)
def test_output_without_all_figures_is_refused(text: str, last: str) -> None:
    with pytest.raises(UserError) as caught:
        read_figures(text)
    assert str(caught.value) == f"benchmark_model gave no figures that can be read; it ended with: {last}"


RUN = Settings(4, "xnnpack", Span(50, 2.0), Span(1024, 60.0), input_shape=(8, 64, 64, 3))


def test_the_command_line_says_all_that_bears_on_the_figures() -> None:
    assert RUN.flags() == [
        "--num_threads=4",
        "--warmup_runs=50",
        "--warmup_min_secs=2",
        "--num_runs=1024",
        "--min_secs=60",
        "--max_secs=3600",
        "--use_xnnpack=true",
        "--input_layer=image",
        "--input_layer_shape=8,64,64,3",
    ]
    assert "--use_gpu=true" in Settings(1, "gpu", Span(1, 0), Span(1, 0)).flags()
    assert Settings(1, "none", Span(1, 0), Span(1, 0)).flags()[-1] == "--use_xnnpack=false"


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with adb_server(tmp_path, monkeypatch) as adb, connected(adb, tmp_path / "device", Manner()) as found:
        yield found


def program(device: Device, folder: Path, script: str) -> BenchmarkModel:
    """A stand-in for the program: a script that notes its flags and writes what the program would."""
    path = folder / "benchmark_model"
    path.write_text(f'#!/bin/sh\necho "$@" >> {device.folder}/flags\n{script}\n')
    shell = shell_of(f"adb:{device.serial}")
    assert shell is not None
    return BenchmarkModel(shell, path)


def model(folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(b"a model")
    return path


def test_program_and_model_are_brought_once_and_run(device: Device, tmp_path: Path) -> None:
    tool = program(device, tmp_path, f"cat <<'END' >&2\n{NEWER}\nEND")
    figures = tool.measure(model(tmp_path), RUN)
    assert (figures.count, figures.median_ms) == (50, 1240.0)
    files = device.folder / "slimalign" / "files"
    before = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}
    assert len(before) == 2
    tool.measure(model(tmp_path), RUN)
    assert {path.name: path.stat().st_mtime_ns for path in files.iterdir()} == before
    graph, *flags = (device.folder / "flags").read_text().splitlines()[0].split()
    assert flags == RUN.flags()
    assert graph == "--graph=files/" + next(name for name in before if name.endswith(".tflite"))


# Each output is what came in, twice: its own program, whose arithmetic needs no model.
TWICE = """for flag in "$@"; do case $flag in
    --input_layer_value_files=image:*) in=${flag#*:} ;;
    --output_filepath=*) out=${flag#*=} ;;
esac; done
cat "$in" "$in" > "$out"; echo STARTING!"""


def test_outputs_of_single_images_are_fetched(device: Device, tmp_path: Path) -> None:
    inputs = np.arange(3 * 2 * 2 * 3, dtype=np.int8).reshape(3, 2, 2, 3)
    outputs = program(device, tmp_path, TWICE).outputs(model(tmp_path), inputs, RUN)
    assert outputs == [one.tobytes() * 2 for one in inputs]
    lines = (device.folder / "flags").read_text().splitlines()
    assert len(lines) == 3
    assert all("--input_layer_shape=1,2,2,3 " in line and "--num_runs=1 " in line for line in lines)
    assert list((device.folder / "slimalign" / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "delegate", "said"),
    [
        (
            "echo 'Unconsumed cmdline flags: --input_layer=image'",
            "xnnpack",
            "knows no --input_layer=image; take",
        ),
        (
            "echo 'Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.'",
            "gpu",
            "does not run the file by gpu; choose another delegate",
        ),
        ("echo 'ERROR: Failed to load'; exit 1", "xnnpack", "ERROR: Failed to load"),
        ("echo Aborted", "xnnpack", "gave no figures that can be read; it ended with: Aborted"),
    ],
)
def test_a_run_that_gives_no_figures_is_told(
    device: Device, tmp_path: Path, script: str, delegate: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        program(device, tmp_path, script).measure(
            model(tmp_path), Settings(1, delegate, Span(1, 0.0), Span(1, 0.0))
        )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cpu_of_compiled_models_program_is_xnnpack(device: Device, tmp_path: Path) -> None:
    script = f"echo 'Unconsumed cmdline flags: --use_xnnpack=true'; cat <<'END'\n{COMPILED}\nEND"
    settings = Settings(1, "xnnpack", Span(1, 0.0), Span(1, 0.0))
    assert program(device, tmp_path, script).measure(model(tmp_path), settings).mean_ms == 2.0


def test_a_missing_program_is_told(device: Device, tmp_path: Path) -> None:
    shell = shell_of(f"adb:{device.serial}")
    assert shell is not None
    with pytest.raises(UserError, match="nowhere: cannot be read .No such file"):
        BenchmarkModel(shell, tmp_path / "nowhere").measure(model(tmp_path), RUN)
