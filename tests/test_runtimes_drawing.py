"""Landmarks on images and contact sheets."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimalign.runtimes.drawing import contact_sheet, draw_box, draw_landmarks, enlarged, write_image
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import AFLW


def test_a_point_is_drawn_where_it_is() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    drawn = draw_landmarks(image, np.array([[20.25, 40.75]]), colour=(0, 255, 0))
    weights = drawn[..., 1].astype(float)
    rows, columns = np.mgrid[:64, :64]
    centre = ((weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum())
    assert centre == pytest.approx((20.25, 40.75), abs=0.25)
    assert drawn[..., [0, 2]].max() == 0
    assert image.max() == 0, "the caller's image was changed"


def test_a_scheme_adds_lines() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    points = np.full((19, 2), 5.0)
    points[15:18] = [[10.0, 30.0], [30.0, 30.0], [50.0, 30.0]]
    assert draw_landmarks(image, points)[30, 20].max() == 0
    assert draw_landmarks(image, points, AFLW)[30, 20].max() > 0


def test_points_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        draw_landmarks(np.zeros((8, 8, 3), dtype=np.uint8), np.array([[np.nan, 1.0]]))


def test_points_keep_their_place_in_an_enlarged_image() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[8, 12] = 255  # a pixel whose centre is the point
    larger, points = enlarged(image, np.array([[12.0, 8.0]]), least=70)
    assert larger.shape == (80, 120, 3)
    weights = larger[..., 0].astype(float)
    rows, columns = np.mgrid[:80, :120]
    centre = ((weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum())
    assert points[0] == pytest.approx(centre, abs=0.05)
    same, unmoved = enlarged(image, np.array([[12.0, 8.0]]), least=20)
    np.testing.assert_array_equal(same, image)
    assert unmoved.tolist() == [[12.0, 8.0]]


def test_a_box_is_a_frame() -> None:
    drawn = draw_box(np.zeros((20, 20, 3), dtype=np.uint8), np.array([4.0, 6.0, 15.0, 16.0]), (255, 0, 0))
    assert min(drawn[6, 10, 0], drawn[10, 4, 0]) > 200
    assert drawn[10, 10].max() == 0


def test_a_sheet_holds_its_images_row_by_row() -> None:
    tiles = [np.full((2, 3, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(tiles, columns=2, gap=1)
    expected = np.array(
        [
            [10, 10, 10, 255, 20, 20, 20],
            [10, 10, 10, 255, 20, 20, 20],
            [255, 255, 255, 255, 255, 255, 255],
            [30, 30, 30, 255, 255, 255, 255],
            [30, 30, 30, 255, 255, 255, 255],
        ]
    )
    np.testing.assert_array_equal(sheet[..., 1], expected)
    with pytest.raises(UserError, match="several sizes"):
        contact_sheet([tiles[0], np.zeros((9, 9, 3), dtype=np.uint8)], columns=2)


def test_a_picture_is_written_in_its_colours(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[1, 2] = (200, 100, 50)
    write_image(tmp_path / "a.png", image)
    written = cv2.imread(str(tmp_path / "a.png"))
    assert written is not None
    np.testing.assert_array_equal(written[1, 2], [50, 100, 200])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(UserError, match="names no image format"):
        write_image(tmp_path / "a.xyz", image)


def test_a_picture_goes_into_a_new_folder_or_is_refused_in_one_line(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    with pytest.raises(UserError, match=r"a\.png.b\.png: cannot be written \(") as caught:
        write_image(tmp_path / "new" / "a.png" / "b.png", image)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
