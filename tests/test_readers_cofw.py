import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from slimalign.compress.data.checks import Problem, check_samples
from slimalign.compress.data.readers import cofw, cofw68
from slimalign.runtimes.errors import UserError

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (90, 120, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (100, 80), dtype=np.uint8)
# MATLAB's pixels, from 1.
X = 20.0 + np.arange(29)
Y = 60.5 - np.arange(29)


def phi_of(hidden: int = 0) -> np.ndarray:
    return np.concatenate([X, Y, np.arange(29) < hidden])


def write_mat(root: Path, split: str, images: list[np.ndarray], phis: list[np.ndarray]) -> Path:
    """A MATLAB v7.3 file: a cell column {N, 1} of images and a matrix N x 87, both with reversed axes."""
    cells, matrix = {"train": ("IsTr", "phisTr"), "test": ("IsT", "phisT")}[split]
    path = root / f"COFW_{split}_color.mat"
    # MATLAB puts 512 bytes of its own before the HDF5 data.
    with h5py.File(path, "w", userblock_size=512) as file:
        stored = file.create_group("#refs#")
        references = np.empty((1, len(images)), dtype=h5py.ref_dtype)
        for index, image in enumerate(images):
            references[0, index] = stored.create_dataset(f"i{index}", data=image.transpose()).ref
        file.create_dataset(cells, data=references, dtype=h5py.ref_dtype)
        file.create_dataset(matrix, data=np.array(phis).transpose())
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64"
    with path.open("r+b") as raw:
        raw.write(text.ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("split", ["train", "test"])
def test_points_images_and_occlusion(tmp_path: Path, split: str) -> None:
    write_mat(tmp_path, split, [COLOUR, GREY], [phi_of(), phi_of(hidden=3)])
    found = cofw.read_split(tmp_path, split)
    assert found.problems == []
    assert [sample.name for sample in found.samples] == [f"COFW_{split}_color/1", f"COFW_{split}_color/2"]
    first, second = (pickle.loads(pickle.dumps(sample)) for sample in found.samples)
    np.testing.assert_array_equal(first.points, np.stack([X - 1, Y - 1], axis=1))
    np.testing.assert_array_equal(first.box, [19, 31.5, 47, 59.5])
    np.testing.assert_array_equal(first.load(), COLOUR)
    np.testing.assert_array_equal(second.load(), np.dstack([GREY] * 3))
    assert first.load().flags.c_contiguous
    assert not first.occluded.any()
    assert second.occluded.tolist() == [True] * 3 + [False] * 26
    assert check_samples(found.samples, found.scheme) == {}


@pytest.mark.parametrize(("hidden", "subsets"), [(8, ()), (9, ("occluded",))])
def test_more_than_thirty_percent_hidden_is_the_subset_occluded(
    tmp_path: Path, hidden: int, subsets: tuple[str, ...]
) -> None:
    # 0.3 x 29 = 8.7
    write_mat(tmp_path, "test", [GREY], [phi_of(hidden)])
    assert cofw.read_split(tmp_path, "test").samples[0].subsets == subsets


def test_a_single_image_and_a_bad_flag(tmp_path: Path) -> None:
    bad = phi_of()
    bad[60] = 0.5
    write_mat(tmp_path, "test", [GREY, COLOUR], [bad, phi_of()])
    found = cofw.read_split(tmp_path, "test")
    assert [sample.name for sample in found.samples] == ["COFW_test_color/2"]
    assert found.problems == [Problem("COFW_test_color/1", "its occlusion flags must be 0 or 1")]


def test_nan_and_odd_images_are_found_by_the_checks(tmp_path: Path) -> None:
    with_nan = phi_of()
    with_nan[4] = np.nan
    doubles = GREY / 255.0
    write_mat(tmp_path, "test", [GREY, doubles], [with_nan, phi_of()])
    found = cofw.read_split(tmp_path, "test")
    assert check_samples(found.samples, found.scheme) == {
        0: Problem("COFW_test_color/1", "point 4 is not finite (NaN or infinite), of 1 such"),
        1: Problem("COFW_test_color/2", "image 2 is (80, 100) float64, not grey or RGB uint8"),
    }


def test_a_reference_to_nothing_is_a_problem_of_that_image(tmp_path: Path) -> None:
    path = write_mat(tmp_path, "test", [GREY, COLOUR], [phi_of(), phi_of()])
    with h5py.File(path, "r+") as file:
        file["IsT"][0, 0] = h5py.Reference()
    found = cofw.read_split(tmp_path, "test")
    (problem,) = check_samples(found.samples, found.scheme).values()
    assert str(problem).startswith("COFW_test_color/1: image 1 cannot be read (")


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write_mat(tmp_path, "test", [COLOUR], [phi_of()])
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(UserError) as caught:
        cofw.read_split(tmp_path, "test")
    assert str(caught.value).startswith(f"{path}: not a MATLAB v7.3 file, or cut short (")


def test_the_file_of_another_split(tmp_path: Path) -> None:
    write_mat(tmp_path, "train", [GREY], [phi_of()]).rename(tmp_path / "COFW_test_color.mat")
    with pytest.raises(UserError, match="holds no variable IsT and phisT; is it the file of another split"):
        cofw.read_split(tmp_path, "test")


def test_images_and_annotations_that_do_not_match(tmp_path: Path) -> None:
    write_mat(tmp_path, "test", [GREY, GREY], [phi_of()])
    with pytest.raises(UserError, match=r"phisT is \(1, 87\), \(2, 87\) is needed; get it again"):
        cofw.read_split(tmp_path, "test")


def test_csv_list_where_there_is_no_mat(tmp_path: Path) -> None:
    row = ["a.jpg", "1", "2", "3", *(f"{v}" for pair in zip(X, Y, strict=True) for v in pair)]
    (tmp_path / "face_landmarks_cofw_train.csv").write_text("image_name,scale\n" + ",".join(row) + "\n")
    (sample,) = cofw.read_split(tmp_path, "train").samples
    np.testing.assert_array_equal(sample.points, np.stack([X - 1, Y - 1], axis=1))


def test_missing_file(tmp_path: Path) -> None:
    write_mat(tmp_path, "train", [GREY], [phi_of()])
    with pytest.raises(
        UserError, match=r"looked for COFW_val_color\.mat and .*; the splits there are train$"
    ):
        cofw.read_split(tmp_path, "val")


POINTS68 = np.stack([30.0 + np.arange(68) / 2, 40.0 + np.arange(68) / 4], axis=1)


def write_68(folder: Path, number: int, points: np.ndarray = POINTS68, hidden: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}_points.mat"
    occ = (np.arange(68) < hidden).astype(np.float64)[:, None]
    scipy.io.savemat(path, {"Points": points, "Occ": occ}, do_compression=number % 2 == 0)
    return path


@pytest.mark.parametrize("folder", ["COFW68_Data/test_annotations", "test_annotations", "."])
def test_cofw68(tmp_path: Path, folder: str) -> None:
    write_mat(tmp_path, "test", [COLOUR, GREY], [phi_of(), phi_of()])
    write_68(tmp_path / folder, 1)
    write_68(tmp_path / folder, 2, hidden=21)  # 0.3 x 68 = 20.4
    found = cofw68.read_split(tmp_path, "test")
    first, second = found.samples
    assert found.scheme.count == 68
    np.testing.assert_array_equal(first.points, POINTS68 - 1)
    np.testing.assert_array_equal(second.load(), np.dstack([GREY] * 3))
    assert second.occluded.sum() == 21
    assert (first.subsets, second.subsets) == ((), ("occluded",))
    assert check_samples(found.samples, found.scheme) == {}


def test_cofw68_bad_annotation_files(tmp_path: Path) -> None:
    write_mat(tmp_path, "test", [GREY] * 5, [phi_of()] * 5)
    write_68(tmp_path, 1)
    write_68(tmp_path, 2, points=POINTS68[:60])
    scipy.io.savemat(tmp_path / "3_points.mat", {"Points": POINTS68})
    cut = write_68(tmp_path, 4)
    cut.write_bytes(cut.read_bytes()[:300])
    found = cofw68.read_split(tmp_path, "test")
    assert [sample.name for sample in found.samples] == ["COFW_test_color/1"]
    two, three, four, five = (str(problem) for problem in found.problems)
    assert two == "2_points.mat: Points is (60, 2) and Occ (68,), 68 points are needed"
    assert three == "3_points.mat: holds no variable 'Occ'"
    assert four.startswith("4_points.mat: not a whole MATLAB file of version 5 (")
    assert five == f"5_points.mat: {tmp_path / '5_points.mat'} is missing"


def test_cofw68_has_a_test_split_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="COFW-68 has the split test only, not 'train'; train on 300W"):
        cofw68.read_split(tmp_path, "train")


def test_cofw68_without_annotations(tmp_path: Path) -> None:
    write_mat(tmp_path, "test", [GREY], [phi_of()])
    with pytest.raises(
        UserError, match=r"no 1_points\.mat in COFW68_Data/test_annotations, test_annotations, \.;"
    ):
        cofw68.read_split(tmp_path, "test")


@pytest.mark.parametrize(
    ("module", "reader"),
    [("h5py", "cofw"), ("scipy", "cofw68")],
)
def test_a_missing_library_is_named(tmp_path: Path, module: str, reader: str) -> None:
    write_mat(tmp_path, "test", [GREY], [phi_of()])
    write_68(tmp_path, 1)
    # A fresh interpreter in which the library cannot be imported.
    program = (
        f"import sys, pathlib; sys.modules[{module!r}] = None\n"
        f"from slimalign.compress.data.readers import {reader}\n"
        f"{reader}.read_split(pathlib.Path(sys.argv[1]), 'test')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "UserError" in last
    assert f"{module}: pip install 'slimalign[train]'" in last
