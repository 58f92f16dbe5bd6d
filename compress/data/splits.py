"""The formats in which faces come from disk, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import aflw, aflw_frontal, cofw, cofw68, folder, w300, wflw
from slimalign.runtimes.errors import UserError

FORMATS: Mapping[str, Callable[[Path, str], Split]] = MappingProxyType(
    {
        "300w": w300.read_split,
        "wflw": wflw.read_split,
        "cofw": cofw.read_split,
        "cofw68": cofw68.read_split,
        "aflw": aflw.read_split,
        "aflw-frontal": aflw_frontal.read_split,
        "folder": folder.read_split,
    }
)
"""How a split of each format is read: root and split -> Split."""


def load_split(format_name: str, root: str | Path, split: str) -> Split:
    """Read the split called ``split`` (``train``, ``val``, ``test`` ...) of the data set in ``root``.

    Images are not opened yet; pass the answer through ``usable_samples`` before use. Raises UserError where
    the format is unknown, the root or the split's list is missing, or the list is empty.
    """
    if format_name not in FORMATS:
        raise UserError(f"data format '{format_name}' is unknown; choose one of {', '.join(FORMATS)}")
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder of the data set with --data")
    found = FORMATS[format_name](root, split)
    if not found.samples and not found.problems:
        raise UserError(
            f"{root}: the split '{split}' is empty, its list names no face; choose another or fill it"
        )
    return found
