"""Bundles on a phone: the real adb, a stand-in for the phone, and one for benchmark_model that runs LiteRT here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adb_device import Device, Manner, adb_server, connected
from dots import SIZE, dot_bench, dotted_faces

from slimalign import api
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.results import read
from slimalign.compress.data.sample import cut_crops
from slimalign.export.bundle_writer import write_bundle
from slimalign.places import Where, finding_at
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import Backend

FACES = dotted_faces(40)
CROPS = cut_crops(dotted_faces(3, seed=100), CropRule(SIZE, 1.25))
PROGRAM = """#!{python}
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

flags = dict(flag[2:].split("=", 1) for flag in sys.argv[1:])
model = Interpreter(flags["graph"], num_threads=1)
taken = model.get_input_details()[0]
model.resize_tensor_input(taken["index"], [int(size) for size in flags["input_layer_shape"].split(",")])
model.allocate_tensors()
if "input_layer_value_files" in flags:
    values = np.fromfile(flags["input_layer_value_files"].split(":")[1], dtype=taken["dtype"])
    model.set_tensor(taken["index"], values.reshape(model.get_input_details()[0]["shape"]))
model.invoke()
if "output_filepath" in flags:
    with open(flags["output_filepath"], "wb") as file:
        for given in model.get_output_details():
            file.write(model.get_tensor(given["index"]).tobytes())
print("count=50 first=1 curr=2 min=1000 max=4000 avg=" + str(1000 * int(flags["num_threads"])) + " std=3")
print("Inference timings in us: Init: 16000, First inference: 9000, Warmup (avg): 5000, Inference (avg): 2500")
"""


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with adb_server(tmp_path, monkeypatch) as adb, connected(adb, tmp_path / "phone", Manner()) as found:
        yield found


@pytest.fixture
def where(phone: Device, tmp_path: Path) -> Where:
    program = tmp_path / "benchmark_model"
    program.write_text(PROGRAM.format(python=sys.executable))
    return Where(f"adb:{phone.serial}", benchmark_model=program)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder, bench = tmp_path_factory.mktemp("bundles"), dot_bench(FACES, FACES[:20])
    return {form: write_bundle(folder / form, bench, form) for form in ("litert", "litert-int8-io", "onnx")}


@pytest.mark.parametrize("form", ["litert", "litert-int8-io"])
def test_a_phone_finds_the_landmarks_that_this_machine_finds(
    where: Where, bundles: dict[str, Bundle], form: str
) -> None:
    bundle = bundles[form]
    with open_bundle(bundle, threads=1) as session:
        here = Aligner(session).align_crops(CROPS)
    with finding_at(where)(bundle) as finder:
        found = finder.align_crops(CROPS)
        assert finder.runtime == "litert"
    np.testing.assert_allclose(found.points, here.points, atol=1e-3)
    np.testing.assert_allclose(found.scores, here.scores, atol=1e-4)


def test_what_benchmark_model_tells_is_kept_as_it_tells_it(
    where: Where, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    bundle, results = bundles["litert"], tmp_path / "results.jsonl"
    records = api.bench(
        [bundle],
        (1, 2),
        (1, 2),
        target=where.target,
        benchmark_model=where.benchmark_model,
        results=results,
    )
    assert [(one.batch, one.threads, one.summary()["mean_ms"]) for one in records] == [
        (1, 1, 1.0),
        (1, 2, 2.0),
        (2, 1, 1.0),
        (2, 2, 2.0),
    ]
    summary = records[0].summary()
    assert (summary["p50_ms"], summary["p90_ms"], summary["samples"]) == (None, None, 50)
    assert (summary["target"], summary["protocol"]) == (where.target, "benchmark_model-1-draft")
    assert {"battery", "thermal_status"} <= set(summary["before"])
    assert list(read(results).told) == records
    assert read(results).latency == ()


def test_a_phone_times_the_kernel_alone(bundles: dict[str, Bundle]) -> None:
    said = "^--timed kernel,end-to-end: benchmark_model times the kernel alone; leave it out$"
    with pytest.raises(UserError, match=said):
        api.bench(
            [bundles["litert"]],
            timed=("kernel", "end-to-end"),
            target="adb:R58M",
            benchmark_model="benchmark_model",
        )


@pytest.mark.parametrize(
    ("changes", "form", "said"),
    [
        (
            {"benchmark_model": None},
            "litert",
            "a phone has no Python; give the path of LiteRT's benchmark_model",
        ),
        ({}, "onnx", "format = 'onnx', benchmark_model runs LiteRT files; export it as one of litert"),
        (
            {"backends": [Backend(delegate="lib.so")]},
            "litert",
            "delegate lib.so: benchmark_model has xnnpack, gpu, none; choose one",
        ),
        ({"target": "local"}, "litert", "--benchmark-model .*: name the phone, as in --target adb:SERIAL"),
    ],
)
def test_what_a_phone_cannot_do_is_told(
    where: Where, bundles: dict[str, Bundle], changes: dict[str, object], form: str, said: str
) -> None:
    with pytest.raises(UserError, match=said), finding_at(replace(where, **changes))(bundles[form]):
        pass
