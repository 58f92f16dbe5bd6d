"""The benchmarks of what is around the network and of imports: what they count, not how long anything takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from cells import onnx_bundle

from slimalign.benchmarks import harness_overhead
from slimalign.benchmarks.aligner_overhead import FACES, LARGE_PICTURES, Overhead, drawn_picture, measured
from slimalign.benchmarks.import_time import PROGRAMS, more_seconds
from slimalign.runtimes.decode import DECODERS


def test_every_decoder_is_measured_with_one_face_and_with_several(tmp_path: Path) -> None:
    found = measured([onnx_bundle(tmp_path)], rounds=1)
    judged = [one for one in found if one.judged]
    assert [(one.decoder, one.faces) for one in judged] == [
        (name, faces) for name in DECODERS for faces in FACES
    ]
    large = [(one.decoder, one.faces, one.picture) for one in found if not one.judged]
    assert large == [("local-mean", 1, side) for side in LARGE_PICTURES]
    assert all(one.network_ms > 0 and one.around_ms > 0 for one in found)
    assert {(one.bundle, one.runtime, one.precision) for one in found} == {("cells", "onnxruntime", "fp32")}


@pytest.mark.parametrize(
    ("network_ms", "around_ms", "holds"),
    [(20.0, 2.0, True), (20.0, 2.1, False), (1.0, 0.5, True), (1.0, 0.6, False)],
)
def test_a_tenth_of_the_network_or_half_a_millisecond_is_allowed(
    network_ms: float, around_ms: float, holds: bool
) -> None:
    one = Overhead("made", "onnxruntime", "fp32", "local-mean", 1, 400, network_ms, around_ms)
    assert one.holds is holds
    assert one.share == pytest.approx(around_ms / network_ms)


def test_faces_stand_side_by_side() -> None:
    image, boxes = drawn_picture(3)
    one, box = drawn_picture(1)
    np.testing.assert_array_equal(image[:, : one.shape[1]], one)
    np.testing.assert_array_equal(boxes[:1], box)
    assert image.shape[1] == 3 * one.shape[1]
    places = (boxes[:, 0] + boxes[:, 2]) / 2 // one.shape[1]
    np.testing.assert_array_equal(places, [0, 1, 2])


def test_every_program_is_started() -> None:
    found = more_seconds(rounds=1)
    assert list(found) == list(PROGRAMS)
    assert all(map(math.isfinite, found.values()))


def test_the_harness_and_a_bare_loop_make_the_same_calls(tmp_path: Path) -> None:
    found = harness_overhead.measured(harness_overhead.tiny_bundle(tmp_path), rounds=2, seconds=0.0)
    assert (found.bundle, found.runtime, found.precision, found.calls) == ("tiny", "onnxruntime", "fp32", 2)
    assert found.bare_ms > 0 < found.harness_ms


@pytest.mark.parametrize(
    ("bare_ms", "harness_ms", "holds"),
    [(10.0, 10.2, True), (10.0, 10.21, False), (0.1, 0.12, True), (0.1, 0.121, False), (1.0, 0.9, True)],
)
def test_two_percent_or_twenty_microseconds_are_allowed_to_the_harness(
    bare_ms: float, harness_ms: float, holds: bool
) -> None:
    # The rounds' own differences count, whatever the medians of all rounds are.
    one = harness_overhead.Overhead(
        "made", "onnxruntime", "fp32", 10, bare_ms, 3 * bare_ms, harness_ms - bare_ms
    )
    assert one.holds is holds
    assert one.added_us == pytest.approx(1e3 * (harness_ms - bare_ms))
    assert one.ratio == pytest.approx(harness_ms / bare_ms)
