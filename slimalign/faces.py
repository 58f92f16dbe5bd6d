"""The faces that a recipe names, read from a data folder or drawn, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from slimalign.compress.data.checks import Split, UsableSplit, problem_lines, refuse_bad, usable_samples
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import Sample, fingerprint_of
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

    @property
    def has_validation(self) -> bool:
        """Whether there are faces to choose by: not where the test split stands in for a validation split."""
        return fingerprint_of(self.val) != fingerprint_of(self.test)

    def fingerprint(self) -> dict[str, str]:
        """The fingerprint of each split, by which a run knows its faces again."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: fingerprint_of(samples) for name, samples in splits.items()}


def recipe_faces(recipe: DataRecipe, data: Path | None, skip_bad: bool, progress: Progress) -> Faces:
    """Read and check all splits; raises one UserError that lists what is wrong in each of them, by file."""
    scheme = scheme_named(recipe.scheme)
    if recipe.format == DRAWN:
        if data is not None:
            raise UserError(
                f"--data {data}: data.format = {DRAWN} needs no --data, its faces are drawn; leave it out"
            )
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
    # Nothing is judged on training faces, which may be of any kind.
    normalisers = {recipe.train: None, recipe.val: recipe.normaliser, recipe.test: recipe.normaliser}
    found = _read_splits(recipe.format, scheme, data, normalisers, skip_bad, progress)
    faces = Faces(scheme, found[recipe.train], found[recipe.val], found[recipe.test])
    _refuse_shared(data, recipe, faces)
    return faces


def _refuse_shared(data: Path, recipe: DataRecipe, faces: Faces) -> None:
    """Raise UserError where a face stands in two splits; only ``val`` and ``test`` may be one and the same."""
    pairs = [
        (recipe.train, faces.train, recipe.val, faces.val),
        (recipe.train, faces.train, recipe.test, faces.test),
    ]
    if faces.has_validation:
        pairs.append((recipe.val, faces.val, recipe.test, faces.test))
    for one, these, other, those in pairs:
        known = {fingerprint_of([sample]) for sample in these}
        shared = [sample.name for sample in those if fingerprint_of([sample]) in known]
        if shared:
            raise UserError(
                f"{data}: the splits {one} and {other} share {len(shared)} faces, the first is {shared[0]}; "
                "take them out of one of the two"
            )


def read_split(
    format_name: str,
    scheme: LandmarkScheme,
    data: Path,
    name: str,
    skip_bad: bool,
    progress: Progress,
    normaliser: str | None = None,
) -> list[Sample]:
    """One split from a data folder, every image looked at; ``normaliser`` is what NMEs are divided by, if any."""
    return _read_splits(format_name, scheme, data, {name: normaliser}, skip_bad, progress)[name]


def _read_splits(
    format_name: str,
    scheme: LandmarkScheme,
    data: Path,
    normalisers: Mapping[str, str | None],
    skip_bad: bool,
    progress: Progress,
) -> dict[str, list[Sample]]:
    """The faces of the splits that ``normalisers`` names, each judged by its normaliser, if any."""
    # Every list is read before the first image is, so that a missing one is told at once.
    splits = {name: _load(format_name, scheme, data, name) for name in normalisers}
    usable = {name: _usable(name, split, normalisers[name], progress) for name, split in splits.items()}
    refuse_bad(usable, skip_bad)
    lines = [line for name, split in usable.items() for line in problem_lines(name, split)]
    if lines:
        lines = ["going on without bad faces, and with what is incomplete as it is (--skip-bad)", *lines]
        progress.console.print("\n".join(lines), markup=False, highlight=False)
    return {name: split.samples for name, split in usable.items()}


def _load(format_name: str, scheme: LandmarkScheme, data: Path, name: str) -> Split:
    split = load_split(format_name, data, name)
    if split.scheme.name != scheme.name:
        raise UserError(
            f"{data}: {format_name} faces have scheme {split.scheme.name}, {scheme.name} is asked for"
        )
    return split


def _usable(name: str, split: Split, normaliser: str | None, progress: Progress) -> UsableSplit:
    task = progress.add_task(f"checking {name}", total=len(split.samples))
    usable = usable_samples(
        split, normaliser, lambda done, total: progress.update(task, completed=done, total=total)
    )
    progress.remove_task(task)
    return usable
