"""AFLW-Frontal: AFLW's training faces, and of its test faces those with every point visible."""

from __future__ import annotations

from pathlib import Path

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import aflw

SCHEME = aflw.SCHEME


def read_split(root: Path, split: str) -> Split:
    """As AFLW, but ``test`` is the frontal test list."""
    return aflw.read_split(root, "test_frontal" if split == "test" else split)
