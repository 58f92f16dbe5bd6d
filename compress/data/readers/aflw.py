"""AFLW: 19 points, in the form in which they are passed on: ``face_landmarks_aflw_<split>.csv``.

See ``hrnet_csv`` for the format.

Splits: ``train`` and ``test`` (all test faces, "full"), ``test_frontal`` (those with every point visible).
"""

from __future__ import annotations

from pathlib import Path

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import hrnet_csv
from slimalign.runtimes.schemes import AFLW

SCHEME = AFLW


def read_split(root: Path, split: str) -> Split:
    """The split in the CSV list of that name."""
    return hrnet_csv.read_split(root, split, hrnet_csv.AFLW)
