"""The golden face of a bundle: what is in it, and that a machine that finds something else is told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dots import dot_bench, dotted_faces

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.data.drawn import draw_face
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.golden import SEED
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import GraphOptions, Workbench
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import MANIFEST_NAME, Bundle, file_sha256, read_bundle
from slimalign.runtimes.crop import CropRule
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.golden import GOLDEN_FILES, GOLDEN_NAME, GoldenCheck, check_golden
from slimalign.runtimes.images import load_image
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.schemes import scheme_named

SIZE = 64


@pytest.fixture
def bench(lively_supernet: HRSuperNet) -> Workbench:
    return lively_bench(lively_supernet, GraphOptions())


def lively_bench(network: HRSuperNet, options: GraphOptions) -> Workbench:
    subject = ExportSubject("small", network, SIZE, 1.25, "aflw-19", "local-softmax", 4)
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    return Workbench(subject, crops, options=options)


@pytest.fixture
def bundle(bench: Workbench, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "small", bench, "onnx")


def entries(bundle: Bundle) -> Any:
    return json.loads((bundle.folder / GOLDEN_NAME).read_text(encoding="utf-8"))


def with_entries(bundle: Bundle, change: Callable[[Any], None]) -> Bundle:
    """The bundle with another golden.json, as one that was exported elsewhere."""
    path, changed = bundle.folder / GOLDEN_NAME, entries(bundle)
    change(changed)
    path.write_text(json.dumps(changed), encoding="utf-8")
    return with_files(bundle, {**bundle.manifest.files, GOLDEN_NAME: file_sha256(path)})


def with_files(bundle: Bundle, files: dict[str, str]) -> Bundle:
    manifest = replace(bundle.manifest, files=files)
    (bundle.folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return read_bundle(bundle.folder)


def checked(bundle: Bundle) -> GoldenCheck:
    with open_bundle(bundle, threads=1) as session:
        return check_golden(bundle, session)


def test_the_golden_face_is_a_drawn_one_in_a_small_file(bundle: Bundle) -> None:
    assert set(GOLDEN_FILES) < set(bundle.manifest.files)
    path = bundle.folder / "golden.png"
    image = load_image(str(path))
    face = draw_face(SEED, scheme_named("aflw-19"), len(image))
    np.testing.assert_array_equal(image, face.image)
    assert path.stat().st_size < 60_000
    assert image.size / 3 < 1e6 / 3
    assert not face.occluded.any()
    np.testing.assert_array_equal(entries(bundle)["box"], face.box)


def test_it_says_how_the_face_is_cut_out(bundle: Bundle) -> None:
    golden = entries(bundle)
    x0, y0, x1, y1 = golden["box"]
    # The middle of the box becomes that of the crop, 1.25 times its longer side the crop's.
    scale = SIZE / (1.25 * max(x1 - x0, y1 - y0))
    matrix = [[scale, 0, 31.5 - scale * (x0 + x1) / 2], [0, scale, 31.5 - scale * (y0 + y1) / 2]]
    np.testing.assert_allclose(golden["image_to_crop"], matrix, rtol=1e-12)
    crop = CropRule(SIZE).crop(load_image(str(bundle.folder / "golden.png")), np.array(golden["box"]))
    assert golden["crop_sha256"] == hashlib.sha256(crop.tobytes()).hexdigest()
    assert len(golden["crop_pixels"]) == 9
    lower_left = golden["crop_pixels"]["lower left"]
    assert (lower_left["x"], lower_left["y"], lower_left["rgb"]) == (16, 48, crop[48, 16].tolist())
    manifest = bundle.manifest
    for pixel in golden["crop_pixels"].values():
        expected = (np.array(pixel["rgb"]) / 255 - manifest.mean) / manifest.std
        np.testing.assert_allclose(pixel["input"], expected, atol=2e-6)


def test_it_says_what_this_very_file_finds_and_in_what(bundle: Bundle) -> None:
    golden = entries(bundle)
    image = load_image(str(bundle.folder / "golden.png"))
    with OnnxRuntimeSession(bundle, 1) as session:
        found = Aligner(session).align(image, np.array([golden["box"]]))
        crop = CropRule(SIZE).crop(image, np.array(golden["box"]))
        in_crop = Aligner(session).align_crops(crop[None])
        assert (golden["runtime"], golden["version"]) == ("onnxruntime", session.version)
    np.testing.assert_allclose(golden["points"], found.points[0], atol=1e-5)
    np.testing.assert_allclose(golden["crop_points"], in_crop.points[0], atol=1e-5)
    np.testing.assert_allclose(golden["scores"], found.scores[0], atol=1e-6)


def test_the_same_network_makes_the_same_bytes(bench: Workbench, bundle: Bundle, tmp_path: Path) -> None:
    again = write_bundle(tmp_path / "again", bench, "onnx")
    assert again.manifest == bundle.manifest


def test_where_the_same_is_found_the_check_says_so(bundle: Bundle) -> None:
    found = checked(bundle)
    assert found.points_px < 1e-4
    assert (found.crop_levels, found.same_crop) == (0, True)


def test_points_and_pixels_that_lie_apart_are_measured(bundle: Bundle) -> None:
    def move(golden: Any) -> None:
        scale = golden["image_to_crop"][0][0]
        golden["points"][7][0] += 3 / scale
        golden["points"][7][1] -= 4 / scale
        golden["crop_pixels"]["middle"]["rgb"][1] += 6
        golden["crop_pixels"]["right"]["rgb"][2] -= 2
        golden["crop_sha256"] = "0" * 64

    found = checked(with_entries(bundle, move))
    assert found.points_px == pytest.approx(5, abs=1e-3)
    assert (found.crop_levels, found.same_crop) == (6, False)


def test_a_bundle_without_a_golden_face_is_read_and_run_and_only_its_check_refused(bundle: Bundle) -> None:
    """As bundles of earlier versions are."""
    files = {name: key for name, key in bundle.manifest.files.items() if name not in GOLDEN_FILES}
    for name in GOLDEN_FILES:
        (bundle.folder / name).unlink()
    old = with_files(bundle, files)
    with open_bundle(old, threads=1) as session:
        assert Aligner(session).align_crops(np.zeros((1, SIZE, SIZE, 3), np.uint8)).points.shape == (1, 19, 2)
        with pytest.raises(UserError, match=r"small: holds no golden face \(golden\.json\); export it again"):
            check_golden(old, session)


def test_a_golden_face_that_was_changed_is_noticed(bundle: Bundle) -> None:
    path = bundle.folder / "golden.png"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"golden\.png: changed or cut short since the export"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("options", [GraphOptions(decode_inside=True), GraphOptions(batch=4)])
def test_files_of_one_batch_size_and_files_that_decode_have_one_too(
    lively_supernet: HRSuperNet, bundle: Bundle, options: GraphOptions, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other", lively_bench(lively_supernet, options), "onnx")
    assert checked(other).points_px < 1e-4
    np.testing.assert_allclose(entries(other)["points"], entries(bundle)["points"], atol=0.1)


@pytest.mark.parametrize("format_name", ["tensorrt-int8", "onnx-int8"])
def test_a_quantised_file_tells_of_its_own_points_in_onnx_runtime(format_name: str, tmp_path: Path) -> None:
    bench = dot_bench(dotted_faces(32), dotted_faces(4))
    bundle = write_bundle(tmp_path / "dots", bench, format_name)
    assert entries(bundle)["runtime"] == "onnxruntime"
    assert entries(bundle)["version"].startswith("onnxruntime ")
    with OnnxRuntimeSession(bundle, 1) as session:
        assert check_golden(bundle, session).points_px < 1e-4


def cut_by_the_conventions(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The crop as golden.json describes it, in plain loops over black surroundings: (size, size, 3) float64."""
    scale, shift = matrix[0, 0], matrix[:, 2]
    cell = int(1 / scale)
    origin = np.zeros(2)
    if cell >= 2:
        corner = np.floor(-shift / scale).astype(int) - cell
        count = int(size / scale / cell) + 4
        image = np.array(
            [
                [mean_of(image, corner + cell * np.array([i, j]), cell) for i in range(count)]
                for j in range(count)
            ]
        ).round()
        # The middle of cell 0 in pixels of the image.
        origin = corner + (cell - 1) / 2
    cut = np.zeros((size, size, 3))
    for y in range(size):
        for x in range(size):
            place = ((np.array([x, y]) - shift) / scale - origin) / max(cell, 1)
            (left, top), (right_share, bottom_share) = np.floor(place).astype(int), place % 1
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                i, j = left + dx, top + dy
                if 0 <= i < image.shape[1] and 0 <= j < image.shape[0]:
                    share = abs(1 - dx - right_share) * abs(1 - dy - bottom_share)
                    cut[y, x] += share * image[j, i]
    return cut


def mean_of(image: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """The mean over a square of pixels, black outside the image."""
    x0, y0 = np.maximum(corner, 0)
    x1, y1 = np.maximum(corner + side, 0)
    mean: np.ndarray = image[y0:y1, x0:x1].sum(axis=(0, 1)) / side**2
    return mean


@pytest.mark.parametrize("size", [256, 128, 64])
def test_the_conventions_are_enough_to_cut_the_crop(size: int) -> None:
    face = draw_face(SEED, scheme_named("wflw-98"), 400)
    rule = CropRule(size)
    cut = cut_by_the_conventions(face.image, rule.matrix(face.box), size)
    # Means and sums may be rounded otherwise, once each.
    assert np.abs(cut - rule.crop(face.image, face.box)).max() <= 2
