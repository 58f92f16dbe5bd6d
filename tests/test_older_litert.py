"""LiteRT files in tflite-runtime 2.14, which devices have had before LiteRT."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_manifest import small_manifest

from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.litert_from_torch import write_litert
from slimalign.export.litert_graph import shorten_names
from slimalign.export.litert_quantised import SCHEMES, Ranges, litert_ranges, write_litert_quantised
from slimalign.runtimes.bundle import MANIFEST_NAME, read_bundle
from slimalign.runtimes.opening import open_session

ROOT = Path(__file__).parent.parent
SIZE = 64
RUN_ALL = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.opening import open_session

for folder in sys.argv[3:]:
    with open_session(read_bundle(folder), 1) as session:
        assert type(session._interpreter).__module__.startswith("tflite_runtime")
        np.save(folder + "/found.npy", np.concatenate([session.run(face[None]) for face in np.load(sys.argv[2])]))
"""


def write_bundle_of(source: Path, scheme: str | None, ranges: Ranges | None, folder: Path) -> None:
    folder.mkdir()
    path = folder / "model.tflite"
    if scheme is None:
        shorten_names(source, path)
    else:
        write_litert_quantised(source, scheme, ranges, path)
        shorten_names(path, path)
    manifest = replace(small_manifest(folder, (path.name,), "litert", SIZE), layout="NHWC")
    if source.stem == "points":
        manifest = replace(manifest, output="points", batch=1)
    (folder / MANIFEST_NAME).write_text(manifest.to_json())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime 2.14 is for Python up to 3.11")
def test_every_precision_gives_there_what_it_gives_here(lively_supernet: HRSuperNet, tmp_path: Path) -> None:
    """In an environment of its own, because it needs an older NumPy, with nothing but what a device needs."""
    faces = np.random.default_rng(0).normal(size=(8, SIZE, SIZE, 3)).astype(np.float32)
    write_litert(lively_supernet, SIZE, tmp_path / "float.tflite")
    ranges = litert_ranges(tmp_path / "float.tflite", [face[None] for face in faces])
    folders = {str(scheme): tmp_path / str(scheme) for scheme in (None, *SCHEMES)}
    for scheme in (None, *SCHEMES):
        write_bundle_of(tmp_path / "float.tflite", scheme, ranges, folders[str(scheme)])
    write_litert(lively_supernet, SIZE, tmp_path / "points.tflite", "local-softmax")
    folders["decoded"] = tmp_path / "decoded"
    write_bundle_of(tmp_path / "points.tflite", None, None, folders["decoded"])

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    needed = ["tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless<5"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True, capture_output=True)
    (tmp_path / "site" / "slimalign").mkdir(parents=True)
    (tmp_path / "site" / "slimalign" / "__init__.py").touch()
    shutil.copytree(ROOT / "runtimes", tmp_path / "site" / "slimalign" / "runtimes")
    np.save(tmp_path / "faces.npy", faces[:3])
    places = [str(path) for path in (tmp_path / "site", tmp_path / "faces.npy", *folders.values())]
    done = subprocess.run([python, "-c", RUN_ALL, *places], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    for scheme, folder in folders.items():
        with open_session(read_bundle(folder), 1) as session:
            expected = np.concatenate([session.run(face[None]) for face in faces[:3]])
        difference = np.abs(np.load(folder / "found.npy") - expected).max() / np.abs(expected).max()
        # Its kernels round elsewhere than today's.
        assert difference < (1e-4 if scheme in ("None", "fp16", "decoded") else 0.05), scheme
