"""COFW: 29 points with occlusion, ``COFW_train_color.mat`` and ``COFW_test_color.mat``.

MATLAB v7.3 files, which are HDF5: every array is stored with its axes reversed, and a cell array is an array
of references. ``IsTr`` / ``IsT`` hold the images (colour, some grey), ``phisTr`` / ``phisT`` a face a row:
29 x, 29 y, 29 times 1 for hidden. Pixels count from 1 and are brought to 0. Where the file is missing,
``face_landmarks_cofw_<split>.csv`` is read (see ``hrnet_csv``).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import hrnet_csv
from slimalign.compress.data.readers.annotations import AnnotationError, Floats, find_list, split_from
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.crop import tight_box
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.images import Image, ImageError
from slimalign.runtimes.schemes import COFW

SCHEME = COFW

FILE = "COFW_{split}_color.mat"
OCCLUDED_SHARE = 0.3
"""A face with more than this share of its points hidden is in the subset ``occluded``."""

_VARIABLES = {"train": ("IsTr", "phisTr"), "test": ("IsT", "phisT")}


def read_split(root: Path, split: str) -> Split:
    """The split ``train`` or ``test`` of the MATLAB files, or the CSV list of that name."""
    path = find_list(root, (FILE, hrnet_csv.COFW.file), split)
    if path.suffix == ".csv":
        return hrnet_csv.read_list(path, hrnet_csv.COFW)
    if split not in _VARIABLES:
        raise UserError(f"{path}: COFW has the splits {' and '.join(_VARIABLES)}, not '{split}'")
    images, phis = read_variables(path, split)
    rows = [(sample_name(path, index), index) for index in range(images)]
    return split_from(rows, lambda index: _read_face(path, split, index, phis[index]), SCHEME)


def read_variables(path: Path, split: str) -> tuple[int, Floats]:
    """How many images the file holds, and its annotations (N, 87); raises UserError."""
    cells_name, phis_name = _VARIABLES[split]
    with _open(path) as file:
        missing = [name for name in (cells_name, phis_name) if name not in file]
        if missing:
            raise UserError(
                f"{path}: holds no variable {' and '.join(missing)}; is it the file of another split?"
            )
        images = int(file[cells_name].size)
        phis = np.asarray(file[phis_name], dtype=np.float64).T
    if phis.shape != (images, 3 * SCHEME.count):
        raise UserError(
            f"{path}: {phis_name} is {phis.shape}, {(images, 3 * SCHEME.count)} is needed; get it again"
        )
    return images, phis


def _read_face(path: Path, split: str, index: int, phi: Floats) -> Sample:
    x, y, hidden = phi.reshape(3, SCHEME.count)
    if not np.isin(hidden, (0, 1)).all():
        raise AnnotationError("its occlusion flags must be 0 or 1")
    return cell_sample(path, split, index, np.stack([x, y], axis=1) - 1.0, hidden == 1)


def cell_sample(path: Path, split: str, index: int, points: Floats, occluded: NDArray[np.bool_]) -> Sample:
    """The face in image ``index`` (from 0) of a COFW file, with ``points`` (K, 2) in pixels from 0."""
    return Sample(
        name=sample_name(path, index),
        load=partial(load_cell, str(path), split, index),
        box=tight_box(points),
        points=points,
        occluded=occluded,
        subsets=("occluded",) if occluded.mean() > OCCLUDED_SHARE else (),
    )


def sample_name(path: Path, index: int) -> str:
    """Image ``index`` (from 0) of a COFW file, called by its number from 1 as in MATLAB."""
    return f"{path.stem}/{index + 1}"


def load_cell(path: str, split: str, index: int) -> Image:
    """Image ``index`` (from 0) of a COFW file as (H, W, 3) uint8 RGB."""
    with _open(Path(path)) as file:
        try:
            cells = file[_VARIABLES[split][0]]
            stored = np.asarray(file[cells[np.unravel_index(index, cells.shape)]])
        except (OSError, ValueError) as error:  # a damaged block, a reference to nothing
            raise ImageError(path, f"image {index + 1} cannot be read ({error})") from None
    if stored.dtype != np.uint8 or not (stored.ndim == 2 or (stored.ndim == 3 and stored.shape[0] == 3)):
        raise ImageError(path, f"image {index + 1} is {stored.shape} {stored.dtype}, not grey or RGB uint8")
    pixels = stored.T  # (W, H) or (3, W, H) as stored
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def _open(path: Path) -> Any:
    try:
        return _h5py().File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a MATLAB v7.3 file, or cut short ({error}); get it again") from None


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise UserError("COFW's files are HDF5, which needs h5py: pip install 'slimalign[train]'") from None
    module: ModuleType = h5py
    return module
