"""The protocol ``end-to-end``: what its calls do, in whose turn, and which records come of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from cells import CROPS, LANDMARKS, SIZE, expected_points, onnx_bundle, write_manifest
from onnx import TensorProto, helper, numpy_helper

from slimalign.benchmarks.latency import Crops, Wanted, faces_of, sweep
from slimalign.benchmarks.points import join
from slimalign.benchmarks.results import Results
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.aligner import Face
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.end_to_end import end_to_end_calls, packed_faces, read_faces
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32
from slimalign.runtimes.sweep import FACES, TIMED
from slimalign.runtimes.timing import DRAFT, Protocol
from slimalign.runtimes.timing_loop import Span

SHORT = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(2, 0.0), rounds=2)
OFFSET = np.array([5.0, 3.0])


def framed(crop: np.ndarray) -> Face:
    """A grey picture with ``crop`` in it, OFFSET from its corner."""
    image = np.full((40, 50, 3), 99, dtype=np.uint8)
    image[3 : 3 + SIZE, 5 : 5 + SIZE] = crop
    return Face(image, np.array([4.5, 2.5, 4.5 + SIZE, 2.5 + SIZE]))


PICTURES = [framed(crop) for crop in CROPS]
POINTS = expected_points(3) + OFFSET


def sample(face: Face) -> Sample:
    return Sample("face", lambda: face.image, face.box, np.zeros((LANDMARKS, 2)), np.zeros(LANDMARKS, bool))


SAMPLES = [sample(face) for face in PICTURES]


def fixed_crops() -> Crops:
    return lambda rule: CROPS


def bundle_of_points(folder: Path) -> Bundle:
    """Whatever it is shown, its points are 0, 1 ... 18 to the right, 2 down, with a score of 0.5."""
    points = np.stack([np.arange(LANDMARKS), np.full(LANDMARKS, 2.0)], axis=1).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["crops"], ["means"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["means", "zero"], ["nothing"]),
            helper.make_node("Unsqueeze", ["nothing", "two"], ["column"]),
            helper.make_node("Unsqueeze", ["nothing", "one"], ["row"]),
            helper.make_node("Add", ["column", "points_there"], ["points"]),
            helper.make_node("Add", ["row", "scores_there"], ["scores"]),
        ],
        "points",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, ["n", LANDMARKS, 2]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", LANDMARKS]),
        ],
        [
            numpy_helper.from_array(np.float32(0.0), "zero"),
            numpy_helper.from_array(np.array([1, 2]), "two"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(points, "points_there"),
            numpy_helper.from_array(np.full(LANDMARKS, 0.5, dtype=np.float32), "scores_there"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    return write_manifest(folder, "model.onnx", output="points")


class Counting(OnnxRuntimeSession):
    """The real session, and a log of the batch sizes in the order they were run."""

    log: list[int]

    def run(self, inputs: Float32) -> Float32:
        self.log.append(len(inputs))
        return super().run(inputs)


def counting(bundle: Bundle, log: list[int], threads: int = 1) -> Counting:
    session = Counting(bundle, threads)
    session.log = log
    return session


def test_a_call_goes_from_images_to_points_of_each_image(tmp_path: Path) -> None:
    log: list[int] = []
    faces = [Face(face.image.copy(), face.box) for face in PICTURES]
    with counting(onnx_bundle(tmp_path), log) as session:
        (call,) = end_to_end_calls(session, faces, 2)
        np.testing.assert_allclose(call(), POINTS[:2], atol=1e-6)
        # Nothing was cut or normalised beforehand: the next call sees what has changed in an image.
        faces[0].image[:] = PICTURES[2].image
        np.testing.assert_allclose(call(), POINTS[[2, 1]], atol=1e-6)
    assert log == [2, 2], "the network runs once a call"


def test_calls_take_turns_on_different_faces(tmp_path: Path) -> None:
    with counting(onnx_bundle(tmp_path), []) as session:
        calls = end_to_end_calls(session, PICTURES, 1)
        assert len(calls) == 3
        np.testing.assert_allclose(np.concatenate([call() for call in calls]), POINTS, atol=1e-6)
        assert len(end_to_end_calls(session, PICTURES * 20, 4)) == FACES // 4


@pytest.mark.parametrize("batch", [7, 50])
def test_faces_are_repeated_in_a_larger_batch_which_stays_one(tmp_path: Path, batch: int) -> None:
    log: list[int] = []
    with counting(onnx_bundle(tmp_path), log) as session:
        (call,) = end_to_end_calls(session, PICTURES, batch)
        np.testing.assert_allclose(call(), POINTS[np.arange(batch) % 3], atol=1e-6)
    assert log == [batch]


def test_a_file_of_one_batch_size_is_not_filled_up(tmp_path: Path) -> None:
    with (
        counting(onnx_bundle(tmp_path, batch=4), []) as session,
        pytest.raises(UserError, match="batch = 2, the file runs batch 4 only"),
    ):
        end_to_end_calls(session, PICTURES, 2)


def test_a_file_that_gives_points_is_timed_too(tmp_path: Path) -> None:
    made = bundle_of_points(tmp_path)
    with counting(made, []) as session:
        (call,) = end_to_end_calls(session, PICTURES, 3)
        expected = np.stack([np.arange(LANDMARKS), np.full(LANDMARKS, 2.0)], axis=1) + OFFSET
        np.testing.assert_allclose(call(), np.stack([expected] * 3), atol=1e-6)
    records = sweep(Wanted([made], (1,), (1,), fixed_crops(), SHORT, TIMED, faces_of(SAMPLES)))
    assert [record.protocol for record in records] == ["kernel-1-draft", "end-to-end-1-draft"]


def test_both_kinds_are_measured_in_turns_with_a_record_each(tmp_path: Path) -> None:
    log, threads = list[int](), cv2.getNumThreads()

    def opener(bundle: Bundle, threads: int | None = None, backend: Backend = DEFAULT_BACKEND) -> Counting:
        return counting(bundle, log, threads or 1)

    made, faces = onnx_bundle(tmp_path), faces_of(SAMPLES)
    records = sweep(Wanted([made], (1, 2), (1,), fixed_crops(), SHORT, TIMED, faces), opener=opener)
    assert [(record.batch, record.protocol) for record in records] == [
        (1, "kernel-1-draft"),
        (1, "end-to-end-1-draft"),
        (2, "kernel-1-draft"),
        (2, "end-to-end-1-draft"),
    ]
    # Of the protocol's two calls in two rounds each has one, after a warm-up or a settling of one: so two a visit.
    assert log == [1, 1, 2, 2] + 4 * [1] + 4 * [2] + 4 * [2] + 4 * [1]
    assert all(len(record.samples_ms) == 2 and record.visits == (1, 1) for record in records)
    assert all(record.init_ms > 0 < record.first_ms for record in records)
    assert cv2.getNumThreads() == threads
    with pytest.raises(UserError, match=r"several protocols \(end-to-end-1-draft, kernel-1-draft\)"):
        join(Results(tuple(records), (), ()))


def test_opencv_has_the_threads_of_the_session(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        with counting(onnx_bundle(tmp_path), [], threads=1) as session:
            end_to_end_calls(session, PICTURES, 1)[0]()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_a_file_that_gives_nan_is_named(tmp_path: Path) -> None:
    made = onnx_bundle(tmp_path)
    broken = onnx.load(made.model_path)
    broken.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((LANDMARKS, 3, 1, 1), np.nan, dtype=np.float32), "weights")
    )
    onnx.save(broken, made.model_path)
    said = "bundle 'cells' in onnxruntime: its heatmaps hold NaN or infinite values; export it again"
    for kind in TIMED:
        with pytest.raises(UserError, match=said):
            sweep(Wanted([made], (1,), (1,), fixed_crops(), SHORT, (kind,), faces_of(SAMPLES)))


def test_a_box_outside_its_image_is_refused(tmp_path: Path) -> None:
    outside = [replace(SAMPLES[0], box=np.array([60.0, 2.0, 70.0, 12.0]))]
    with pytest.raises(UserError, match="box 60,2,70,12: outside the image of 50x40 pixels"):
        sweep(
            Wanted(
                [onnx_bundle(tmp_path)], (1,), (1,), fixed_crops(), SHORT, ("end-to-end",), faces_of(outside)
            )
        )


@pytest.mark.parametrize("timed", [(), ("end-to-end", "network")])
def test_a_kind_that_there_is_not_is_refused(tmp_path: Path, timed: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="^--timed .*: choose among kernel, end-to-end"):
        sweep(Wanted([onnx_bundle(tmp_path)], (1,), (1,), fixed_crops(), DRAFT, timed))


def test_faces_travel_without_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    faces = [
        Face(rng.integers(0, 256, (height, 30, 3), dtype=np.uint8), rng.normal(size=4))
        for height in range(20, 33)
    ]
    packed = packed_faces(faces)
    assert packed == packed_faces(faces)
    (tmp_path / "faces.npz").write_bytes(packed)
    found = read_faces(str(tmp_path / "faces.npz"))
    assert len(found) == len(faces)
    for face, again in zip(faces, found, strict=True):
        np.testing.assert_array_equal(face.image, again.image)
        np.testing.assert_array_equal(face.box, again.box)
