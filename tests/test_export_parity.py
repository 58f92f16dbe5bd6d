"""Parity: what is let through and what is not, on heatmaps whose points are known."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import numpy as np
import pytest
import torch
from torch import nn

from slimalign.export.parity import ParityError, ParityReport, compare, torch_heatmaps
from slimalign.runtimes.bundle import Manifest
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.session import Float32

SIZE, STRIDE, POINTS = 32, 4, 19
MANIFEST = Manifest(
    name="given",
    model="model.onnx",
    format="onnx",
    precision="fp32",
    input_size=SIZE,
    box_scale=1.25,
    layout="NCHW",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    scheme="aflw-19",
    decoder="argmax-quarter",
    stride=STRIDE,
    batch=None,
    files={"model.onnx": "0" * 64},
)


class GivenSession:
    """A runtime that answers with given heatmaps, the crops in the order in which they come."""

    runtime = "given"
    threads = 1

    def __init__(self, heatmaps: Float32, manifest: Manifest = MANIFEST) -> None:
        self.manifest = manifest
        self.batches: list[int] = []
        self._heatmaps = heatmaps
        self._place = 0

    def run(self, inputs: Float32) -> Float32:
        self.batches.append(len(inputs))
        places = (self._place + np.arange(len(inputs))) % len(self._heatmaps)
        self._place += len(inputs)
        return self._heatmaps[places]

    def __enter__(self) -> GivenSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.batches.clear()


def crops(count: int) -> np.ndarray:
    return np.zeros((count, SIZE, SIZE, 3), dtype=np.uint8)


def peaks(count: int = 1, height: float = 1.0) -> Float32:
    """Heatmaps 8x8 with the peak at x = 2 + k mod 4, y = 3 and a lower value to its right and above it."""
    heatmaps = np.zeros((count, POINTS, 8, 8), dtype=np.float32)
    for k in range(POINTS):
        x = 2 + k % 4
        heatmaps[:, k, 3, x] = height
        heatmaps[:, k, 3, x + 1] = 0.5 * height
        heatmaps[:, k, 2, x] = 0.25 * height
    return heatmaps


def test_equal_heatmaps_pass() -> None:
    report = compare(peaks(2), GivenSession(peaks(2)), crops(2))
    assert report == ParityReport(2, 0.0, 1.0, 0.0, 2 * POINTS, 0)
    assert report.fault is None


def test_the_first_crop_is_also_run_alone() -> None:
    session = GivenSession(peaks(11))
    compare(peaks(11), session, crops(11))
    assert session.batches == [8, 3, 1]


def test_a_fixed_batch_is_filled_up() -> None:
    session = GivenSession(peaks(6), replace(MANIFEST, batch=4))
    assert compare(peaks(6), session, crops(6)).fault is None
    assert session.batches == [4, 4, 4]


@pytest.mark.parametrize(
    ("height", "difference", "holds"), [(1, 9e-5, True), (1, 1.2e-4, False), (40, 3e-3, True)]
)
def test_the_heatmaps_tolerance_grows_with_values_above_one(
    height: float, difference: float, holds: bool
) -> None:
    reference = peaks(height=height)
    found = reference.copy()
    found[0, 4, 6, 6] += difference
    report = compare(reference, GivenSession(found), crops(1))
    assert report.heatmap_difference == pytest.approx(difference, rel=1e-2)
    assert report.heatmap_tolerance == pytest.approx(1e-4 * height)
    assert (report.fault is None) == holds


def test_small_heatmaps_are_judged_by_the_absolute_tolerance() -> None:
    report = compare(peaks(height=0.01), GivenSession(peaks(height=0.01)), crops(1))
    assert report.heatmap_tolerance == pytest.approx(1e-4)


def test_points_that_moved_fail_though_the_heatmaps_hold() -> None:
    """Peaks of one in heatmaps of thousands: a change of 0.03 is within the heatmaps' tolerance, not the points'."""
    reference = peaks()
    reference[0, 0] *= 1000
    found = reference.copy()
    found[0, 1, 3, 3] += 0.03
    manifest = replace(MANIFEST, decoder="local-mean")
    report = compare(reference, GivenSession(found, manifest), crops(1))
    # Weights 1, 0.5 (to the right), 0.25 (above): x moves from 0.5 / 1.75 to 0.5 / 1.78 cells of 4 pixels.
    assert report.point_difference_px == pytest.approx(4 * 0.5 * (1 / 1.75 - 1 / 1.78), rel=1e-3)
    assert report.fault == "points differ by 0.019 px, at most 0.01 is allowed"


def test_a_tie_that_rounding_decides_is_left_out() -> None:
    """Two equal peaks: a change of 1e-6 moves the point by 16 pixels, and says nothing of the file."""
    reference = peaks()
    reference[0, 0, 7, 7] = 1.0
    found = reference.copy()
    found[0, 0, 7, 7] += 1e-6
    report = compare(reference, GivenSession(found), crops(1))
    assert (report.tied_points, report.points) == (1, POINTS)
    assert report.point_difference_px == 0.0
    assert report.fault is None


def test_equal_neighbours_are_a_tie_for_the_quarter_step_only() -> None:
    reference = peaks()
    reference[0, 0, 3, 1] = reference[0, 0, 3, 3]
    found = reference.copy()
    found[0, 0, 3, 3] += 1e-6
    assert compare(reference, GivenSession(found), crops(1)).tied_points == 1
    soft = compare(reference, GivenSession(found, replace(MANIFEST, decoder="local-mean")), crops(1))
    assert soft.tied_points == 0
    assert 0 < soft.point_difference_px < 1e-4


def test_flat_heatmaps_are_told_apart() -> None:
    flat = np.zeros((1, POINTS, 8, 8), dtype=np.float32)
    report = compare(flat, GivenSession(flat), crops(1))
    assert (report.flat, report.fault) == (True, None)
    flat[0, 0] = peaks()[0, 0]
    assert not compare(flat, GivenSession(flat), crops(1)).flat


def test_nan_and_another_shape_are_failures() -> None:
    broken = peaks()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ParityError, match="NaN"):
        compare(peaks(), GivenSession(broken), crops(1))
    with pytest.raises(CheckError, match=r"shape \(1, 5, 8, 8\), PyTorch gives \(1, 19, 8, 8\)"):
        compare(peaks(), GivenSession(peaks()[:, :5]), crops(1))


def pooled(channels: int, stride: int = STRIDE) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(3, channels, 1)).eval()


def test_torch_heatmaps_are_those_of_the_normalised_crops() -> None:
    network = nn.Sequential(nn.AvgPool2d(STRIDE), nn.Conv2d(3, POINTS, 1, bias=False)).eval()
    conv = network[1]
    assert isinstance(conv, nn.Conv2d)
    nn.init.ones_(conv.weight)
    faces = crops(9)
    faces[8] = 255
    heatmaps = torch_heatmaps(network, faces, MANIFEST)
    # (0 / 255 - 0.5) / 0.25 = -2 and (1 - 0.5) / 0.25 = 2, summed over three channels.
    np.testing.assert_allclose(heatmaps[:8], -6, rtol=1e-6)
    np.testing.assert_allclose(heatmaps[8], 6, rtol=1e-6)


@pytest.mark.parametrize(
    ("network", "count", "message"),
    [
        (pooled(POINTS), 0, "no crops"),
        (pooled(5), 1, r"shape \(1, 5, 8, 8\).*ask for \(1, 19, 8, 8\)"),
        (pooled(POINTS, stride=8), 1, "stride 4"),
    ],
)
def test_a_network_that_does_not_fit_is_the_users_mistake(
    network: nn.Module, count: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        torch_heatmaps(network, crops(count), MANIFEST)


def test_a_network_that_gives_nan_is_refused() -> None:
    network = pooled(POINTS)
    with torch.no_grad():
        network.get_parameter("1.weight").fill_(torch.nan)
    with pytest.raises(UserError, match="NaN"):
        torch_heatmaps(network, crops(1), MANIFEST)
