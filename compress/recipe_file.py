"""Reading recipes: what kind a TOML file is of, and what is wrong in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.recipe import Recipe, first_fault
from slimalign.runtimes.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AnyRecipe = Recipe | CascadeRecipe


def kind_of(entries: Mapping[str, Any]) -> type[Recipe] | type[CascadeRecipe]:
    """What recipe the ``entries`` are of: a cascade's has [regression] or [heatmap], all others are SD-HRNet's."""
    return CascadeRecipe if {"regression", "heatmap"} & set(entries) else Recipe


def read_recipe(path: str | Path) -> AnyRecipe:
    """Read and check a recipe; raises UserError with the file, the entry, its value and the reason."""
    path = Path(path)
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; the shipped ones lie in recipes/") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give one recipe, a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    try:
        return kind_of(entries).model_validate(entries)
    except ValidationError as error:
        raise UserError(f"{path}: {first_fault(kind_of(entries), error)}") from None
