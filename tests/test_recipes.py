"""The shipped recipes: each is read, and those of the paper have its settings."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.networks.cascade_shape import HourglassShape, RegressionShape
from slimalign.compress.recipe import DecoderName, Recipe, TeacherRecipe
from slimalign.compress.recipe_file import read_recipe
from slimalign.compress.slim import check_budget
from slimalign.compress.training import learning_rate
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.schemes import scheme_named

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_is_read_and_comes_back_whole(path: Path) -> None:
    recipe = read_recipe(path)
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe
    landmarks = scheme_named(recipe.data.scheme).count
    if isinstance(recipe, Recipe):
        check_budget(recipe.search.supernet(landmarks, recipe.input.size), recipe.slim)
    elif isinstance(recipe.heatmap, HourglassShape):
        assert recipe.shape(landmarks).landmarks == landmarks


def test_a_recipe_may_name_every_decoder() -> None:
    assert get_args(DecoderName) == DECODERS


@pytest.mark.parametrize(
    ("name", "scheme", "factor_rate", "rate", "batch", "threshold", "ensemble", "teacher"),
    [
        # The settings of section 4.1 of the paper, by data set.
        ("sd_hrnet_300w", "300w-68", 1.8e-4, 1e-4, 16, 0.0017, 4, 1),
        ("sd_hrnet_cofw", "cofw-29", 3.5e-4, 1e-4, 16, 0.0042, 3, 0.1),
        ("sd_hrnet_wflw", "wflw-98", 1.8e-4, 2e-4, 32, 0.002, 0.3, 0.1),
    ],
)
def test_the_papers_settings(
    name: str,
    scheme: str,
    factor_rate: float,
    rate: float,
    batch: int,
    threshold: float,
    ensemble: float,
    teacher: float,
) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert isinstance(recipe, Recipe)
    assert (recipe.data.scheme, recipe.loss, recipe.input.size) == (scheme, "mse", 256)
    assert recipe.search.factor_learning_rate == factor_rate
    assert recipe.search.sparsity == 5e-5
    for stage in (recipe.search, recipe.distil):
        assert (stage.epochs, stage.batch, stage.weight_decay) == (60, batch, 4e-5)
        assert (stage.learning_rate.peak, stage.learning_rate.milestones) == (rate, (40, 50))
    assert (recipe.slim.importance, recipe.slim.threshold) == ("absolute", threshold)
    assert (recipe.distil.ensemble_weight, recipe.distil.teacher_weight) == (ensemble, teacher)
    assert (recipe.augment.scale, recipe.augment.rotation, recipe.augment.flip) == (0.25, 30, 0.5)
    # The public HRNet recipe.
    assert isinstance(recipe.teacher, TeacherRecipe)
    assert (recipe.teacher.epochs, recipe.teacher.batch, recipe.teacher.width) == (60, 16, 18)
    assert (recipe.teacher.learning_rate.peak, recipe.teacher.learning_rate.milestones) == (1e-4, (30, 50))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("300w", "300w-68"), ("wflw", "wflw-98"), ("cofw", "cofw-29"), ("aflw", "aflw-19")],
)
def test_the_settings_of_chs(name: str, scheme: str) -> None:
    """Section 4.2, alike for all data sets, and equation 10."""
    recipe = read_recipe(RECIPES / f"chs_{name}.toml")
    assert isinstance(recipe, CascadeRecipe)
    assert (recipe.data.scheme, recipe.input.size, recipe.loss) == (scheme, 256, "adaptive-wing")
    assert (recipe.heatmap, recipe.regression) == (HourglassShape(), RegressionShape())
    training = recipe.training
    assert (training.optimiser, training.batch, training.weight_decay) == ("sgd", 10, 5e-4)
    assert (training.backward, training.last_weight) == ("ccr", 3.0)
    rates = [
        learning_rate(training.learning_rate, epoch, training.epochs)
        for epoch in (119, 120, 240, 244, 245, 330)
    ]
    assert rates == pytest.approx([1e-2 * 0.75**k for k in (0, 1, 3, 3, 4, 21)])
    augment = recipe.augment
    assert (augment.scale, augment.rotation, augment.flip, augment.occlusion) == (0.15, 50, 0.5, 0.5)
    assert augment.shift * recipe.input.size / recipe.input.box_scale == pytest.approx(25, abs=0.1)
