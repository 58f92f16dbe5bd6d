"""A run folder and a recipe that changes under it: what is kept, what is refused, what is trained anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.recipe import Recipe
from slimalign.compress.recipe_file import read_recipe
from slimalign.faces import Faces
from slimalign.run_folder import check_faces, claim, recipe_of
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import W300

STAGES = ("baseline-found", "distilled", "distilled-teacher", "fine-tuned", "supernet", "teacher")
OUTCOMES = ("waterfall.json", "parity_crops.npy")
CUT_FILES = ("architecture.json", "importances.json")
FACE, OTHER = drawn_samples(2, W300, 0, 64)
FACES = Faces(W300, [FACE], [FACE], [FACE])
CPU_RECIPE = read_recipe(Path(__file__).parent.parent / "recipes" / "faces300w_cpu.toml")


def claim_folder(folder: Path, recipe: Recipe, faces: Faces, retrain: bool = False) -> None:
    claim(folder, recipe, faces, retrain).take()


def changed(**parts: dict[str, Any] | None) -> Recipe:
    """The recipe for 300W on a CPU with some entries of some parts changed, or without parts that are None."""
    entries = CPU_RECIPE.model_dump(mode="json")
    for part, new in parts.items():
        entries[part] = None if new is None else {**entries[part], **new}
    return Recipe.model_validate(entries)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which every stage is trained."""
    run = tmp_path / "run"
    claim_folder(run, CPU_RECIPE, FACES)
    for stage in STAGES:
        (run / stage).mkdir()
        (run / stage / "checkpoint.safetensors").touch()
        (run / "tensorboard" / stage).mkdir(parents=True)
    for name in (*OUTCOMES, *CUT_FILES, "results.jsonl"):
        (run / name).touch()
    return run


def stages(run: Path) -> set[str]:
    """Stages with a checkpoint, which are those with curves too."""
    found = {path.parent.name for path in run.glob("*/checkpoint.safetensors")}
    assert {path.name for path in (run / "tensorboard").iterdir()} == found
    return found


def is_finished(run: Path) -> bool:
    there = [(run / name).exists() for name in OUTCOMES]
    assert all(there) or not any(there)
    return all(there)


def test_the_same_recipe_goes_on(folder: Path) -> None:
    claim_folder(folder, CPU_RECIPE, FACES)
    assert stages(folder) == set(STAGES)
    assert recipe_of(folder) == CPU_RECIPE


@pytest.mark.parametrize(
    ("recipe", "entry", "stale"),
    [
        (changed(teacher={"epochs": 41}), "teacher.epochs", {"teacher", "distilled", "distilled-teacher"}),
        (changed(search={"sparsity": 0.5}), "search.sparsity", set(STAGES) - {"teacher"}),
        (changed(slim={"max_gmacs": 0.2}), "slim.max_gmacs", set(STAGES) - {"teacher", "supernet"}),
        (
            changed(distil={"teacher_weight": 2.0}),
            "distil.teacher_weight",
            {"fine-tuned", "distilled", "distilled-teacher"},
        ),
        (changed(baseline={"epochs": 3}), "baseline.epochs", {"baseline-found"}),
        (changed(augment={"colour": 0.5}), "augment.colour", set(STAGES)),
    ],
)
def test_what_hangs_on_a_changed_entry_is_trained_anew_only_when_asked(
    folder: Path, recipe: Recipe, entry: str, stale: set[str]
) -> None:
    listed = ", ".join(sorted(stale))
    with pytest.raises(UserError, match=f"run: {entry} changed since {listed} was trained; .* --retrain, or"):
        claim_folder(folder, recipe, FACES)
    claim(folder, recipe, FACES, retrain=True)
    assert stages(folder) == set(STAGES)
    assert is_finished(folder)
    claim_folder(folder, recipe, FACES, retrain=True)
    assert stages(folder) == set(STAGES) - stale
    assert not is_finished(folder)
    assert (folder / "results.jsonl").exists()  # its records are keyed by the files that they measured
    assert recipe_of(folder) == recipe
    claim_folder(folder, recipe, FACES)


def test_a_teacher_that_nothing_learns_from_any_more_is_not_removed(folder: Path) -> None:
    recipe = changed(teacher=None, distil={"teacher_weight": 0, "ablation": False})
    claim_folder(folder, recipe, FACES, retrain=True)
    assert stages(folder) == {"baseline-found", "supernet", "teacher"}
    with pytest.raises(UserError, match="teacher, distil.teacher_weight changed since teacher was trained"):
        claim_folder(folder, changed(distil={"ablation": False}), FACES)


@pytest.mark.parametrize(
    "recipe",
    [
        changed(distil={"ablation": False}),
        changed(baseline={"count": 5}),
        changed(export={"formats": ["onnx"]}),
        changed(data={"drawn": {"test": 3}, "normaliser": "diagonal"}),
        CPU_RECIPE.model_copy(update={"name": "renamed"}),
        CPU_RECIPE.model_copy(update={"decoder": "argmax-quarter"}),
    ],
)
def test_what_no_training_hangs_on_may_change(folder: Path, recipe: Recipe) -> None:
    claim_folder(folder, recipe, FACES)
    assert stages(folder) == set(STAGES)
    assert is_finished(folder)


@pytest.mark.parametrize(
    ("recipe", "recut"),
    [
        (changed(search={"sparsity": 0.5}), True),
        (changed(slim={"max_gmacs": 0.2}), True),
        (changed(augment={"colour": 0.5}), True),
        (changed(teacher={"epochs": 3}), False),
        (changed(distil={"epochs": 3}), False),
        (CPU_RECIPE, False),
    ],
)
def test_the_cut_is_kept_until_what_decides_it_changes(folder: Path, recipe: Recipe, recut: bool) -> None:
    claim_folder(folder, recipe, FACES, retrain=True)
    assert [(folder / name).exists() for name in CUT_FILES] == [not recut] * 2


def test_a_cut_that_no_training_has_used_yet_is_made_anew_without_asking(folder: Path) -> None:
    for stage in STAGES:
        if stage not in ("teacher", "supernet"):
            shutil.rmtree(folder / stage)
            shutil.rmtree(folder / "tensorboard" / stage)
    claim_folder(folder, changed(slim={"max_gmacs": 0.2}), FACES)
    assert stages(folder) == {"teacher", "supernet"}
    assert not any((folder / name).exists() for name in CUT_FILES)


def test_another_recipes_run_is_refused_even_to_be_trained_anew(folder: Path) -> None:
    other = changed(teacher={"epochs": 41}).model_copy(update={"name": "demo"})
    with pytest.raises(UserError, match="run: is the run of recipe 'faces300w-cpu'; give a new folder"):
        claim_folder(folder, other, FACES, retrain=True)
    assert stages(folder) == set(STAGES)


def test_a_run_from_before_an_entry_had_its_default_then(folder: Path) -> None:
    path = folder / "run.json"
    entries = json.loads(path.read_text())
    del entries["slim"]["importance"]
    path.write_text(json.dumps(entries))
    claim_folder(folder, CPU_RECIPE, FACES)
    assert recipe_of(folder) == CPU_RECIPE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"faces": {}, "name": "x"}'])
def test_a_claim_that_is_none_is_told_in_one_line(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    for look in (lambda: claim_folder(folder, CPU_RECIPE, FACES), lambda: recipe_of(folder)):
        with pytest.raises(
            UserError, match=r"run\.json: not written by this version of slimalign; give a new"
        ):
            look()


def test_other_faces_are_noticed_by_their_points_and_boxes(folder: Path) -> None:
    moved = replace(FACE, box=FACE.box + 1)
    for face in (OTHER, moved):
        with pytest.raises(UserError, match=r"faces\.train changed since .*teacher was trained"):
            claim_folder(folder, CPU_RECIPE, replace(FACES, train=[face]))
    claim_folder(folder, CPU_RECIPE, replace(FACES, test=[OTHER]))  # nothing was trained on them


def test_a_part_that_comes_or_goes_is_a_change(folder: Path) -> None:
    without = CPU_RECIPE.model_copy(update={"baseline": None})
    with pytest.raises(UserError, match="run: baseline changed since baseline-found was trained"):
        claim_folder(folder, without, FACES)
    claim_folder(folder, without, FACES, retrain=True)
    claim_folder(folder, CPU_RECIPE, FACES)  # no baseline is trained yet


def test_checkpoints_of_nobody_are_refused(folder: Path) -> None:
    (folder / "run.json").unlink()
    with pytest.raises(
        UserError, match=r"run: holds [\w-]+ but no run\.json, so it is no run; give a new folder"
    ):
        claim_folder(folder, CPU_RECIPE, FACES, retrain=True)
    assert stages(folder) == set(STAGES)


def test_faces_of_another_split_are_not_the_runs(folder: Path) -> None:
    check_faces(folder, replace(FACES, test=[]))  # nothing is exported by those
    with pytest.raises(
        UserError, match="run: these are not the faces of the run, its val split is another; give"
    ):
        check_faces(folder, replace(FACES, val=[]))


def test_a_folder_that_is_no_run_has_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder, it holds no run\.json"):
        recipe_of(tmp_path)


def test_the_claim_is_plain_json(folder: Path) -> None:
    document = json.loads((folder / "run.json").read_text())
    assert document["name"] == "faces300w-cpu"
    assert set(document["faces"]) == {"train", "val", "test"}
