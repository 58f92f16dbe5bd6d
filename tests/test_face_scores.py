"""The score that tells faces from what is beside them: its rule, the places beside faces, and bundles that have it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from dots import PICTURE, dot_subject, dotted_face
from hypothesis import given
from hypothesis import strategies as st

from slimalign.compress.data.sample import Sample, cut_crops
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.face_scores import (
    DISTANCE,
    LEAST,
    LEAST_SEEN,
    ScoreReport,
    box_beside,
    report_of,
    threshold_between,
)
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import MANIFEST_NAME, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.opening import open_session

some_scores = st.lists(st.integers(0, 12).map(lambda step: step / 4), min_size=1, max_size=12)


def test_the_threshold_of_scores_apart_is_in_the_middle_of_the_gap() -> None:
    assert threshold_between(np.array([0.9, 0.8]), np.array([0.1, 0.4, 0.3])) == pytest.approx(0.6)
    # At any score in (0.3, 0.6] half of the faces are below, and at most half of the others are not; else all of one.
    assert threshold_between(np.array([0.2, 0.6]), np.array([0.3, 0.5])) == pytest.approx(0.45)


@given(some_scores, some_scores)
def test_no_other_threshold_has_fewer_on_the_wrong_side(faces: list[float], others: list[float]) -> None:
    def wrong(threshold: float) -> float:
        refused = sum(score < threshold for score in faces) / len(faces)
        return max(refused, sum(score >= threshold for score in others) / len(others))

    found = threshold_between(np.array(faces), np.array(others))
    # Every quarter, and between them: all that can make a difference, but for refusing everything.
    tried = [wrong(step / 8) for step in range(int(8 * max(faces + others)) + 1)]
    assert wrong(found) == pytest.approx(min(tried))


@given(st.floats(-30, 250), st.floats(-30, 250), st.floats(10, 200), st.floats(10, 200), st.floats(1.0, 1.5))
def test_a_box_beside_a_face_shows_nothing_of_it(
    x: float, y: float, width: float, height: float, box_scale: float
) -> None:
    face = np.array([x, y, x + width, y + height])
    beside = box_beside(face, 320, 240)
    if beside is None:
        return
    side = max(width, height)
    np.testing.assert_allclose(beside[2:] - beside[:2], side)
    middle = (beside[:2] + beside[2:]) / 2
    gap = np.abs(middle - (face[:2] + face[2:]) / 2) - box_scale * side / 2 - np.array([width, height]) / 2
    assert gap.max() >= -1e-9
    inside = np.minimum(beside[2:], [319.5, 239.5]) - np.maximum(beside[:2], -0.5)
    assert (inside > 0).all()
    assert inside.prod() >= (LEAST_SEEN - 1e-9) * side**2


def test_where_the_face_fills_the_picture_there_is_nothing_beside_it() -> None:
    assert box_beside(np.array([0.0, 0.0, 99.0, 99.0]), 100, 100) is None
    # To the right is all the room there is: the square from 100 + 1.25 * 40 - 20 - 20 on.
    found = box_beside(np.array([0.0, 0.0, 40.0, 40.0]), 200, 41)
    np.testing.assert_allclose(found, [DISTANCE * 40, 0, DISTANCE * 40 + 40, 40])


def test_a_report_counts_by_hand() -> None:
    report = report_of(
        np.array([0.9, 0.8, 0.7, 0.2]), np.array([0.1, 0.3, 0.75, 0.0]), np.array([1, 2, 3, 9.0])
    )
    assert report == ScoreReport(report.threshold, 4, 4, 0.75, 0.75, pytest.approx(-1.0))
    assert 0.3 < report.threshold <= 0.7
    assert "so is 75.0 % of 4 crops beside faces, and 25.0 % of 4 faces" in report.told


def in_a_wide_picture(face: Sample) -> Sample:
    """The face at the left of a grey picture three times as wide."""
    narrow = face.load()
    wide = np.full((PICTURE, 3 * PICTURE, 3), narrow[0, 0], dtype=np.uint8)
    wide[:, :PICTURE] = narrow
    return dataclasses.replace(face, load=lambda: wide)


@pytest.fixture(scope="module")
def faces() -> list[Sample]:
    return [in_a_wide_picture(dotted_face(seed)) for seed in range(LEAST)]


def bench_with(faces: ExportFaces | None) -> Workbench:
    crops = cut_crops([dotted_face(seed) for seed in range(3)], CropRule(64, 1.25))
    return Workbench(dot_subject(), crops, faces)


def test_a_bundle_keeps_the_score_between_faces_and_what_is_beside_them(
    tmp_path: Path, faces: list[Sample]
) -> None:
    told: list[object] = []
    bench = bench_with(ExportFaces(faces, faces, "inter-ocular"))
    bundle = write_bundle(tmp_path / "dots", bench, "onnx", told.append)
    threshold = read_bundle(bundle.folder).manifest.score_threshold
    assert threshold is not None
    (report,) = (one for one in told if isinstance(one, ScoreReport))
    assert (report.threshold, report.faces, report.faces_above, report.others_below) == (
        threshold,
        LEAST,
        1,
        1,
    )
    image = in_a_wide_picture(dotted_face(1000)).load()
    boxes = np.array([[20.0, 20.0, 90.0, 80.0], [220.0, 20.0, 290.0, 80.0]])
    with open_session(bundle, threads=1) as session:
        found = Aligner(session).align(image, boxes)
    np.testing.assert_allclose(found.face_scores, found.scores.sum(axis=1) / 19)
    assert found.face_scores[0] > threshold > found.face_scores[1]


def test_without_enough_faces_there_is_no_threshold(tmp_path: Path, faces: list[Sample]) -> None:
    few = bench_with(ExportFaces(faces, faces[:-1], "inter-ocular"))
    assert write_bundle(tmp_path / "few", few, "onnx").manifest.score_threshold is None
    bundle = write_bundle(tmp_path / "none", bench_with(None), "onnx")
    assert bundle.manifest.score_threshold is None
    # Bundles of before it was known are read.
    path = bundle.folder / MANIFEST_NAME
    entries = json.loads(path.read_text())
    del entries["score_threshold"]
    path.write_text(json.dumps(entries))
    assert read_bundle(bundle.folder) == bundle
