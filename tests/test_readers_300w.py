import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimalign.compress.data.checks import Problem
from slimalign.compress.data.readers import w300
from slimalign.compress.data.readers.annotations import AnnotationError
from slimalign.runtimes.errors import UserError

# Pixels from 1, as in the original files; from 0 point i is at (i + 10, 2 i + 20).
PAIRS = [(i + 11.0, 2.0 * i + 21.0) for i in range(68)]
EXPECTED = np.array([(i + 10.0, 2.0 * i + 20.0) for i in range(68)])


def pts_text(pairs: list[tuple[float, float]] = PAIRS, header: bool = True) -> str:
    lines = "\n".join(f"{x:.3f} {y:.3f}" for x, y in pairs)
    return f"version: 1\nn_points:  {len(pairs)}\n{{\n{lines}\n}}\n" if header else lines


def write_face(root: Path, name: str, pts: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    blue_to_the_left = np.zeros((200, 120, 3), np.uint8)
    blue_to_the_left[:, :60, 0] = 255  # OpenCV writes BGR
    assert cv2.imwrite(str(path), blue_to_the_left)
    path.with_suffix(".pts").write_text(pts)


def write_list(root: Path, split: str, *names: str) -> None:
    (root / f"{split}.txt").write_text("\n".join(names) + "\n\n")


@pytest.mark.parametrize("header", [True, False])
def test_pts_with_and_without_header(tmp_path: Path, header: bool) -> None:
    write_face(tmp_path, "afw/a_1.png", pts_text(header=header))
    write_list(tmp_path, "train", "afw/a_1.png")
    split = w300.read_split(tmp_path, "train")
    (sample,) = split.samples
    assert split.problems == []
    assert split.scheme is w300.SCHEME
    np.testing.assert_array_equal(sample.points, EXPECTED)
    np.testing.assert_array_equal(sample.box, [10, 20, 77, 154])
    assert sample.name == "afw/a_1.png"
    assert not sample.occluded.any()
    assert sample.occluded.shape == (68,)


def test_image_is_rgb_and_the_sample_pickles(tmp_path: Path) -> None:
    write_face(tmp_path, "afw/a_1.png", pts_text())
    write_list(tmp_path, "train", "afw/a_1.png")
    sample = pickle.loads(pickle.dumps(w300.read_split(tmp_path, "train").samples[0]))
    image = sample.load()
    assert image.dtype == np.uint8
    assert image.shape == (200, 120, 3)
    assert image[0, 0].tolist() == [0, 0, 255]
    assert image[0, 119].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "subsets"),
    [
        ("lfpw/testset/image_0001.png", ("common", "lfpw")),
        ("helen/testset/30427236_1.jpg", ("common", "helen")),
        ("ibug/image_003_1.jpg", ("challenge", "ibug")),
        ("lfpw/trainset/image_0001.png", ("lfpw",)),
        ("images/helen/trainset/1_1.jpg", ("helen",)),
        ("afw/1051618982_1.jpg", ("afw",)),
        ("300W/01_Indoor/indoor_001.png", ()),
        ("afw.jpg", ()),
    ],
)
def test_subsets_come_from_the_folders(name: str, subsets: tuple[str, ...]) -> None:
    assert w300.subsets_of(name) == subsets


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "its .pts file holds 0 numbers, pairs are needed"),
        ("1 2\n3\n", "its .pts file holds 3 numbers, pairs are needed"),
        ("1 2\n3 four\n", "'four' is not a number"),
        ("version: 1\nn_points: 68\n{\n1 2\n3 4\n}", "its .pts file says n_points: 68 but holds 2 points"),
        ("version: 1\nn_points: nan\n{\n1 2\n}", "its .pts file says n_points: nan but holds 1 points"),
        ("version: 1\nn_points: 2\n{\n1 2\n3 4\n", "its .pts file is cut short (a brace is open)"),
    ],
)
def test_faults_of_a_pts_file(text: str, fault: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        w300.parse_pts(text)
    assert str(caught.value) == fault


def test_a_bad_face_does_not_stop_the_good_ones(tmp_path: Path) -> None:
    write_face(tmp_path, "afw/good.png", pts_text())
    write_face(tmp_path, "afw/bad.png", "1 2 3")
    write_face(tmp_path, "afw/binary.png", "")
    (tmp_path / "afw/binary.pts").write_bytes(b"\xff\xfe\x00\x81")
    write_face(tmp_path, "afw/alone.png", "")
    (tmp_path / "afw/alone.pts").unlink()
    write_list(tmp_path, "train", "afw/bad.png", "afw/binary.png", "afw/alone.png", "afw/good.png")
    split = w300.read_split(tmp_path, "train")
    assert [sample.name for sample in split.samples] == ["afw/good.png"]
    assert split.problems == [
        Problem("afw/bad.png", "its .pts file holds 3 numbers, pairs are needed"),
        Problem("afw/binary.png", "binary.pts is not a text file"),
        Problem("afw/alone.png", "alone.pts cannot be read (No such file or directory)"),
    ]


def test_csv_list_where_there_is_no_text_list(tmp_path: Path) -> None:
    row = ["ibug/image_003_1.jpg", "1.34", "44.5", "88", *(f"{v:.3f}" for pair in PAIRS for v in pair)]
    header = "image_name,scale,center_w,center_h," + ",".join(
        f"original_{i}_{a}" for i in range(68) for a in "xy"
    )
    (tmp_path / "face_landmarks_300w_valid.csv").write_text(f"{header}\n{','.join(row)}\n")
    (sample,) = w300.read_split(tmp_path, "valid").samples
    np.testing.assert_array_equal(sample.points, EXPECTED)
    assert sample.subsets == ("challenge", "ibug")


def test_a_missing_list_names_what_was_looked_for_and_what_there_is(tmp_path: Path) -> None:
    write_list(tmp_path, "train", "a.png")
    (tmp_path / "face_landmarks_300w_valid.csv").write_text("")
    with pytest.raises(UserError) as caught:
        w300.read_split(tmp_path, "tset")
    assert str(caught.value) == (
        f"{tmp_path}: no list of the split 'tset', looked for tset.txt and face_landmarks_300w_tset.csv; "
        "the splits there are train, valid"
    )


DOWNLOAD = {
    "train": ("afw/a_1.jpg", "afw/a_2.JPG", "helen/trainset/h_1.jpg", "lfpw/trainset/l_1.png"),
    "common": ("helen/testset/h_2.jpeg", "lfpw/testset/l_2.png"),
    "challenging": ("ibug/i 1.jpg",),
}
FULL = (*DOWNLOAD["common"], *DOWNLOAD["challenging"])


def write_download(root: Path) -> None:
    for name in (name for names in DOWNLOAD.values() for name in names):
        write_face(root, name, pts_text())


def names_of(root: Path, split: str) -> list[str]:
    return [sample.name for sample in w300.read_split(root, split).samples]


@pytest.mark.parametrize("below", ["", "300W/"])
def test_the_download_gives_the_standard_splits(tmp_path: Path, below: str) -> None:
    write_download(tmp_path / below)
    for split, names in {**DOWNLOAD, "full": FULL, "test": FULL}.items():
        assert names_of(tmp_path, split) == [below + name for name in names]
    test = w300.read_split(tmp_path, "test")
    assert [problem.name for problem in test.incomplete] == ["helen/testset", "lfpw/testset", "ibug"]
    assert test.scheme is w300.SCHEME
    np.testing.assert_array_equal(test.samples[0].points, EXPECTED)
    assert test.samples[0].load().shape == (200, 120, 3)
    assert [sample.subsets for sample in test.samples] == [
        ("common", "helen"),
        ("common", "lfpw"),
        ("challenge", "ibug"),
    ]


def test_a_folder_that_is_not_whole_is_a_problem(tmp_path: Path) -> None:
    """afw has 337 faces; one of its own set aside for validation is still there."""
    for number in range(336):
        write_face(tmp_path, f"afw/{number}.png", pts_text())
    write_download(tmp_path)  # two more
    fault = "338 faces, the benchmark has 337; if these are wanted name them in train.txt"
    assert str(w300.read_split(tmp_path, "train").incomplete[0]) == f"afw: {fault}"
    (tmp_path / "afw/a_1.pts").unlink()
    write_list(tmp_path, "val", "afw/1.png")
    faults = {problem.name: problem.fault for problem in w300.read_split(tmp_path, "train").incomplete}
    assert faults.keys() == {"helen/trainset", "lfpw/trainset"}
    assert sum(w300.OFFICIAL_FACES[folder] for folder in w300.STANDARD_SPLITS["train"]) == 3148
    assert sum(w300.OFFICIAL_FACES[folder] for folder in w300.STANDARD_SPLITS["test"]) == 689


def test_each_archive_may_have_a_folder_of_its_own(tmp_path: Path) -> None:
    for name in DOWNLOAD["train"]:
        write_face(tmp_path, f"{name.split('/')[0]}/{name}", pts_text())
    assert names_of(tmp_path, "train") == [f"{name.split('/')[0]}/{name}" for name in DOWNLOAD["train"]]


def test_only_images_with_points_that_are_not_mirrored_copies_are_faces(tmp_path: Path) -> None:
    write_face(tmp_path, "ibug/kept.png", pts_text())
    write_face(tmp_path, "ibug/kept_mirror.png", pts_text())
    write_face(tmp_path, "ibug/alone.png", pts_text())
    (tmp_path / "ibug/alone.pts").unlink()
    (tmp_path / "ibug/kept.txt").write_text("notes")
    assert names_of(tmp_path, "challenging") == ["ibug/kept.png"]


def test_lists_go_before_the_folders(tmp_path: Path) -> None:
    write_download(tmp_path)
    write_list(tmp_path, "test", "afw/a_1.jpg")
    (tmp_path / "face_landmarks_300w_common.csv").write_text("")
    assert names_of(tmp_path, "test") == ["afw/a_1.jpg"]
    assert names_of(tmp_path, "common") == []
    assert names_of(tmp_path, "full") == list(FULL)


def test_faces_set_aside_for_validation_are_not_trained_on(tmp_path: Path) -> None:
    write_download(tmp_path)
    write_list(tmp_path, "valid", "afw/a_2.JPG", "ibug/i 1.jpg")
    assert names_of(tmp_path, "valid") == ["afw/a_2.JPG", "ibug/i 1.jpg"]
    assert names_of(tmp_path, "train") == [name for name in DOWNLOAD["train"] if name != "afw/a_2.JPG"]
    assert names_of(tmp_path, "test") == list(FULL)


def test_the_download_has_no_validation_split(tmp_path: Path) -> None:
    write_download(tmp_path)
    with pytest.raises(UserError) as caught:
        w300.read_split(tmp_path, "val")
    assert str(caught.value) == (
        f"{tmp_path}: 300W has no official split 'val', its folders give train, common, challenging, "
        "full, test, valid; "
        "choose one of these, or name the images of yours in val.txt"
    )


def test_a_folder_of_the_download_that_is_missing_is_named(tmp_path: Path) -> None:
    write_face(tmp_path, "ibug/i.jpg", pts_text())
    write_face(tmp_path, "lfpw/testset/l.png", pts_text())
    assert names_of(tmp_path, "challenging") == ["ibug/i.jpg"]
    with pytest.raises(UserError) as caught:
        w300.read_split(tmp_path, "full")
    assert str(caught.value) == (
        f"{tmp_path}: the split 'full' needs helen/testset, with a .pts beside each image; "
        "copy that there, or name the images you have in full.txt"
    )
