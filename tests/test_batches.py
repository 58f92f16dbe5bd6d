"""Augmented batches: geometry against the image itself, seeds, masks."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from slimalign.compress.batches import MEAN, STD, TrainingFaces, masked, normalised, seeded
from slimalign.compress.data.cache import cached_faces, wide_crop_rule
from slimalign.compress.data.sample import Sample
from slimalign.compress.recipe import AugmentRecipe, MaskRecipe
from slimalign.runtimes.crop import CropRule, tight_box, transform_points
from slimalign.runtimes.schemes import AFLW

SIZE = 64
CPU = torch.device("cpu")


def dotted_sample(seed: int, coloured: int) -> Sample:
    """19 points on grey; the point ``coloured`` is a bright blob, so that it can be found again."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(80, 220, (19, 2))
    grid = np.arange(300)
    blob = np.exp(
        -((grid[None] - points[coloured, 0]) ** 2 + (grid[:, None] - points[coloured, 1]) ** 2) / 60
    )
    image = (40 + 200 * blob[..., None] * np.ones(3)).astype(np.uint8)
    return Sample(f"dots-{seed}-{coloured}", lambda: image, tight_box(points), points, np.zeros(19, bool))


def faces(samples, folder, **augment):
    cache = cached_faces(samples, SIZE, folder)
    return TrainingFaces(cache, AFLW, SIZE, 1.25, AugmentRecipe(colour=0, **augment), CPU)


def pixels(images):
    """Normalised images back to 0..255, (N, H, W, 3)."""
    return (images.permute(0, 2, 3, 1).numpy() * np.array(STD) + np.array(MEAN)) * 255


def blob_centre(image):
    weights = np.clip(image[..., 0] - 60, 0, None)
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def test_points_move_with_the_picture(tmp_path):
    """Under scale, rotation, shift and flip, each landmark stays on its blob; mirrored ones change names."""
    samples = [dotted_sample(seed, coloured=seed % 19) for seed in range(40)]
    turned = faces(samples, tmp_path, shift=0.05, rotation_probability=1.0)
    rng = seeded(0)
    order = torch.randperm(40, generator=seeded(0)).tolist()
    batch = next(turned.batches(40, rng))
    renamed = 0
    for row, index in enumerate(order):
        picture = pixels(batch.images)[row]
        if picture.max() < 150:
            continue  # the blob was moved out of the crop
        centre = blob_centre(picture)
        own, mirrored = index % 19, int(AFLW.flip_indices[index % 19])
        distances = {name: np.abs(batch.points[row, name].numpy() - centre).max() for name in (own, mirrored)}
        inside = centre.min() > 6 and centre.max() < SIZE - 6
        if inside:
            assert min(distances.values()) < 0.6
            renamed += distances[mirrored] < distances[own]
    assert 5 < renamed < 35


def textured_sample(seed: int) -> Sample:
    """19 points on smooth noise, whose pixels differ from their neighbours' by a dozen grey levels."""
    plain = dotted_sample(seed, 0)
    noise = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 4).astype(float)
    image = (255 * (blurred - blurred.min()) / np.ptp(blurred)).astype(np.uint8)
    return Sample(f"texture-{seed}", lambda: image, plain.box, plain.points, plain.occluded)


def test_without_augmentation_the_crop_is_the_devices(tmp_path):
    """99 of 100 pixels are within 5 grey levels."""
    sample = textured_sample(3)
    still = faces([sample], tmp_path, scale=0, rotation=0, flip=0, shift=0)
    batch = next(still.batches(1, seeded(1)))
    rule = CropRule(SIZE, 1.25)
    expected = transform_points(sample.points, rule.matrix(sample.box))
    np.testing.assert_allclose(batch.points[0].numpy(), expected, atol=1e-3)
    crop = rule.crop(sample.load(), sample.box).astype(float)
    found = pixels(batch.images)[0]
    assert worst_but_one_percent(found - crop) < 5
    # The texture is fine enough to tell: one pixel to the side, and the difference is far greater.
    assert worst_but_one_percent(found[:, 1:] - crop[:, :-1]) > 20
    assert worst_but_one_percent(found[1:] - crop[:-1]) > 20


def worst_but_one_percent(difference):
    return np.percentile(np.abs(difference), 99)


def test_batches_depend_on_the_seed_alone(tmp_path):
    samples = [dotted_sample(seed, 0) for seed in range(8)]
    made = faces(samples, tmp_path)
    first, again = (list(made.batches(3, seeded("run", 7))) for _ in range(2))
    assert len(first) == 2  # the last incomplete batch is left out
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.points, b.points)
    other = next(made.batches(3, seeded("run", 8)))
    assert not torch.equal(first[0].images, other.images)


def test_two_processes_share_each_batch(tmp_path):
    samples = [dotted_sample(seed, 0) for seed in range(8)]
    made = faces(samples, tmp_path)
    whole = next(made.batches(4, seeded(2)))
    halves = [next(made.batches(2, seeded(2), rank, world=2)) for rank in range(2)]
    torch.testing.assert_close(torch.cat([half.points for half in halves]), whole.points)


def test_the_cache_is_read_again_and_never_mixed_up(tmp_path):
    loads = []
    plain = dotted_sample(0, 0)
    counting = Sample("a", lambda: loads.append(1) or plain.load(), plain.box, plain.points, plain.occluded)
    cached_faces([counting], SIZE, tmp_path)
    cached_faces([counting], SIZE, tmp_path)
    assert len(loads) == 1
    cached_faces([counting], 2 * SIZE, tmp_path)
    assert len(loads) == 2
    (kept,) = tmp_path.iterdir()  # nobody needs the smaller crops any more
    assert np.load(kept, mmap_mode="r").shape[1] == wide_crop_rule(2 * SIZE).size


def test_the_cache_holds_the_wide_crops(tmp_path):
    samples = [dotted_sample(seed, 0) for seed in range(3)]
    rule = wide_crop_rule(SIZE)
    cache = cached_faces(samples, SIZE, tmp_path)
    assert (len(cache), cache.size) == (3, rule.size)
    for image, points, sample in zip(cache.images, cache.points, samples, strict=True):
        np.testing.assert_array_equal(image, rule.crop(sample.load(), sample.box))
        np.testing.assert_allclose(
            points, transform_points(sample.points, rule.matrix(sample.box)), atol=1e-3
        )


CACHING = """
import resource, sys
import numpy as np
from pathlib import Path
from slimalign.compress.data.cache import cached_faces
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError

if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def load():
    print("decoding", flush=True)
    if "killed" in sys.argv:
        sys.stdin.read()
    return np.zeros((50, 50, 3), dtype=np.uint8)
points = np.array([[10.0, 10.0], [40.0, 40.0]])
face = Sample("a", load, np.array([10.0, 10.0, 40.0, 40.0]), points, np.zeros(2, dtype=bool))
try:
    cached_faces([face, face], 64, Path(sys.argv[1]))
except UserError as error:
    print(error)
"""


def caching(folder, *how):
    command = [sys.executable, "-c", CACHING, str(folder), *how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_full_disk_is_told_before_anything_is_decoded(tmp_path):
    """Two crops of 141 x 141 x 3 bytes are 119286; a quota of 100000 on file size stands for the full disk."""
    with caching(tmp_path / "new" / "cache", "full") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "decoding" not in output
    assert "cannot be written (File too large); free some space" in output
    assert len(output.splitlines()) == 1
    assert not list((tmp_path / "new" / "cache").iterdir())


def test_what_a_kill_leaves_of_the_cache_is_overwritten(tmp_path):
    for _ in range(2):
        with caching(tmp_path, "killed") as process:
            assert process.stdout.readline() == "decoding\n"
            process.kill()
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(".part.npy")
    with caching(tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "decoding\ndecoding\n"
    (made,) = tmp_path.iterdir()
    assert made.name == left.name.replace(".part", "")
    assert np.load(made).shape == (2, 141, 141, 3)


def test_a_wide_crop_has_room_for_scale_and_rotation():
    """The corners of a crop of 1.25 x 1.25 of the box lie within the wide crop up to 30 degrees, not at 45."""
    rule, box = wide_crop_rule(128), np.array([-1.0, -1.0, 1.0, 1.0])
    corners = 1.25 * 1.25 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])

    def beyond(degrees):
        """How far the turned corners lie outside the wide crop, in its pixels."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        pixels = transform_points(corners @ np.array([[cos, sin], [-sin, cos]]), rule.matrix(box))
        return max(-0.5 - pixels.min(), pixels.max() - (rule.size - 0.5))

    assert max(beyond(degrees) for degrees in range(-30, 31)) < 0
    assert beyond(45) > 0


def test_no_augmented_crop_has_a_black_corner(tmp_path):
    """On a white image that is larger than any crop, black can only come from outside the wide crop."""
    white = np.full((300, 300, 3), 255, dtype=np.uint8)
    points = np.stack([np.linspace(120, 180, 19)] * 2, axis=1)
    sample = Sample("white", lambda: white, tight_box(points), points, np.zeros(19, bool))
    turned = faces([sample] * 300, tmp_path, rotation_probability=1.0)
    batch = next(turned.batches(300, seeded(0)))
    assert pixels(batch.images).min() > 254


def test_wide_pixels_are_finer_than_those_of_the_input():
    # The input has 128 pixels on 1.25 of the box; a wide crop is to have 1.25 times as many on as much.
    rule = wide_crop_rule(128)
    assert 1.25 * rule.size / rule.box_scale == pytest.approx(1.25 * 128, abs=1)


def test_normalised_by_hand():
    grey = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    expected = [(0.2 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    np.testing.assert_allclose(normalised(grey)[0, :, 1, 1].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("area", [(0.02, 0.1), (0.3, 0.3)])
def test_masks_cover_the_area_asked_for(area):
    images = torch.ones(400, 3, 40, 40)
    hidden = (
        (masked(images, MaskRecipe(probability=0.5, area=area), seeded(0)) == 0).float().mean(dim=(1, 2, 3))
    )
    share = (hidden > 0).float().mean().item()
    assert 0.4 < share < 0.6
    covered = hidden[hidden > 0]
    assert area[0] - 0.03 <= covered.min()
    assert covered.max() <= area[1] + 0.03


def test_each_student_gets_a_mask_of_its_own():
    images, rng = torch.ones(50, 3, 32, 32), seeded(4)
    first, second = (masked(images, MaskRecipe(), rng) for _ in range(2))
    assert not torch.equal(first, second)
    assert images.min() == 1  # the clean images are left for the teacher
