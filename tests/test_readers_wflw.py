from pathlib import Path

import cv2
import numpy as np
import pytest

from slimalign.compress.data.checks import Problem
from slimalign.compress.data.readers import wflw
from slimalign.runtimes.errors import UserError

POINTS = np.array([(100.5 + i, 200.25 + 2 * i) for i in range(98)])
NAME = "37--Soccer/37_Soccer_soccer_ball_37_45.jpg"
ARCHIVE = "WFLW_annotations/list_98pt_rect_attr_train_test"


def line_of(flags: str = "0 0 0 0 0 0", name: str = NAME, points: np.ndarray = POINTS) -> str:
    coordinates = " ".join(f"{value:.6f}" for value in points.ravel())
    return f"{coordinates} 90 190 210 400 {flags} {name}"


def write_list(root: Path, *lines: str, split: str = "train", folder: str = ".") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("folder", [".", ARCHIVE, "list_98pt_rect_attr_train_test"])
def test_points_as_published_and_the_tight_box(tmp_path: Path, folder: str) -> None:
    write_list(tmp_path, line_of(), folder=folder)
    split = wflw.read_split(tmp_path, "train")
    (sample,) = split.samples
    assert split.scheme.count == 98
    np.testing.assert_array_equal(sample.points, POINTS)
    np.testing.assert_array_equal(sample.box, [100.5, 200.25, 197.5, 394.25])
    assert sample.name == NAME


@pytest.mark.parametrize(
    ("flags", "subsets"),
    [
        ("0 0 0 0 0 0", ()),
        ("1 0 0 0 0 0", ("pose",)),
        ("0 1 0 0 0 0", ("expression",)),
        ("0 0 1 0 0 0", ("illumination",)),
        ("0 0 0 1 0 0", ("make-up",)),
        ("0 0 0 0 1 0", ("occlusion",)),
        ("0 0 0 0 0 1", ("blur",)),
        ("1 1 1 1 1 1", ("pose", "expression", "illumination", "make-up", "occlusion", "blur")),
    ],
)
def test_flags_become_subsets(tmp_path: Path, flags: str, subsets: tuple[str, ...]) -> None:
    write_list(tmp_path, line_of(flags))
    assert wflw.read_split(tmp_path, "train").samples[0].subsets == subsets


def test_images_below_wflw_images(tmp_path: Path) -> None:
    image = tmp_path / "WFLW_images" / NAME
    image.parent.mkdir(parents=True)
    assert cv2.imwrite(str(image), np.zeros((6, 8, 3), np.uint8))
    write_list(tmp_path, line_of(), line_of(points=POINTS + 3), folder=ARCHIVE)
    split = wflw.read_split(tmp_path, "train")
    assert [sample.load().shape for sample in split.samples] == [(6, 8, 3), (6, 8, 3)]


def test_bad_lines(tmp_path: Path) -> None:
    short = " ".join(line_of().split()[2:])
    write_list(tmp_path, short, line_of("0 0 2 0 0 0"), line_of(), line_of().replace("100.5", "1O0.5", 1))
    split = wflw.read_split(tmp_path, "train")
    file = "list_98pt_rect_attr_train.txt"
    assert len(split.samples) == 1
    assert split.problems == [
        Problem(f"{file} line 1", "205 fields, 207 are needed (196 coordinates, box, flags, name)"),
        Problem(f"{file} line 2", "its flags are 0 0 2 0 0 0, each must be 0 or 1"),
        Problem(f"{file} line 4", "'1O0.500000' is not a number"),
    ]


def test_csv_list_where_there_is_no_other(tmp_path: Path) -> None:
    row = [NAME, "1.0", "150", "300", *(f"{value:.4f}" for value in POINTS.ravel())]
    (tmp_path / "face_landmarks_wflw_test_blur.csv").write_text("image_name,scale\n" + ",".join(row) + "\n")
    (sample,) = wflw.read_split(tmp_path, "test_blur").samples
    np.testing.assert_array_equal(sample.points, POINTS)


def test_missing_list(tmp_path: Path) -> None:
    write_list(tmp_path, line_of(), folder=ARCHIVE)
    with pytest.raises(
        UserError, match=r"no list of the split 'val', looked for list_98pt_rect_attr_val\.txt and "
    ):
        wflw.read_split(tmp_path, "val")
    with pytest.raises(UserError, match=r"the splits there are train$"):
        wflw.read_split(tmp_path, "val")
