"""Modules that run as they are on a Jetson's own Python 3.6: its syntax, its standard library and NumPy alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimalign.targets.agent_file import MODULES as NAMES

MODULES = tuple(f"slimalign.runtimes.{name}" for name in NAMES)
"""They import one another, NumPy and the standard library; the inference libraries only where they are opened."""
OTHERS = {"importlib.util", "onnxruntime.capi"}
WITH_OPENCV = {"slimalign.runtimes.crop", "slimalign.runtimes.end_to_end"}
"""They are imported for what is timed end to end alone."""

ROOT = Path(__file__).parent.parent
LATER = {"__future__", "contextvars", "dataclasses", "graphlib", "tomllib", "zoneinfo"}
"""Of the standard library, what came after 3.6; of ``__future__``, the annotations that are asked for elsewhere."""
TYPING = {
    "Any",
    "Callable",
    "Collection",
    "Dict",
    "Iterator",
    "List",
    "Mapping",
    "NamedTuple",
    "Optional",
    "Sequence",
    "Tuple",
    "Union",
}
TYPING |= {"IO", "TYPE_CHECKING", "Type"}
"""Names that typing had in 3.6."""
ELSEWHERE = {"TYPE_CHECKING", "sys.version_info >= (3, 8)"}


def tree_of(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


def run(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and what is under it that runs there: nothing under ``if TYPE_CHECKING:`` or for newer Pythons."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) in ELSEWHERE):
            yield from run(child)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_an_old_python_has(module: str) -> None:
    allowed = {"numpy", *MODULES, *OTHERS, *(sys.stdlib_module_names - LATER)}
    if module in WITH_OPENCV:
        allowed.add("cv2")
    for node in run(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            assert node.module in allowed, ast.unparse(node)
            if node.module == "typing":
                assert {name.name for name in node.names} <= TYPING, ast.unparse(node)
        elif isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= allowed, ast.unparse(node)


def test_the_agent_does_without_opencv() -> None:
    code = "import sys; sys.modules['cv2'] = None; import slimalign.runtimes.agent"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_an_annotation_is_in_quotes_a_name_or_of_typing(module: str) -> None:
    """``int | None`` and ``list[int]`` are read as 3.6 defines a function, and fail there."""
    for node in run(tree_of(module)):
        annotations = [getattr(node, entry, None) for entry in ("annotation", "returns")]
        for annotation in filter(None, annotations):
            for part in ast.walk(annotation):
                if isinstance(part, ast.Subscript):
                    assert ast.unparse(part.value) in TYPING, ast.unparse(annotation)
                assert not isinstance(part, ast.BinOp), ast.unparse(annotation)
