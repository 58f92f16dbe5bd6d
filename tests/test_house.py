"""The house's own rules: floors, packaging, imports, the command line's face."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"runtimes": 1, "targets": 1, "compress": 2, "benchmarks": 3, "export": 4}
ROOF = 5


def sources(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())


def imported(path):
    """Every slimalign module that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("folder", FLOORS)
def test_imports_go_down_only(folder):
    for path in sources(folder):
        for name in imported(path):
            if not name.startswith("slimalign"):
                continue
            top = name.removeprefix("slimalign").lstrip(".").split(".")[0]
            assert top in FLOORS, f"{path} imports the roof: {name}"
            assert FLOORS[top] <= FLOORS[folder], f"{path} imports upwards: {name}"
            assert (folder, top) != ("runtimes", "targets"), f"{path} imports targets"


@pytest.mark.parametrize("folder", ["runtimes", "targets", "compress/data"])
def test_the_ground_floor_and_the_data_never_import_torch(folder):
    for path in sources(folder):
        assert not {name for name in imported(path) if name.split(".")[0] in ("torch", "lightning_fabric")}, (
            path
        )


def test_importing_what_runs_on_a_device_loads_neither_torch_nor_pydantic():
    code = (
        "import sys, slimalign.predicting, slimalign.runtimes.opening, slimalign.compress.data.splits;"
        "print([m for m in ('torch', 'pydantic', 'onnxruntime', 'matplotlib', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_folder_of_the_house_is_imported_by_its_bare_name():
    import slimalign.compress.data.splits
    import slimalign.runtimes.aligner  # noqa: F401

    assert not set(FLOORS) & {name.split(".")[0] for name in sys.modules}


def listed_packages():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^packages = \[(.*?)\]", text, re.S | re.M).group(1)
    return set(re.findall(r'"(slimalign[\w.]*)"', block))


def test_every_package_is_listed():
    found = {"slimalign"}
    for folder in (*FLOORS, "recipes"):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(["slimalign", *init.parent.relative_to(ROOT).parts]))
    for init in (ROOT / "slimalign").glob("*/__init__.py"):
        if not init.parent.is_symlink():
            found.add(f"slimalign.{init.parent.name}")
    assert found == listed_packages()


def test_the_wheel_holds_every_module_and_the_data_and_no_more(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    own = [str(path.relative_to(ROOT)) for path in sources("slimalign")]
    linked = [f"slimalign/{p.relative_to(ROOT)}" for folder in (*FLOORS, "recipes") for p in sources(folder)]
    recipes = [f"slimalign/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")]
    assert len(recipes) >= 5
    tables = [f"slimalign/{p.relative_to(ROOT)}" for p in ROOT.glob("export/lint/*.toml")]
    profiles = [f"slimalign/{p.relative_to(ROOT)}" for p in (ROOT / "targets").rglob("*.toml")]
    assert (len(tables), len(profiles)) == (2, 15)
    page = [f"slimalign/benchmarks/report_page/{name}" for name in ("page.css", "page.html", "page.js")]
    published = [
        "slimalign/compress/networks/published_students.json",
        "slimalign/benchmarks/report_page/published.json",
    ]
    data = ["slimalign/py.typed", *published, *page, *tables, *profiles]
    assert sorted(names) == sorted([*own, *linked, *recipes, *data])


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "slimalign", "profile", "nowhere"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("slimalign: network 'nowhere' is unknown; ")
    assert done.stdout == ""


def test_importing_the_verbs_loads_no_extra():
    code = (
        "import sys, slimalign.api;"
        "print([m for m in ('torch', 'pydantic', 'onnxruntime', 'matplotlib', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
