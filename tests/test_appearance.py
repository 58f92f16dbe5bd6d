"""Changes of appearance and occlusion, of which training draws one a face."""

from __future__ import annotations

import pytest
import torch

from slimalign.compress.appearance import CHANGES, GREY_WEIGHTS, changed
from slimalign.compress.batches import seeded


def face(seed: int = 0) -> torch.Tensor:
    """A smooth picture (3, 32, 32) with pixels 0..255."""
    rng = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(1, 3, 4, 4, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_changes_the_picture_and_repeats(name: str) -> None:
    image = face()
    found, again = (CHANGES[name](image, seeded("one")) for _ in range(2))
    assert found.shape == image.shape
    assert torch.equal(found, again)
    assert (found - image).abs().mean() > 0.3


def test_grey_is_the_weighted_sum_of_the_colours() -> None:
    image = face()
    found = CHANGES["grey"](image, seeded("one"))
    red, green, blue = image
    expected = GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue
    assert all(torch.allclose(channel, expected, atol=1e-3) for channel in found)


def test_a_jpeg_is_near_its_picture() -> None:
    image = face()
    assert (CHANGES["jpeg"](image, seeded("one")) - image).abs().mean() < 12


def test_equalised_colours_reach_from_black_to_white() -> None:
    found = CHANGES["equalised"](100 + face() / 10, seeded("one"))
    assert (found.amin(dim=(1, 2)) == 0).all()
    assert (found.amax(dim=(1, 2)) == 255).all()


def test_every_change_is_drawn_and_some_faces_stay() -> None:
    images = face().expand(200, -1, -1, -1).clone()
    found = changed(images, seeded("many"))
    assert found.min() >= 0
    assert found.max() <= 255
    same = sum(torch.equal(a, b) for a, b in zip(found, images, strict=True))
    assert 200 / 9 * 0.4 < same < 200 / 9 * 1.8
