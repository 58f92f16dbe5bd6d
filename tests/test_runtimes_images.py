from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimalign.runtimes.images import ImageError, is_whole_jpeg, load_image

RNG = np.random.default_rng(2)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8), (5, 5), 2)


def encoded(extension: str, *options: int, picture: np.ndarray = PICTURE) -> bytes:
    ok, data = cv2.imencode(extension, picture, list(options))
    assert ok
    return data.tobytes()


BASELINE = encoded(".jpg")
PROGRESSIVE = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)


@pytest.mark.parametrize("extension", [".png", ".bmp"])
def test_colour_comes_as_rgb(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(encoded(extension))
    np.testing.assert_array_equal(load_image(str(path)), PICTURE[:, :, ::-1])


def test_grey_gets_three_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", picture=PICTURE[:, :, 0]))
    np.testing.assert_array_equal(load_image(str(path)), np.dstack([PICTURE[:, :, 0]] * 3))


@pytest.mark.parametrize(
    "jpeg", [BASELINE, PROGRESSIVE, RESTARTS], ids=["baseline", "progressive", "restarts"]
)
def test_whole_jpegs(tmp_path: Path, jpeg: bytes) -> None:
    path = tmp_path / "a.jpg"
    for data in (jpeg, jpeg + bytes(100)):  # cameras append bytes of their own
        path.write_bytes(data)
        assert load_image(str(path)).shape == (60, 80, 3)


@given(jpeg=st.sampled_from([BASELINE, PROGRESSIVE, RESTARTS]), share=st.floats(0, 1), filled=st.booleans())
def test_a_cut_jpeg_is_never_whole(jpeg: bytes, share: float, filled: bool) -> None:
    kept = 2 + int(share * (len(jpeg) - 3))  # at least its start, at most all but the last byte
    # A copy that broke off may have its full length, with zeros at the end.
    assert not is_whole_jpeg(jpeg[:kept] + (bytes(len(jpeg) - kept) if filled else b""))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    thumbnail = encoded(".jpg", picture=PICTURE[:8, :8])
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = BASELINE[:2] + segment + BASELINE[2:]
    assert is_whole_jpeg(with_thumbnail)
    assert not is_whole_jpeg(with_thumbnail[:-2])


FAULTS = {
    "missing": (None, "the image cannot be read (No such file or directory)"),
    "empty": (b"", "not an image that can be decoded (0 bytes); copy it again"),
    "text": (b"hello", "not an image that can be decoded (5 bytes); copy it again"),
    "cut jpeg": (BASELINE[:-200], "the JPEG is cut short (no end-of-image marker); copy it again"),
    "cut bmp": (encoded(".bmp")[:5000], "not an image that can be decoded (5000 bytes); copy it again"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(tmp_path: Path, case: str) -> None:
    data, fault = FAULTS[case]
    path = tmp_path / "a.img"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        load_image(str(path))
    assert caught.value.fault == fault
    assert str(caught.value) == f"{path}: {fault}"


def test_a_cut_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png")[:-100])
    with pytest.raises(ImageError, match="not an image that can be decoded"):
        load_image(str(path))
