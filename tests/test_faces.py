"""The faces of a recipe: all of its splits are read and checked before anything starts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from slimalign.compress.recipe import DataRecipe, DrawnRecipe
from slimalign.faces import Faces, read_split, recipe_faces
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW

FOLDER = DataRecipe(format="folder", scheme="aflw-19")
DRAWN = DataRecipe(format="drawn", scheme="aflw-19", drawn=DrawnRecipe(train=3, val=2, test=1, size=64))
HEADER = ",".join(["image", *(f"{axis}{i}" for i in range(19) for axis in "xy")])
ROW = ",".join(str(value) for i in range(19) for value in (10 + i, 20 + 2 * i))


def write_splits(root: Path, **images: str) -> None:
    """A list of ``images`` a split; each image is there unless its name starts with gone."""
    for split, names in images.items():
        (root / f"{split}.csv").write_text("\n".join([HEADER, *(f"{name},{ROW}" for name in names.split())]))
        for name in names.split():
            if not name.startswith("gone"):
                write_image(root / name, np.zeros((80, 60, 3), np.uint8))


def read(recipe: DataRecipe, data: Path | None, skip_bad: bool = False) -> tuple[Faces, str]:
    """The faces, and what was remarked about them."""
    shown = io.StringIO()
    with Progress(console=Console(file=shown, soft_wrap=True), disable=True) as progress:
        faces = recipe_faces(recipe, data, skip_bad, progress)
    return faces, shown.getvalue()


def names(faces: Faces) -> list[list[str]]:
    return [[sample.name for sample in split] for split in (faces.train, faces.val, faces.test)]


def test_the_bad_faces_of_all_splits_are_told_in_one_go(tmp_path: Path) -> None:
    write_splits(tmp_path, train="a.png gone1.png", val="b.png", test="gone2.png c.png gone3.png")
    fault = "the image cannot be read (No such file or directory)"
    with pytest.raises(UserError) as caught:
        read(FOLDER, tmp_path)
    assert str(caught.value).splitlines() == [
        "3 bad faces: mend them, or go on without bad faces with --skip-bad",
        "train: 1 bad face",
        f"  gone1.png: {fault}",
        "test: 2 bad faces",
        f"  gone2.png: {fault}",
        f"  gone3.png: {fault}",
    ]
    faces, remarks = read(FOLDER, tmp_path, skip_bad=True)
    assert names(faces) == [["a.png"], ["b.png"], ["c.png"]]
    assert remarks.splitlines() == [
        "going on without bad faces, and with what is incomplete as it is (--skip-bad)",
        "train: 1 bad face",
        f"  gone1.png: {fault}",
        "test: 2 bad faces",
        f"  gone2.png: {fault}",
        f"  gone3.png: {fault}",
    ]


def test_a_missing_list_is_told_before_any_image_is_looked_at(tmp_path: Path) -> None:
    write_splits(tmp_path, train="gone.png", val="a.png")
    with pytest.raises(UserError, match=r"no list of the split 'test', looked for test\.csv"):
        read(FOLDER, tmp_path)


def test_one_split_may_stand_for_two(tmp_path: Path) -> None:
    write_splits(tmp_path, train="a.png", test="b.png gone.png")
    faces, remarks = read(FOLDER.model_copy(update={"val": "test"}), tmp_path, skip_bad=True)
    assert names(faces) == [["a.png"], ["b.png"], ["b.png"]]
    assert remarks.count("gone.png") == 1
    assert not faces.has_validation


@pytest.mark.parametrize(
    ("splits", "shared"),
    [
        (
            {"train": "a.png b.png", "val": "c.png b.png", "test": "d.png"},
            "train and val share 1 faces, the first is b.png",
        ),
        (
            {"train": "a.png b.png", "val": "c.png", "test": "b.png a.png"},
            "train and test share 2 faces, the first is b.png",
        ),
        (
            {"train": "a.png", "val": "b.png c.png", "test": "c.png"},
            "val and test share 1 faces, the first is c.png",
        ),
    ],
)
def test_a_face_in_two_splits_is_refused(tmp_path: Path, splits: dict[str, str], shared: str) -> None:
    write_splits(tmp_path, **splits)
    with pytest.raises(UserError, match=f"the splits {shared}; take them out of one of the two"):
        read(FOLDER, tmp_path)


def test_drawn_faces_need_no_data(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError) as caught:
            read(DRAWN, data)
        assert str(caught.value) == (
            f"--data {data}: data.format = drawn needs no --data, its faces are drawn; leave it out"
        )
    faces, _ = read(DRAWN, None)
    assert [len(split) for split in names(faces)] == [3, 2, 1]


def test_faces_of_another_scheme_are_refused(tmp_path: Path) -> None:
    write_splits(tmp_path, val="a.png")
    with Progress(disable=True) as progress:
        assert [face.name for face in read_split("folder", AFLW, tmp_path, "val", False, progress)] == [
            "a.png"
        ]
    with pytest.raises(UserError, match="folder faces have scheme aflw-19, 300w-68 is asked for"):
        read(DataRecipe(format="folder", train="val", test="val"), tmp_path)
