"""The run folder: the recipe and faces it was made by, and which of its stages still belong to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimalign.compress.checkpoint import CHECKPOINT_NAME
from slimalign.compress.recipe import Recipe
from slimalign.faces import Faces
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import write_text

RUN_NAME = "run.json"
RESULTS_NAME = "results.jsonl"

EVERY_STAGE = ("*",)
STAGES_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "name": (),
        "export": (),
        "data.test": (),
        "faces.test": (),
        "teacher": ("teacher", "distilled*"),
        "search": ("supernet", "fine-tuned", "distilled*", "baseline-*"),
        "slim": ("fine-tuned", "distilled*", "baseline-*"),
        "distil": ("fine-tuned", "distilled*"),
        "distil.ablation": (),
        "baseline": ("baseline-*",),
        "baseline.count": (),
    }
)
"""Folders of the stages that hang on an entry or a part of the recipe; on what is not listed, all do."""


def claim_folder(folder: Path, recipe: Recipe, faces: Faces, retrain: bool = False) -> None:
    """Make ``folder`` the run folder of ``recipe`` on ``faces``, or go on with it.

    Raises UserError where stages were trained by entries that have changed since: their checkpoints would pass
    for what they are not. With ``retrain`` those stages are removed, to be trained anew; the others are kept.
    """
    path = folder / RUN_NAME
    new = {**recipe.model_dump(mode="json"), "faces": faces.fingerprint()}
    if path.exists():
        changed = _changed_entries(json.loads(path.read_text(encoding="utf-8")), new)
        stale = _trained(folder, {stage for entry in changed for stage in _stages_of(entry)})
        if stale and not retrain:
            names = ", ".join(stage.name for stage in stale)
            raise UserError(
                f"{folder}: {', '.join(changed)} changed since {names} was trained; train that anew with --retrain, "
                "or give a new folder with --out"
            )
        _remove(folder, stale)
    elif _trained(folder, EVERY_STAGE):
        raise UserError(f"{folder}: holds checkpoints but no {RUN_NAME}; give a new folder with --out")
    write_text(path, json.dumps(new, indent=1) + "\n")


def _remove(folder: Path, stages: list[Path]) -> None:
    for stage in stages:
        shutil.rmtree(stage)
    if stages:  # measured on networks that are gone
        (folder / RESULTS_NAME).unlink(missing_ok=True)


def recipe_of(folder: Path) -> Recipe:
    """The recipe of the run in ``folder``; raises UserError where there is none."""
    path = folder / RUN_NAME
    if not path.is_file():
        raise UserError(
            f"{folder}: not a run folder, it holds no {RUN_NAME}; give one made by 'slimalign run'"
        )
    entries = json.loads(path.read_text(encoding="utf-8"))
    del entries["faces"]
    return Recipe.model_validate(entries)


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


def _stages_of(entry: str) -> tuple[str, ...]:
    part = entry.split(".")[0]
    return STAGES_OF.get(entry, STAGES_OF.get(part, EVERY_STAGE))


def _trained(folder: Path, stages: Iterable[str]) -> list[Path]:
    """Folders of those among ``stages`` that have a checkpoint."""
    found = {path.parent for stage in stages for path in folder.glob(f"{stage}/{CHECKPOINT_NAME}")}
    return sorted(found)
