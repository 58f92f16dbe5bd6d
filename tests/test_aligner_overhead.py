"""The benchmarks of what is around the network and of imports: what they count, not how long anything takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from cells import onnx_bundle

from slimalign.benchmarks.aligner_overhead import FACES, Overhead, drawn_picture, measured
from slimalign.benchmarks.import_time import PROGRAMS, more_seconds
from slimalign.export.untrained import write_untrained
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import open_session


def test_every_decoder_is_measured_with_one_face_and_with_several(tmp_path: Path) -> None:
    found = measured([onnx_bundle(tmp_path)], rounds=1)
    assert [(one.decoder, one.faces) for one in found] == [
        (name, faces) for name in DECODERS for faces in FACES
    ]
    assert all(one.network_ms > 0 and one.around_ms > 0 for one in found)
    assert {(one.bundle, one.runtime, one.precision) for one in found} == {("cells", "onnxruntime", "fp32")}


@pytest.mark.parametrize(
    ("network_ms", "around_ms", "holds"),
    [(20.0, 2.0, True), (20.0, 2.1, False), (1.0, 0.5, True), (1.0, 0.6, False)],
)
def test_a_tenth_of_the_network_or_half_a_millisecond_is_allowed(
    network_ms: float, around_ms: float, holds: bool
) -> None:
    one = Overhead("made", "onnxruntime", "fp32", "local-mean", 1, network_ms, around_ms)
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


def test_an_untrained_bundle_runs(tmp_path: Path) -> None:
    (bundle,) = write_untrained(tmp_path, "sd-hrnet-300w", 64, ["onnx"])
    assert (bundle.folder.name, bundle.manifest.input_size) == ("untrained-onnx", 64)
    with open_session(bundle, threads=1) as session:
        heatmaps = session.run(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
    assert heatmaps.shape == (1, 68, 16, 16)
    # Each has one peak, as those of a trained network.
    flat = heatmaps.reshape(68, -1)
    assert ((flat == flat.max(axis=1, keepdims=True)).sum(axis=1) == 1).all()
    with pytest.raises(UserError, match="network 'hrnet-w18': give the supernet, a student or"):
        write_untrained(tmp_path, "hrnet-w18", 64, ["onnx"])


def test_every_program_is_started() -> None:
    found = more_seconds(rounds=1)
    assert list(found) == list(PROGRAMS)
    assert all(map(math.isfinite, found.values()))
