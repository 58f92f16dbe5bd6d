"""Reading device profiles: the checks of what a user may have written, and the names of the shipped ones."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimalign.runtimes.errors import UserError
from slimalign.targets.address import check_address
from slimalign.targets.target import PYTHON, Target, jetpacks, runtime_of
from slimalign.targets.toml_files import read_toml

PROFILES = Path(__file__).with_name("profiles")
ARCHITECTURES = ("aarch64", "x86_64")
RUNTIMES = ("tensorrt", "onnx", "litert")
DELEGATES = ("xnnpack", "gpu")


@dataclass(frozen=True)
class _Entry:
    """What an entry of a profile must be, in ``words``; ``holds`` says whether a value is that."""

    words: str
    holds: Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\n" not in value


def _one_of(names: tuple[str, ...]) -> _Entry:
    return _Entry(f"one of {', '.join(names)}", lambda value: value in names)


def _some_of(words: str, holds: Callable[[Any], bool]) -> _Entry:
    return _Entry(
        f"a list of at least one of {words}",
        lambda value: isinstance(value, list) and bool(value) and all(map(holds, value)),
    )


def _version(example: str) -> _Entry:
    pattern = re.compile(r"\d+(\.\d+)+")
    return _Entry(
        f'a version as text, as in "{example}"',
        lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None,
    )


def _gigabytes(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_address(value: Any) -> bool:
    try:
        check_address(str(value))
    except UserError:
        return False
    return isinstance(value, str)


_ALWAYS: Mapping[str, _Entry] = MappingProxyType(
    {
        "title": _Entry("a line of text", _text),
        "architecture": _one_of(ARCHITECTURES),
        "formats": _some_of(
            "slimalign's formats for " + ", ".join(RUNTIMES),
            lambda value: _text(value) and runtime_of(value) in RUNTIMES,
        ),
    }
)
_OPTIONAL: Mapping[str, _Entry] = MappingProxyType(
    {
        "memory_gb": _some_of("the sizes that it is sold with, in GB", _gigabytes),
        "power_modes": _some_of("the names that nvpmodel knows", _text),
        "address": _Entry("how to reach it: local, ssh://user@host or adb:SERIAL", _is_address),
        "python": _Entry("the command of its Python, default python3", _text),
    }
)
_LITERT: Mapping[str, _Entry] = MappingProxyType(
    {"delegates": _some_of(", ".join(DELEGATES), lambda value: value in DELEGATES)}
)
_GPU: Mapping[str, _Entry] = MappingProxyType(
    {
        "compute_capability": _version("8.7"),
        "int8": _Entry("true or false", lambda value: isinstance(value, bool)),
    }
)


def _tensorrt(given: Mapping[str, Any]) -> Mapping[str, _Entry]:
    """A Jetson has its TensorRT from its JetPack, another machine its own."""
    if "tensorrt" in given:
        return {**_GPU, "tensorrt": _version("11.0")}
    known = tuple(jetpacks())
    return {**_GPU, "jetpack": _some_of(", ".join(known), lambda value: value in known)}


def read_profile(path: Path) -> Target:
    """The target that the file ``path`` describes, with its newest JetPack; it is called as the file is.

    Raises UserError with the file, the entry, its value and what it must be.
    """
    given = read_toml(path)
    _check(given, {name: _ALWAYS[name] for name in _ALWAYS if name in given}, path)
    runtimes = {runtime_of(name) for name in given.get("formats", ())}
    needed = dict(_ALWAYS)
    if "tensorrt" in runtimes:
        needed |= _tensorrt(given)
    if "litert" in runtimes:
        needed |= _LITERT
    _check_names(given, needed, path)
    _check(given, needed, path)
    _check(given, {name: _OPTIONAL[name] for name in _OPTIONAL if name in given}, path)
    return _target(path.stem, given)


def _check(given: Mapping[str, Any], entries: Mapping[str, _Entry], path: Path) -> None:
    for name, entry in entries.items():
        if not entry.holds(given[name]):
            shown = json.dumps(given[name], default=str)
            raise UserError(f"{path}: {name} = {shown}, must be {entry.words}")


def _check_names(given: Mapping[str, Any], needed: Mapping[str, _Entry], path: Path) -> None:
    missing = [name for name in needed if name not in given]
    known = {**needed, **_OPTIONAL}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, [*missing, *_OPTIONAL], 1)
            hint = f"did you mean {near[0]}?" if near else f"this device's are {', '.join(known)}"
            raise UserError(f"{path}: {name} = {json.dumps(given[name], default=str)}: no such entry; {hint}")
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing, add it as {needed[missing[0]].words}")


def _target(name: str, given: Mapping[str, Any]) -> Target:
    releases = tuple(one for version, one in jetpacks().items() if version in given.get("jetpack", ()))
    newest = releases[-1] if releases else None
    return Target(
        name=name,
        title=given["title"],
        architecture=given["architecture"],
        formats=tuple(given["formats"]),
        delegates=tuple(given.get("delegates", ())),
        compute_capability=given.get("compute_capability"),
        int8=given.get("int8", True),
        tensorrt=newest.tensorrt if newest else given.get("tensorrt"),
        jetpacks=releases,
        jetpack=newest,
        memory_gb=tuple(given.get("memory_gb", ())),
        power_modes=tuple(given.get("power_modes", ())),
        address=given.get("address"),
        python=given.get("python", PYTHON),
    )


def all_targets() -> list[Target]:
    """The targets that ship with slimalign, by name."""
    return [read_profile(path) for path in _shipped().values()]


def target_named(given: str | Path, jetpack: str | None = None) -> Target:
    """The target called ``given``, in full or by some parts of its name, or whose profile lies in the file ``given``.

    It has its newest JetPack, or the one of version ``jetpack``. Raises UserError that lists the targets.
    """
    path = Path(given) if str(given).endswith(".toml") else _path_named(str(given))
    target = read_profile(path)
    return target if jetpack is None else target.with_jetpack(jetpack)


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PROFILES.glob("*.toml"), key=lambda path: path.stem)}


def _path_named(given: str) -> Path:
    paths = _shipped()
    if given in paths:
        return paths[given]
    # A number alone is no device's name, though one name has it.
    holding = [] if given.isdigit() else [name for name in paths if given in _shortened(name)]
    if len(holding) == 1:
        return paths[holding[0]]
    if holding:
        raise UserError(f"target '{given}' may be {' or '.join(holding)}; give the whole name")
    near = _near(given, paths)
    hint = f"did you mean {' or '.join(near)}? The" if near else "the"
    raise UserError(
        f"target '{given}' is unknown; {hint} targets are {', '.join(paths)}, or give a .toml file"
    )


def _shortened(name: str) -> set[str]:
    """``name`` with none, one or more of its parts between hyphens left out, as ``agx-orin`` and ``jetson-orin``."""
    parts = name.split("-")
    return {"-".join(some) for count in range(len(parts)) for some in combinations(parts, count + 1)}


def _near(given: str, names: Iterable[str]) -> list[str]:
    """The names that have the parts of ``given`` in any order, or else those most like it, in full or shortened."""
    turned = [name for name in names if set(given.split("-")) <= set(name.split("-"))]
    known = sorted({short for name in names for short in _shortened(name)})
    like = difflib.get_close_matches(given, known, 1)
    return turned or [name for name in names if like and like[0] in _shortened(name)]
