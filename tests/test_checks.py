import dataclasses
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimalign.compress.data.checks import (
    Problem,
    Split,
    UsableSplit,
    check_samples,
    refuse_bad,
    usable_samples,
)
from slimalign.compress.data.sample import Image, Sample
from slimalign.compress.data.splits import FORMATS, load_split
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import load_image
from slimalign.runtimes.schemes import AFLW, SCHEMES

WIDTH, HEIGHT = 100, 80
POINTS = np.array([(20.0 + 2 * i, 30.0 + i) for i in range(19)])  # 20 ... 56, 30 ... 48


def blank() -> Image:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def face(name: str = "a.png", points: np.ndarray = POINTS, **changes: object) -> Sample:
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    sample = Sample(name, blank, box, points, np.zeros(len(points), np.bool_))
    return dataclasses.replace(sample, **changes)  # type: ignore[arg-type]


def with_box(x0: float, y0: float, x1: float, y1: float) -> Sample:
    return face(box=np.array([x0, y0, x1, y1]))


def spoilt(index: int, value: float) -> np.ndarray:
    points = POINTS.copy()
    points[index, 1] = value
    return points


# The image reaches from -0.5 to 99.5 and from -0.5 to 79.5.
FAULTS = {
    "count": (face(points=POINTS[:18]), "18 points, aflw-19 has 19"),
    "flat points": (face(points=POINTS.ravel()[:, None]), "38 points, aflw-19 has 19"),
    "NaN": (face(points=spoilt(3, np.nan)), "point 3 is not finite (NaN or infinite), of 1 such"),
    "infinite": (face(points=spoilt(7, -np.inf)), "point 7 is not finite (NaN or infinite), of 1 such"),
    "NaN box": (with_box(0, np.nan, 5, 5), "its box is not finite (NaN or infinite)"),
    "no width": (with_box(5, 10, 5, 60), "its box 5,10,5,60 has no width or no height"),
    "upside down": (with_box(5, 60, 50, 10), "its box 5,60,50,10 has no width or no height"),
    "one point": (face(points=np.ones((19, 2))), "its box 1,1,1,1 has no width or no height"),
    "wholly outside": (
        with_box(120, 10, 160, 50),
        "its box 120,10,160,50 is 100 % outside the image of 100x80 pixels",
    ),
    "mostly outside": (
        with_box(79.5, 10, 129.5, 60),
        "its box 79.5,10,129.5,60 is 60 % outside the image of 100x80 pixels",
    ),
    "out at a corner": (
        with_box(-20.5, -20.5, 19.5, 19.5),
        "its box -20.5,-20.5,19.5,19.5 is 75 % outside the image of 100x80 pixels",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_has_its_text(case: str) -> None:
    sample, fault = FAULTS[case]
    assert check_samples([sample], AFLW) == {0: Problem("a.png", fault)}


def test_a_face_cut_by_the_border_passes() -> None:
    at_the_limit = with_box(-30.5, 10, 29.5, 50)  # half of its width is outside
    assert check_samples([at_the_limit], AFLW) == {}
    assert len(check_samples([with_box(-30.6, 10, 29.4, 50)], AFLW)) == 1


@given(
    x0=st.floats(-50, 99),
    y0=st.floats(-50, 79),
    width=st.floats(1, 200),
    height=st.floats(1, 200),
)
def test_the_rule_is_the_same_for_mirrored_faces(x0: float, y0: float, width: float, height: float) -> None:
    box = np.array([x0, y0, x0 + width, y0 + height])
    mirrored = np.array([WIDTH - 1 - box[2], box[1], WIDTH - 1 - box[0], box[3]])
    inside = (
        (min(box[2], 99.5) - max(box[0], -0.5)) * (min(box[3], 79.5) - max(box[1], -0.5)) / (width * height)
    )
    # At the very limit rounding decides.
    if abs(inside - 0.5) > 1e-9:
        assert len(check_samples([face(box=box)], AFLW)) == len(check_samples([face(box=mirrored)], AFLW))


def test_image_faults_come_from_the_files(tmp_path: Path) -> None:
    ok, jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert ok
    (tmp_path / "cut.jpg").write_bytes(jpeg.tobytes()[:-3])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "good.jpg").write_bytes(jpeg.tobytes())
    names = ("cut.jpg", "text.jpg", "good.jpg", "none.jpg")
    samples = [face(name, load=partial(load_image, str(tmp_path / name))) for name in names]
    assert check_samples(samples, AFLW) == {
        0: Problem("cut.jpg", "the JPEG is cut short (no end-of-image marker); copy it again"),
        1: Problem("text.jpg", "not an image that can be decoded (5 bytes); copy it again"),
        3: Problem("none.jpg", "the image cannot be read (No such file or directory)"),
    }


def test_repeated_faces_and_several_faces_in_one_image() -> None:
    two_in_one = [face(points=POINTS), face(points=POINTS + 5)]
    assert check_samples(two_in_one, AFLW) == {}
    assert check_samples([*two_in_one, face(points=POINTS)], AFLW) == {2: Problem("a.png", "listed twice")}


def test_progress_counts_every_face() -> None:
    steps: list[tuple[int, int]] = []
    samples = [face("a"), face("b", points=POINTS[:3]), face("c")]
    check_samples(samples, AFLW, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_usable_samples_of_a_good_split() -> None:
    samples = [face("a"), face("b")]
    assert usable_samples(Split(AFLW, samples, [])) == UsableSplit(samples, [])


def test_bad_faces_are_not_usable() -> None:
    # The second face of the same image is bad: only that one goes.
    samples = [face("a"), face("a", points=POINTS[:3]), face("b")]
    reader_problem = Problem("c", "'x' is not a number")
    usable = usable_samples(Split(AFLW, samples, [reader_problem]))
    assert usable.samples == [samples[0], samples[2]]
    assert usable.problems == [reader_problem, Problem("a", "3 points, aflw-19 has 19")]


def refusal(splits: dict[str, UsableSplit], skip_bad: bool = False) -> list[str]:
    with pytest.raises(UserError) as caught:
        refuse_bad(splits, skip_bad)
    return str(caught.value).splitlines()


def gone(*names: str) -> list[Problem]:
    return [Problem(name, "gone") for name in names]


def test_the_bad_faces_of_all_splits_are_listed_at_once() -> None:
    splits = {
        "train": UsableSplit([face()], gone("a", "b")),
        "val": UsableSplit([face()], []),
        "test": UsableSplit([face()], gone("c")),
    }
    assert refusal(splits) == [
        "3 bad faces: mend them, or go on without bad faces with --skip-bad",
        "train: 2 bad faces",
        "  a: gone",
        "  b: gone",
        "test: 1 bad face",
        "  c: gone",
    ]
    refuse_bad(splits, skip_bad=True)
    refuse_bad({"val": splits["val"]}, skip_bad=False)


def test_what_is_incomplete_is_told_apart_from_bad_faces() -> None:
    splits = {"full": UsableSplit([face()], gone("a"), tuple(gone("ibug")))}
    assert refusal(splits) == [
        "1 bad face, 1 incomplete: mend them, or go on without bad faces and with what is there of incomplete "
        "splits with --skip-bad",
        "full: 1 bad face",
        "  a: gone",
        "full: incomplete",
        "  ibug: gone",
    ]
    only = {"full": UsableSplit([face()], [], tuple(gone("ibug")))}
    assert refusal(only)[0].startswith("1 incomplete: ")
    refuse_bad(only, skip_bad=True)


def test_a_face_whose_errors_would_be_divided_by_zero_is_named() -> None:
    closed = POINTS.copy()
    left, right = AFLW.eye_corners
    closed[right] = closed[left]
    found = check_samples([face(points=closed)], AFLW, "inter-ocular")
    assert found == {0: Problem("a.png", "its inter-ocular distance is 0; choose another normaliser")}
    assert check_samples([face(points=closed)], AFLW, "diagonal") == {}
    assert check_samples([face(points=closed)], AFLW) == {}


def test_a_long_list_is_cut_after_a_hundred_of_each_split() -> None:
    names = [f"{number}.png" for number in range(103)]
    long = UsableSplit([face()], gone(*names))
    listed = [*(f"  {name}: gone" for name in names[:100]), "  and 3 more"]
    head, *lines = refusal({"train": long, "val": long})
    assert head.startswith("206 bad faces: ")
    assert lines == ["train: 103 bad faces", *listed, "val: 103 bad faces", *listed]


@pytest.mark.parametrize("skip_bad", [True, False])
def test_a_split_without_a_usable_face_is_an_error_either_way(skip_bad: bool) -> None:
    splits = {"train": UsableSplit([face()], []), "val": UsableSplit([], gone("a"))}
    assert refusal(splits, skip_bad) == [
        "1 bad face: no usable face is left in val; mend these",
        "val: 1 bad face",
        "  a: gone",
    ]


def test_formats() -> None:
    assert set(FORMATS) == {"300w", "wflw", "cofw", "cofw68", "aflw", "aflw-frontal", "folder"}


def test_load_split_reads_by_format_and_path_text(tmp_path: Path) -> None:
    columns = [f"{axis}{i}" for i in range(19) for axis in "xy"]
    rows = [["image", *columns], ["a.png", *(str(v) for v in POINTS.ravel())]]
    (tmp_path / "val.csv").write_text("\n".join(",".join(row) for row in rows))
    split = load_split("folder", str(tmp_path), "val")
    assert split.scheme is SCHEMES["aflw-19"]
    assert len(split.samples) == 1


def test_load_split_mistakes(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n \n")
    (tmp_path / "list_98pt_rect_attr_train.txt").write_text("")
    mistakes = {
        (
            "300W",
            tmp_path,
            "train",
        ): "data format '300W' is unknown; choose one of 300w, wflw, cofw, cofw68, ",
        (
            "300w",
            tmp_path / "no",
            "train",
        ): f"{tmp_path / 'no'}: no such folder; give the folder of the data set",
        ("300w", tmp_path, "test"): f"{tmp_path}: no list of the split 'test', looked for test.txt and ",
        ("300w", tmp_path, "train"): f"{tmp_path}: the split 'train' is empty, its list names no face; ",
        ("wflw", tmp_path, "train"): f"{tmp_path}: the split 'train' is empty, its list names no face; ",
    }
    for (form, root, split), text in mistakes.items():
        with pytest.raises(UserError) as caught:
            load_split(form, root, split)
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)
