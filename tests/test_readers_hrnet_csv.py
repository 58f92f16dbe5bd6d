from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimalign.compress.data.checks import Problem
from slimalign.compress.data.evaluation import summarise
from slimalign.compress.data.readers import aflw, aflw_frontal, hrnet_csv
from slimalign.compress.data.readers.hrnet_csv import ListFormat
from slimalign.compress.data.sample import fingerprint_of
from slimalign.runtimes import schemes
from slimalign.runtimes.errors import UserError


def points_of(count: int, shift: float = 0.0) -> np.ndarray:
    return np.array([(3.5 * i + shift, 90.25 - i + shift) for i in range(count)])


def row_of(name: str, form: ListFormat, points: np.ndarray) -> list[str]:
    """A row as in the published lists: AFLW's have the box's size as a column of its own."""
    width, height = np.ptp(points, axis=0)
    centre = points.min(axis=0) + np.array([width, height]) / 2
    box_size = [f"{np.sqrt(width * height):.6f}"] if form.leading == 5 else []
    head = [name, f"{max(width, height) / 200:.6f}", *box_size, f"{centre[0]:.1f}", f"{centre[1]:.1f}"]
    return head + [f"{value:.4f}" for value in points.ravel()]


def write_list(path: Path, form: ListFormat, rows: list[list[str]], header: bool = True) -> None:
    names = ["image_name", "scale", "box_size", "center_w", "center_h"]
    if form.leading == 4:
        names.remove("box_size")
    names += [f"original_{i}_{axis}" for i in range(form.scheme.count) for axis in "xy"]
    path.write_text("\n".join(",".join(row) for row in ([names] if header else []) + rows) + "\n")


@pytest.mark.parametrize(
    ("form", "name", "count", "first_pixel"),
    [
        (hrnet_csv.W300, "face_landmarks_300w_train.csv", 68, 1),
        (hrnet_csv.WFLW, "face_landmarks_wflw_train.csv", 98, 0),
        (hrnet_csv.COFW, "face_landmarks_cofw_train.csv", 29, 1),
        (hrnet_csv.AFLW, "face_landmarks_aflw_train.csv", 19, 0),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_each_set(
    tmp_path: Path, form: ListFormat, name: str, count: int, first_pixel: int, header: bool
) -> None:
    write_list(tmp_path / name, form, [row_of("0/a.jpg", form, points_of(count))], header)
    split = hrnet_csv.read_split(tmp_path, "train", form)
    (sample,) = split.samples
    assert split.problems == []
    assert split.scheme.count == count
    np.testing.assert_allclose(sample.points, points_of(count, -first_pixel), rtol=0, atol=1e-9)
    expected_box = [
        -first_pixel,
        91.25 - count - first_pixel,
        3.5 * (count - 1) - first_pixel,
        90.25 - first_pixel,
    ]
    np.testing.assert_allclose(sample.box, expected_box, rtol=0, atol=1e-9)


@pytest.mark.parametrize("folder", ["images", "."])
def test_images_lie_below_images_or_beside_the_list(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "0").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / folder / "0/a.png"), np.full((5, 7, 3), 9, np.uint8))
    form = hrnet_csv.AFLW
    write_list(tmp_path / "face_landmarks_aflw_test.csv", form, [row_of("0/a.png", form, points_of(19))])
    (sample,) = aflw.read_split(tmp_path, "test").samples
    assert sample.name == "0/a.png"
    assert sample.load().shape == (5, 7, 3)


def test_aflw_is_judged_by_the_size_that_its_list_gives(tmp_path: Path) -> None:
    """Published NMEs are divided by it, and not by that of the box around the points."""
    form = hrnet_csv.AFLW
    row = row_of("a.jpg", form, points_of(19))
    row[2] = "80.0"
    write_list(tmp_path / "face_landmarks_aflw_test.csv", form, [row])
    (sample,) = aflw.read_split(tmp_path, "test").samples
    off = sample.points + np.array([3.0, 4.0])  # every point is 5 pixels away
    found = summarise(off[None], [sample], schemes.AFLW, "box")
    assert found.whole.nme == pytest.approx(100 * 5 / 80)
    tight = np.sqrt(np.prod(np.ptp(sample.points, axis=0)))
    found = summarise(off[None], [replace(sample, box_size=None)], schemes.AFLW, "box")
    assert found.whole.nme == pytest.approx(100 * 5 / tight)
    assert fingerprint_of([sample]) != fingerprint_of([replace(sample, box_size=70.0)])


@pytest.mark.parametrize("size", ["0", "-3", "nan", "inf"])
def test_a_face_box_without_size_is_a_bad_row(tmp_path: Path, size: str) -> None:
    row = row_of("a.jpg", hrnet_csv.AFLW, points_of(19))
    row[2] = size
    write_list(tmp_path / "face_landmarks_aflw_test.csv", hrnet_csv.AFLW, [row])
    (problem,) = aflw.read_split(tmp_path, "test").problems
    assert problem.fault == f"the size of its face box is {size}, must be above 0"


def test_bad_rows_are_named_by_their_line(tmp_path: Path) -> None:
    form = hrnet_csv.AFLW
    good = row_of("good.jpg", form, points_of(19))
    broken = [*good[:10], "4,5".replace(",", "."), *good[11:-1], "nine"]
    write_list(tmp_path / "face_landmarks_aflw_train.csv", form, [good[:-2], good, broken])
    split = aflw.read_split(tmp_path, "train")
    assert [sample.name for sample in split.samples] == ["good.jpg"]
    assert split.problems == [
        Problem("face_landmarks_aflw_train.csv line 2", "41 columns, aflw-19 needs 43"),
        Problem("face_landmarks_aflw_train.csv line 4", "'nine' is not a number"),
    ]


def test_a_list_of_another_layout_is_refused_row_by_row(tmp_path: Path) -> None:
    without_box_size = row_of("a.jpg", hrnet_csv.AFLW, points_of(19))
    del without_box_size[2]
    write_list(tmp_path / "face_landmarks_aflw_train.csv", hrnet_csv.AFLW, [without_box_size])
    assert aflw.read_split(tmp_path, "train").problems == [
        Problem("face_landmarks_aflw_train.csv line 2", "42 columns, aflw-19 needs 43")
    ]


def test_aflw_frontal_tests_on_the_frontal_list_and_trains_on_the_full_one(tmp_path: Path) -> None:
    form = hrnet_csv.AFLW
    for split in ("train", "test", "test_frontal"):
        rows = [row_of(f"{split}.jpg", form, points_of(19))]
        write_list(tmp_path / f"face_landmarks_aflw_{split}.csv", form, rows)
    assert [aflw.read_split(tmp_path, s).samples[0].name for s in ("train", "test")] == [
        "train.jpg",
        "test.jpg",
    ]
    frontal = [aflw_frontal.read_split(tmp_path, s).samples[0].name for s in ("train", "test")]
    assert frontal == ["train.jpg", "test_frontal.jpg"]


def test_missing_list(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        aflw.read_split(tmp_path, "test")
    assert str(caught.value) == (
        f"{tmp_path}: no list of the split 'test', looked for face_landmarks_aflw_test.csv; "
        "is it the folder of another format?"
    )
