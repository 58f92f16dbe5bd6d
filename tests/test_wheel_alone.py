"""The wheel alone, with its base and one inference library from the package index, in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cells import CROPS, expected_points, onnx_bundle

from slimalign.runtimes.bundle import MANIFEST_NAME
from slimalign.runtimes.drawing import write_image

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch", "pydantic", "scipy", "h5py", "matplotlib", "altair", "vl_convert_python", "jinja2", "safetensors",
    "lightning_fabric", "onnx", "ai_edge_litert",
}  # fmt: skip
WHOLE = "-0.5,-0.5,15.5,15.5"


@dataclass(frozen=True)
class Installed:
    """An environment with slimalign in it, and a folder to work in."""

    programs: Path
    folder: Path

    def run(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, of which nothing outside is seen."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.programs / program), *options],
            cwd=self.folder,
            env=kept | {"XDG_CACHE_HOME": str(self.folder / "cache"), "NO_COLOR": "1"},
            check=False,
            capture_output=True,
            text=True,
        )

    def python(self, code: str) -> str:
        """What ``code`` prints."""
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder / "venv", with_pip=True)
    made = Installed(folder / "venv" / ("Scripts" if os.name == "nt" else "bin"), folder)
    pins = str(ROOT / "constraints.txt")
    options = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", pins)
    done = made.run("python", *options, f"slimalign[onnxruntime] @ {wheel.as_uri()}")
    if "NewConnectionError" in done.stderr or "NameResolutionError" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def packed(installed: Installed) -> Path:
    """A zip beside its folder ``cells``, and a photo of twice a crop's size."""
    folder = installed.folder / "cells"
    folder.mkdir()
    bundle = onnx_bundle(folder)
    bundle.write_zip(folder.with_suffix(".zip"))
    write_image(installed.folder / "photo.png", CROPS[0].repeat(2, axis=0).repeat(2, axis=1))
    return folder.with_suffix(".zip")


def test_nothing_heavy_is_installed(installed: Installed) -> None:
    code = "import importlib.metadata as m; print(*(d.name.lower().replace('-', '_') for d in m.distributions()))"
    names = set(installed.python(code).split())
    assert {"slimalign", "numpy", "opencv_python_headless", "onnxruntime"} <= names
    assert not names & HEAVY


def readme_snippet() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "Aligner" in block)
    return str(snippet)


@pytest.mark.parametrize("name", ["cells", "cells.zip"])
def test_the_readmes_lines_run_a_bundle(installed: Installed, packed: Path, name: str) -> None:
    code = readme_snippet()
    for shown, meant in {
        "photo.jpg": "photo.png",
        "slimalign-demo/bundles/distilled-litert": name,
        "[80, 60, 280, 260]": "[-0.5, -0.5, 31.5, 31.5]",
    }.items():
        assert code.count(shown) == 1
        code = code.replace(shown, meant)
    loaded = "import sys; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    points, modules = installed.python(
        f"import json\n{code}\nprint(json.dumps(points.tolist()))\n{loaded}"
    ).splitlines()
    np.testing.assert_allclose(json.loads(points), 2 * expected_points(1) + 0.5, atol=1e-9)
    assert not {*HEAVY, "typer", "rich"} & set(json.loads(modules))


def test_predict_and_lint_run(installed: Installed, packed: Path) -> None:
    box = "-0.5,-0.5,31.5,31.5"
    done = installed.run("slimalign", "predict", "photo.png", "--bundle", packed.name, "--box", box, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (face,) = json.loads(done.stdout)["faces"]
    np.testing.assert_allclose(face["points"], 2 * expected_points(1)[0] + 0.5, atol=1e-9)
    assert installed.run("slimalign", "--help").returncode == 0


def test_what_is_not_installed_is_told_in_one_line(installed: Installed, packed: Path) -> None:
    exported = installed.run("slimalign", "export", packed.name)
    assert (exported.returncode, exported.stdout) == (2, "")
    assert re.fullmatch(
        r"slimalign: \w+ is not installed; run pip install 'slimalign\[\w+\]'\n", exported.stderr
    )
    other = installed.folder / "litert"
    other.mkdir()
    for file in (installed.folder / "cells").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((other / MANIFEST_NAME).read_text())
    (other / MANIFEST_NAME).write_text(json.dumps({**manifest, "format": "litert"}))
    done = installed.run("slimalign", "predict", "photo.png", "--bundle", "litert", "--box", WHOLE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"slimalign: {Path('litert') / 'model.onnx'}: LiteRT is not installed; run pip install 'slimalign[litert]'"
    ]
