"""COFW-68: the 507 test images of COFW with 68 points and occlusion, for models trained on 300W.

The images come from ``COFW_test_color.mat``, the points of image i from ``<i>_points.mat``, i from 1: MATLAB
files of version 5 with ``Points`` (68, 2), whose pixels count from 1 and are brought to 0, and ``Occ`` (68
times 0 or 1 for hidden). They are looked for in ``COFW68_Data/test_annotations``, ``test_annotations`` and
the root.
"""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np

from slimalign.compress.data.checks import Split
from slimalign.compress.data.readers import cofw
from slimalign.compress.data.readers.annotations import AnnotationError, Floats, find_list, split_from
from slimalign.compress.data.sample import Sample
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.schemes import W300

SCHEME = W300

FOLDERS = ("COFW68_Data/test_annotations", "test_annotations", ".")


def read_split(root: Path, split: str) -> Split:
    """The split ``test``, the only one there is."""
    if split != "test":
        raise UserError(f"{root}: COFW-68 has the split test only, not '{split}'; train on 300W")
    images_path = find_list(root, (cofw.FILE,), split)
    folder = _annotation_folder(root)
    images, _ = cofw.read_variables(images_path, split)
    matlab = _scipy_matlab()
    rows = [(f"{index + 1}_points.mat", index) for index in range(images)]
    return split_from(rows, lambda index: _read_face(matlab, images_path, folder, index), SCHEME)


def _annotation_folder(root: Path) -> Path:
    for name in FOLDERS:
        if (root / name / "1_points.mat").is_file():
            return root / name
    raise UserError(f"{root}: no 1_points.mat in {', '.join(FOLDERS)}; get COFW-68's test_annotations")


def _read_face(matlab: ModuleType, images_path: Path, folder: Path, index: int) -> Sample:
    points, occ = _read_points(matlab, folder / f"{index + 1}_points.mat")
    occluded = occ.ravel() == 1
    if points.shape != (SCHEME.count, 2) or occluded.shape != (SCHEME.count,):
        raise AnnotationError(
            f"Points is {points.shape} and Occ {occluded.shape}, {SCHEME.count} points are needed"
        )
    return cofw.cell_sample(images_path, "test", index, points - 1.0, occluded)


def _read_points(matlab: ModuleType, path: Path) -> tuple[Floats, Floats]:
    """``Points`` and ``Occ`` as stored; raises AnnotationError."""
    unreadable = (
        OSError,
        ValueError,
        TypeError,
        IndexError,
        NotImplementedError,
        matlab.MatReadError,
        zlib.error,
    )
    if not path.is_file():
        raise AnnotationError(f"{path} is missing")
    try:
        variables = matlab.loadmat(path, variable_names=["Points", "Occ"])
        return variables["Points"].astype(np.float64), variables["Occ"].astype(np.float64)
    except KeyError as error:
        raise AnnotationError(f"holds no variable {error}") from None
    except unreadable as error:
        raise AnnotationError(f"not a whole MATLAB file of version 5 ({error})") from None


def _scipy_matlab() -> ModuleType:
    try:
        return importlib.import_module("scipy.io.matlab")
    except ImportError:
        raise UserError(
            "COFW-68's points are MATLAB files, which need scipy: pip install 'slimalign[train]'"
        ) from None
