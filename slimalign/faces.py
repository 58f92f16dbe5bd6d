"""The faces that a recipe names, read from a data folder or drawn, checked before anything starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import Progress

from slimalign.compress.data.checks import usable_samples
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import Sample
from slimalign.compress.data.splits import load_split
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import LandmarkScheme, scheme_named

if TYPE_CHECKING:
    # pydantic comes with training; a device that only measures reads its faces without it.
    from slimalign.compress.recipe import DataRecipe

DRAWN = "drawn"


@dataclass(frozen=True)
class Faces:
    """The three splits of a recipe's data, all of one landmark scheme."""

    scheme: LandmarkScheme
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]

    def fingerprint(self) -> dict[str, str]:
        """A hash of each split's names and points, by which a run knows its faces again."""
        return {"train": _hash(self.train), "val": _hash(self.val), "test": _hash(self.test)}


def _hash(samples: list[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.name.encode())
        digest.update(np.ascontiguousarray(sample.points, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def recipe_faces(recipe: DataRecipe, data: Path | None, skip_bad: bool, progress: Progress) -> Faces:
    """Read and check all splits; raises UserError that lists what is wrong, by file."""
    scheme = scheme_named(recipe.scheme)
    if recipe.format == DRAWN:
        drawn = recipe.drawn
        counts = {"train": drawn.train, "val": drawn.val, "test": drawn.test}
        # Splits are drawn from seeds far apart, so that no face stands in two of them.
        splits = {
            name: drawn_samples(count, scheme, drawn.seed + place * 10**6, drawn.size)
            for place, (name, count) in enumerate(counts.items())
        }
        return Faces(scheme, splits["train"], splits["val"], splits["test"])
    if data is None:
        raise UserError(
            f"data.format = {recipe.format} is read from a folder: give it with --data path/to/faces"
        )
    names = (recipe.train, recipe.val, recipe.test)
    train, val, test = (read_split(recipe.format, scheme, data, name, skip_bad, progress) for name in names)
    return Faces(scheme, train, val, test)


def read_split(
    format_name: str, scheme: LandmarkScheme, data: Path, name: str, skip_bad: bool, progress: Progress
) -> list[Sample]:
    """One split from a data folder, every image looked at."""
    split = load_split(format_name, data, name)
    if split.scheme.name != scheme.name:
        raise UserError(
            f"{data}: {format_name} faces have scheme {split.scheme.name}, {scheme.name} is asked for"
        )
    task = progress.add_task(f"checking {name}", total=len(split.samples))
    samples, problems = usable_samples(
        split, skip_bad, lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.remove_task(task)
    if problems:
        text = f"{name}: {len(problems)} bad faces left out, the first is {problems[0]}"
        progress.console.print(text, markup=False, highlight=False)
    return samples
