from pathlib import Path

import cv2
import numpy as np
import pytest

from slimalign.compress.data.checks import Problem
from slimalign.compress.data.readers import folder
from slimalign.runtimes.errors import UserError


def points_of(count: int) -> np.ndarray:
    return np.array([(5.0 + i, 100.5 - i) for i in range(count)])


def columns(count: int) -> list[str]:
    return [f"{axis}{i}" for i in range(count) for axis in "xy"]


def write_csv(root: Path, *rows: list[str], split: str = "train", start: str = "") -> None:
    text = start + "\n".join(",".join(row) for row in rows) + "\n"
    (root / f"{split}.csv").write_text(text, encoding="utf-8")


def numbers(values: np.ndarray) -> list[str]:
    return [f"{value}" for value in values.ravel()]


@pytest.mark.parametrize("count", [19, 29, 68, 98])
@pytest.mark.parametrize("byte_order_mark", ["", "\ufeff"])
def test_points_and_tight_box(tmp_path: Path, count: int, byte_order_mark: str) -> None:
    face = ["a/b c.png", *numbers(points_of(count))]
    write_csv(tmp_path, ["image", *columns(count)], face, [], start=byte_order_mark)
    split = folder.read_split(tmp_path, "train")
    (sample,) = split.samples
    assert split.scheme.count == count
    np.testing.assert_array_equal(sample.points, points_of(count))
    np.testing.assert_array_equal(sample.box, [5, 101.5 - count, 4 + count, 100.5])
    assert (sample.name, sample.subsets) == ("a/b c.png", ())


def test_optional_columns_in_any_order(tmp_path: Path) -> None:
    names = ["subsets", "box_x1", "box_y1", *reversed(columns(19)), "box_x0", "box_y0", "image"]
    values = ["dark; far ;", "80", "120", *reversed(numbers(points_of(19))), "-3", "4.5", "x.png"]
    write_csv(tmp_path, names, values)
    (sample,) = folder.read_split(tmp_path, "train").samples
    np.testing.assert_array_equal(sample.points, points_of(19))
    np.testing.assert_array_equal(sample.box, [-3, 4.5, 80, 120])
    assert sample.subsets == ("dark", "far")


def test_images_are_found_and_turned_upright(tmp_path: Path) -> None:
    # EXIF orientation 6: the stored picture has to be turned a quarter clockwise to be upright.
    ok, jpeg = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))
    assert ok
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:])
    write_csv(tmp_path, ["image", *columns(19)], ["a.jpg", *numbers(points_of(19))])
    (sample,) = folder.read_split(tmp_path, "train").samples
    assert sample.load().shape == (60, 40, 3)


def test_bad_rows(tmp_path: Path) -> None:
    good = ["a.png", *numbers(points_of(19))]
    write_csv(tmp_path, ["image", *columns(19)], good[:-1], good, [*good[:-1], ""])
    split = folder.read_split(tmp_path, "train")
    assert len(split.samples) == 1
    assert split.problems == [
        Problem("train.csv line 2", "38 columns, the first line names 39"),
        Problem("train.csv line 4", "'' is not a number"),
    ]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ([], "empty; its first line must name the columns image,x0,y0,x1,y1,..."),
        (columns(19), "column image is missing; the first line must be image,x0,y0,x1,y1,..."),
        (["image", *columns(19)[:-1]], "column y18 is missing; the first line must be image,x0,y0,x1,y1,..."),
        (
            ["image", "box_x0", "box_y0", "box_x1", *columns(19)],
            "column box_y1 is missing; the first line must be image,x0,y0,x1,y1,...",
        ),
        (
            ["image", "pose", *columns(19)],
            "column 'pose' is unknown; image, x0, y0, ..., box_x0 ... and subsets are known",
        ),
        (["image", "image", *columns(19)], "a column is named twice in the first line"),
        (
            ["image", *columns(5)],
            "no landmark scheme has 5 points; the known ones have 68, 98, 29, 19",
        ),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: list[str], fault: str) -> None:
    write_csv(tmp_path, header)
    with pytest.raises(UserError) as caught:
        folder.read_split(tmp_path, "train")
    assert str(caught.value) == f"{tmp_path / 'train.csv'}: {fault}"


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(
        UserError, match=r"train\.csv: not a CSV file that can be read \(train\.csv is not a text file\)"
    ):
        folder.read_split(tmp_path, "train")
