"""Accuracy and latency of a real ONNX file whose points are known by arithmetic."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.progress import Progress

from slimalign.benchmarks.accuracy import evaluate, evaluate_normalisers, predict
from slimalign.benchmarks.device_latency import sweep_on
from slimalign.benchmarks.latency import Wanted, crops_of, sweep
from slimalign.benchmarks.results import AccuracyRecord
from slimalign.compress.data.evaluation import summarise
from slimalign.compress.data.sample import Sample, fingerprint_of
from slimalign.measuring import eval_bundle
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, Manifest, file_sha256, read_bundle
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.schemes import AFLW, NORMALISERS, W300
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32
from slimalign.runtimes.timing import Protocol
from slimalign.runtimes.timing_loop import Span
from slimalign.targets.address import shell_of
from slimalign.targets.device_job import Device

SIZE = 16
QUICK = Protocol("kernel", 1, "draft", Span(2, 0.0), Span(1, 0.0), Span(7, 0.0), rounds=3)


def cells_bundle(folder: Path, weight: float = 1.0) -> Bundle:
    """Each of 19 heatmaps is the mean of the red channel over cells of 4x4 pixels, times ``weight``."""
    weights = np.zeros((19, 3, 1, 1), dtype=np.float32)
    weights[:, 0] = weight
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["crops"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Conv", ["cells", "weights"], ["heatmaps"]),
        ],
        "cells",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 19, 4, 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    manifest = Manifest(
        name="cells",
        model="model.onnx",
        format="onnx",
        precision="fp32",
        input_size=SIZE,
        box_scale=1.0,
        layout="NCHW",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scheme="aflw-19",
        decoder="local-mean",
        stride=4,
        batch=None,
        files={"model.onnx": file_sha256(folder / "model.onnx")},
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return read_bundle(folder)


# Pixel distance 10 between the outer eye corners 6 and 11; the other points lie where the rest asks for.
TRUTH = np.zeros((19, 2))
TRUTH[6], TRUTH[11] = (0.0, 8.0), (6.0, 0.0)


def sample(name: str, cell: tuple[int, int], subsets: tuple[str, ...]) -> Sample:
    """A 32x32 image whose cell (column, row) of 8x8 pixels is red, in a box that covers it all."""
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    column, row = cell
    image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 0] = 255
    hidden = np.zeros(19, dtype=bool)
    return Sample(name, lambda: image, np.array([-0.5, -0.5, 31.5, 31.5]), TRUTH, hidden, subsets)


SAMPLES = [sample("a", (0, 0), ("near",)), sample("b", (3, 0), ("far", "all")), sample("c", (3, 3), ("far",))]
# All 19 points are found at the centre of the red cell: 8 * cell + 3.5 in pixels of the image.
FOUND = np.array([[3.5, 3.5], [27.5, 3.5], [27.5, 27.5]])
NMES = 100.0 * np.linalg.norm(FOUND[:, None] - TRUTH, axis=2).mean(axis=1) / 10.0


def test_points_are_in_pixels_of_the_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with OnnxRuntimeSession(cells_bundle(tmp_path), threads=1) as session:
        points = predict(Aligner(session), SAMPLES, lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(points, np.broadcast_to(FOUND[:, None], (3, 19, 2)), atol=1e-6)
    assert told == [(3, 3)]


def test_a_deployed_file_is_judged_whole_and_by_subset(tmp_path: Path) -> None:
    with OnnxRuntimeSession(cells_bundle(tmp_path), threads=1) as session:
        judged = evaluate(Aligner(session), SAMPLES, AFLW, "inter-ocular")
    np.testing.assert_allclose(judged.nmes, NMES)
    assert judged.whole.images == 3
    assert judged.whole.nme == pytest.approx(NMES.mean())
    assert judged.whole.failure_rate == 100.0
    assert list(judged.subsets) == ["all", "far", "near"]
    assert judged.subsets["far"].nme == pytest.approx(NMES[1:].mean())
    assert judged.subsets["near"].images == 1
    assert set(judged.to_dict()) == {"images", "nme", "failure_rate", "auc", "subsets"}
    assert set(judged.to_dict()["subsets"]["far"]) == {"images", "nme", "failure_rate", "auc"}


def test_every_normaliser_from_one_pass(tmp_path: Path) -> None:
    with OnnxRuntimeSession(cells_bundle(tmp_path), threads=1) as session:
        judged = evaluate_normalisers(Aligner(session), SAMPLES, AFLW, ("inter-ocular", "diagonal", "box"))
    # The points' box is 6 wide and 8 high: diagonal 10 as the eyes' distance, geometric mean sqrt(48).
    assert judged["diagonal"].whole.nme == pytest.approx(judged["inter-ocular"].whole.nme)
    assert judged["box"].whole.nme == pytest.approx(NMES.mean() * 10 / np.sqrt(48))
    assert set(NORMALISERS) > set(judged)


def test_a_record_judges_failures_at_ten_percent_whatever_was_asked(tmp_path: Path) -> None:
    bundle = cells_bundle(tmp_path)
    with OnnxRuntimeSession(bundle, threads=1) as session:
        judged = evaluate_normalisers(Aligner(session), SAMPLES, AFLW, ("inter-ocular",), threshold=1000.0)
    assert judged["inter-ocular"].whole.failure_rate == 0.0
    assert judged["inter-ocular"].whole.auc == pytest.approx(100 - NMES.mean() / 10)
    record = AccuracyRecord.of(bundle, "onnxruntime", "val", "0a1b", judged["inter-ocular"])
    assert (record.split, record.faces, record.images) == ("val", "0a1b", 3)
    assert (record.failure_rate, record.auc) == (100.0, 0.0)
    assert record.subsets["near"] == {
        "images": 1,
        "nme": pytest.approx(NMES[0]),
        "failure_rate": 100.0,
        "auc": 0.0,
    }


def test_faces_are_known_again_by_name_points_and_box() -> None:
    known = fingerprint_of(SAMPLES)
    assert known == fingerprint_of([replace(one, points=one.points.copy()) for one in SAMPLES])
    moved = TRUTH + np.eye(19, 2)
    changes = [{"name": "d"}, {"points": moved}, {"box": SAMPLES[0].box + 0.25}]
    others = [fingerprint_of([replace(SAMPLES[0], **change), *SAMPLES[1:]]) for change in changes]
    others += [fingerprint_of(SAMPLES[:2]), fingerprint_of(SAMPLES[::-1])]
    assert len({known, *others}) == 6


def test_summary_of_small_errors() -> None:
    # Every point is 0.3 and 0.4 pixels off: 0.5 of 10 is 5 %; half of the area up to 10 % is left.
    judged = summarise(np.stack([TRUTH + np.array([0.3, 0.4])] * 3), SAMPLES, AFLW, "inter-ocular")
    assert judged.whole.nme == pytest.approx(5.0)
    assert judged.whole.failure_rate == 0.0
    assert judged.whole.auc == pytest.approx(50.0)
    errors, shares = judged.ced
    assert shares[errors < 4.99].max() == 0.0
    assert shares[errors > 5.01].min() == 100.0


def test_what_cannot_be_judged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the split empty"):
        summarise(np.zeros((0, 19, 2)), [], AFLW, "inter-ocular")
    broken = np.zeros((3, 19, 2))
    broken[1, 4, 0] = np.nan
    with pytest.raises(UserError, match="^b: the predicted points are NaN"):
        summarise(broken, SAMPLES, AFLW, "inter-ocular")
    with pytest.raises(UserError, match="^a: its inter-pupil distance is 0"):
        summarise(np.zeros((3, 19, 2)), SAMPLES, AFLW, "inter-pupil")
    with pytest.raises(UserError, match=r"shape \(3, 68, 2\)"):
        summarise(np.zeros((3, 68, 2)), SAMPLES, AFLW, "inter-ocular")
    session = OnnxRuntimeSession(cells_bundle(tmp_path), threads=1)
    with pytest.raises(UserError, match="finds 19 points, the data has 68"):
        evaluate(Aligner(session), SAMPLES, W300, "inter-ocular")


@pytest.mark.parametrize(
    ("normaliser", "fault"),
    [
        ("eye-width", "normaliser 'eye-width' is unknown; choose one of inter-ocular"),
        ("inter-pupil", "^a: its inter-pupil distance is 0"),
    ],
)
def test_a_normaliser_is_refused_before_any_image_is_run(tmp_path: Path, normaliser: str, fault: str) -> None:
    loaded: list[str] = []

    def load() -> np.ndarray:
        loaded.append("image")
        return SAMPLES[0].load()

    with OnnxRuntimeSession(cells_bundle(tmp_path), threads=1) as session:
        watched = [replace(SAMPLES[0], load=load)]
        with pytest.raises(UserError, match=fault):
            evaluate_normalisers(Aligner(session), watched, AFLW, ("inter-ocular", normaliser))
        assert loaded == []
        evaluate(Aligner(session), watched, AFLW, "inter-ocular")
    assert loaded == ["image"]


def test_eval_refuses_a_normaliser_before_the_network_is_run(tmp_path: Path) -> None:
    """The network gives NaN, which would be the fault if it were run."""
    write_image(tmp_path / "a.png", SAMPLES[0].load())
    columns = ["image", *(f"{axis}{i}" for i in range(19) for axis in "xy")]
    box = ["box_x0", "box_y0", "box_x1", "box_y1"]
    with (tmp_path / "val.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*columns, *box], ["a.png", *TRUTH.ravel(), *SAMPLES[0].box]])
    broken, silent = cells_bundle(tmp_path, weight=float("nan")), Progress(disable=True)
    with pytest.raises(UserError, match=r"a\.png: its inter-pupil distance is 0; choose another"):
        eval_bundle(broken, tmp_path, "val", "folder", silent, "inter-pupil")
    with pytest.raises(UserError, match="NaN"):
        eval_bundle(broken, tmp_path, "val", "folder", silent, "inter-ocular")


class Watched(OnnxRuntimeSession):
    """The real session, and a log of the batch sizes in the order they were run."""

    log: list[int]

    def run(self, inputs: Float32) -> Float32:
        self.log.append(len(inputs))
        return super().run(inputs)


def test_a_sweep_measures_every_combination_in_turns(tmp_path: Path) -> None:
    made, log, told = cells_bundle(tmp_path), list[int](), list[tuple[int, int]]()

    def opener(bundle: Bundle, threads: int | None = None, backend: Backend = DEFAULT_BACKEND) -> Watched:
        session = Watched(bundle, threads, backend)
        session.log = log
        return session

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    records = sweep(Wanted([made], (1, 4), (1,), crops_of(SAMPLES), QUICK), opener=opener, progress=tell)
    assert [(record.batch, record.threads) for record in records] == [(1, 1), (4, 1)]
    # A share of 7 calls in 3 rounds is 3 calls; the warm-up of 2 and the settling of 1 are not counted.
    assert [len(record.samples_ms) for record in records] == [9, 9]
    first, rounds = log[:2], log[2:]
    assert first == [1, 4]
    assert rounds == [1] * 5 + [4] * 5 + [4] * 4 + [1] * 4 + [1] * 4 + [4] * 4
    assert told == [(done, 8) for done in range(1, 9)]
    assert records[0].sha256 == made.sha256
    assert records[0].protocol == "kernel-1-draft"
    assert records[0].init_ms > 0 < records[0].first_ms


def test_all_cores_and_their_number_are_one_combination(tmp_path: Path) -> None:
    made = cells_bundle(tmp_path)
    every = OnnxRuntimeSession(made).threads
    records = sweep(Wanted([made], (1,), (None, every), crops_of(SAMPLES), QUICK))
    assert [record.threads for record in records] == [every]


def test_a_file_that_gives_nan_has_no_latency(tmp_path: Path) -> None:
    made = cells_bundle(tmp_path, weight=float("nan"))
    with pytest.raises(UserError, match="'cells' in onnxruntime: its heatmaps hold NaN"):
        sweep(Wanted([made], (1,), (1,), crops_of(SAMPLES), QUICK))


def test_files_of_one_batch_size_are_told_before_anything_is_run_or_a_device_is_reached(
    tmp_path: Path,
) -> None:
    free = cells_bundle(tmp_path)
    one, four = (
        replace(free, manifest=replace(free.manifest, name=name, batch=size))
        for name, size in (("one", 1), ("four", 4))
    )
    shell = shell_of("ssh://nobody@192.0.2.1")
    assert shell is not None

    def check(bundles: list[Bundle], batches: tuple[int, ...], said: str) -> None:
        wanted = Wanted(bundles, batches, (1,), crops_of(SAMPLES), QUICK)
        log: list[tuple[int, int]] = []
        with pytest.raises(UserError, match=said):
            sweep(wanted, progress=lambda done, total: log.append((done, total)))
        assert log == []
        with pytest.raises(UserError, match=said):
            sweep_on(Device(shell), wanted)

    check([free, one], (1, 4), "--batch 1,4: 'one' runs batch 1 only; measure .* with --batch 1$")
    both = "--batch 1,2: 'four' runs batch 4 only, 'one' runs batch 1 only; .* with --batch 1 or 4$"
    check([four, free, one], (1, 2), both)
    check(
        [one, four], (1,), "--batch 1: 'four' runs batch 4 only; measure such bundles by a call of their own"
    )


def test_a_sweep_needs_faces_and_batches() -> None:
    with pytest.raises(UserError, match="is the split empty"):
        crops_of([])
    with pytest.raises(UserError, match=r"batch sizes \[0\]"):
        sweep(Wanted([], (0,), (1,), crops_of(SAMPLES), QUICK))
