"""The run folder: the recipe and faces it was made by, and which of its stages still belong to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.checkpoint import CHECKPOINT_NAME
from slimalign.compress.recipe import Recipe
from slimalign.compress.recipe_file import AnyRecipe, kind_of
from slimalign.compress.training import TENSORBOARD
from slimalign.faces import Faces
from slimalign.run_names import (
    ARCHITECTURE_NAME,
    IMPORTANCES_NAME,
    PARITY_CROPS_NAME,
    RUN_NAME,
    STAGES_NAME,
    WATERFALL_NAME,
)
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text

OUTCOMES = (WATERFALL_NAME, PARITY_CROPS_NAME, STAGES_NAME)
"""What a finished run has; a run one of whose stages is trained anew is not finished."""

CUT = "cut"
"""The stage between search and distillation, which trains nothing: what it makes are two files."""
CUT_FILES = (ARCHITECTURE_NAME, IMPORTANCES_NAME)
EVERY_STAGE = ("*",)
UNTRAINED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "name": (),
        "export": (),
        # What is in the splits, the faces say.
        "data.drawn": (),
        "data.normaliser": (),
        "data.val": (),
        "data.test": (),
        "faces.val": (),
        "faces.test": (),
    }
)
"""Entries of all recipes on which no training hangs."""
STAGES_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **UNTRAINED,
        "decoder": (),
        "teacher": ("teacher", "distilled*"),
        "search": ("supernet", CUT, "fine-tuned*", "distilled*", "baseline-*"),
        "slim": (CUT, "fine-tuned*", "distilled*", "baseline-*"),
        "distil": ("fine-tuned*", "distilled*"),
        "distil.ablation": (),
        "baseline": ("baseline-*",),
        "baseline.count": (),
    }
)
"""Folders of the stages that hang on an entry or a part of the recipe; on what is not listed, all do."""
CASCADE_STAGES_OF: Mapping[str, tuple[str, ...]] = MappingProxyType({**UNTRAINED, "alone": ()})
"""The same of a cascade, whose parts are all trained together."""


@dataclass(frozen=True)
class Claim:
    """A run folder that may be used: ``run.json``'s new text, and the stages that have to be trained anew.

    ``recut`` says that the student has to be cut anew.
    """

    folder: Path
    text: str
    stale: list[Path]
    recut: bool

    def take(self) -> None:
        """Make the folder the run's: what was made by entries that have changed since is removed."""
        if self.stale:
            for name in OUTCOMES:
                (self.folder / name).unlink(missing_ok=True)
        for stage in self.stale:
            shutil.rmtree(self.folder / TENSORBOARD / stage.name, ignore_errors=True)
            shutil.rmtree(stage)
        if self.recut:
            for path in _cut_files(self.folder):
                path.unlink(missing_ok=True)
        write_text(self.folder / RUN_NAME, self.text)


def claim(folder: Path, recipe: AnyRecipe, faces: Faces, retrain: bool = False) -> Claim:
    """Whether ``folder`` can be, or go on as, the run folder of ``recipe`` on ``faces``; nothing is written.

    Raises UserError where stages were trained by entries that have changed since: their checkpoints would pass
    for what they are not. With ``retrain`` the claim has them removed, to be trained anew, and keeps the others; a
    run of another name is refused even then.
    """
    path = folder / RUN_NAME
    new = {**recipe.model_dump(mode="json"), "faces": faces.fingerprint()}
    stale, recut = [], False
    if path.exists():
        old = _read_run(path)
        changed = _changed_entries(old, new)
        table = CASCADE_STAGES_OF if isinstance(recipe, CascadeRecipe) else STAGES_OF
        stages = {stage for entry in changed for stage in _stages_of(entry, table)}
        if not (new.get("teacher") or {}).get("epochs"):
            stages -= {"teacher"}  # none will be trained in place of this one
        stale, recut = _trained(folder, stages), not stages.isdisjoint({CUT, *EVERY_STAGE})
        if stale and old["name"] != new["name"]:
            raise UserError(f"{folder}: is the run of recipe '{old['name']}'; give a new folder with --out")
        if stale and not retrain:
            names = ", ".join(stage.name for stage in stale)
            raise UserError(
                f"{folder}: {', '.join(changed)} changed since {names} was trained; train that anew with --retrain, "
                "or give a new folder with --out"
            )
    elif foreign := [*_trained(folder, EVERY_STAGE), *(path for path in _cut_files(folder) if path.exists())]:
        raise UserError(
            f"{folder}: holds {foreign[0].name} but no {RUN_NAME}, so it is no run; give a new folder with --out"
        )
    return Claim(folder, json.dumps(new, indent=1) + "\n", stale, recut)


def recipe_of(folder: Path) -> AnyRecipe:
    """The recipe of the run in ``folder``; raises UserError where there is none."""
    path = folder / RUN_NAME
    if not path.is_file():
        raise UserError(
            f"{folder}: not a run folder, it holds no {RUN_NAME}; give one made by 'slimalign run'"
        )
    entries = _read_run(path)
    del entries["faces"]
    return kind_of(entries).model_validate(entries)


def with_search(recipe: AnyRecipe, source: object) -> Recipe:
    """``recipe``, which ``source`` holds and which has to have a supernet that is searched; raises UserError if not."""
    if not isinstance(recipe, Recipe):
        raise UserError(f"{source}: a cascade's, it has no supernet; give a run or a recipe with a search")
    return recipe


def known_importances(folder: Path) -> dict[str, float] | None:
    """What the operations of the run in ``folder`` count for, by their names; None before its search is done."""
    path = folder / IMPORTANCES_NAME
    if not path.is_file():
        return None
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def check_faces(folder: Path, faces: Faces) -> None:
    """Raise UserError where ``faces`` are not those that the run in ``folder`` was trained and chosen on."""
    kept, given = json.loads((folder / RUN_NAME).read_text(encoding="utf-8"))["faces"], faces.fingerprint()
    wrong = [name for name in ("train", "val") if kept[name] != given[name]]
    if wrong:
        raise UserError(
            f"{folder}: these are not the faces of the run, its {' and '.join(wrong)} split is another; give the data "
            "that it was made with"
        )


def _read_run(path: Path) -> dict[str, Any]:
    """The recipe's entries and ``faces``; entries that the recipe did not have yet have their defaults."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        faces = entries.pop("faces")
        return {**kind_of(entries).model_validate(entries).model_dump(mode="json"), "faces": faces}
    except (ValueError, KeyError, TypeError):  # pydantic's errors are ValueErrors
        raise UserError(
            f"{path}: not written by this version of slimalign; give a new folder with --out"
        ) from None


def _changed_entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the entries that differ, as in ``distil.epochs``."""
    changed = []
    for part in [*new, *(name for name in old if name not in new)]:
        before, after = old.get(part), new.get(part)
        if isinstance(before, dict) and isinstance(after, dict):
            names = [*after, *(name for name in before if name not in after)]
            changed += [f"{part}.{name}" for name in names if before.get(name) != after.get(name)]
        elif before != after:
            changed.append(part)
    return changed


def _stages_of(entry: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    part = entry.split(".")[0]
    return table.get(entry, table.get(part, EVERY_STAGE))


def _cut_files(folder: Path) -> list[Path]:
    return [folder / name for name in CUT_FILES]


def _trained(folder: Path, stages: Iterable[str]) -> list[Path]:
    """Folders of those among ``stages`` that have a checkpoint."""
    found = {path.parent for stage in stages for path in folder.glob(f"{stage}/{CHECKPOINT_NAME}")}
    return sorted(found)
