"""Without an extra's packages: each command names the extra, and what needs none works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line.place import COMMANDS, ROOT, Place, boxed

from slimalign.extras import EXTRAS


def test_every_extra_in_the_table_brings_its_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    brought = dict(re.findall(r"^(\w+) = \[(\".*\")\]$", text, re.M))
    for package, extra in EXTRAS.items():
        assert re.search(rf'"{package.replace("_", "-")}(-python)?[">=]', brought[extra]), (package, extra)


BARE = """
import builtins, contextlib, io, json, sys
blocked, commands = json.loads(sys.argv[1])
usual = builtins.__import__
def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    if name.split(".")[0] in blocked and (globals or {}).get("__name__", "").startswith("slimalign"):
        raise ModuleNotFoundError(name, name=name)
    return usual(name, globals, locals, fromlist, level)
builtins.__import__ = refusing
for name in blocked:
    if name != "pydantic":  # newer typers import it for themselves
        sys.modules[name] = None
from slimalign.cli import main
endings = []
for command in commands:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(command)
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
    endings.append([status, told.getvalue()])
print(json.dumps(endings))
"""


def endings(blocked: list[str], commands: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Status and standard error of each command where the ``blocked`` packages are not installed.

    That the machine is busy with other tests, which ``bench`` tells, is left out.
    """
    arguments = [sys.executable, "-c", BARE, json.dumps([blocked, commands])]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=folder)
    found = json.loads(done.stdout)
    return [
        (status, "".join(line for line in told.splitlines(keepends=True) if "it was busy" not in line))
        for status, told in found
    ]


def test_without_any_extra_each_command_names_the_one_it_needs(place: Place, tmp_path: Path) -> None:
    faces = ["--data", str(place.data), "--data-format", "folder"]
    photo = [str(place.data / "0.png"), "--box", boxed(0)]
    recipe, onnx, torch = str(ROOT / "recipes" / "demo.toml"), str(place.onnx), str(place.torch)
    # A report needs a point with latency and NME before it draws.
    bench = ["bench", onnx, "--batch", "1", "--threads", "1"]
    held = [["eval", onnx, *faces, "--split", "val"], bench]
    assert [status for status, _ in endings([], held, tmp_path)] == [0, 0]
    needs = {
        "train": [
            ["demo"],
            ["run", recipe],
            ["slim", "a-run", "--max-gmacs", "1"],
            ["export", torch],
            ["profile", "hrsupernet"],
            ["eval", torch, *faces],
            ["predict", *photo, "--bundle", torch],
        ],
        "onnxruntime": [["eval", onnx, *faces], bench, ["predict", *photo, "--bundle", onnx]],
        "report": [["report", "results.jsonl"]],
        "export": [["lint", onnx, "--target", "orin-nano"]],
    }
    commands = [(extra, command) for extra, listed in needs.items() for command in listed]
    found = endings(list(EXTRAS), [command for _, command in commands], tmp_path)
    for (extra, command), (status, told) in zip(commands, found, strict=True):
        assert (status, len(told.splitlines())) == (2, 1), (command, told)
        assert told.endswith(f"is not installed; run pip install 'slimalign[{extra}]'\n"), (command, told)
    free = [
        ["--help"],
        *([name, "--help"] for name in COMMANDS),
        ["pick", "results.jsonl"],
        ["profile", onnx],
        ["targets"],
    ]
    assert [status for status, _ in endings(list(EXTRAS), free, tmp_path)] == [0] * len(free)


def test_one_inference_library_is_all_that_measuring_and_predicting_take(
    place: Place, tmp_path: Path
) -> None:
    faces = ["--data", str(place.data), "--data-format", "folder"]
    onnx, photo = str(place.onnx), [str(place.data / "0.png"), "--box", boxed(0)]
    commands = [
        ["eval", onnx, *faces, "--split", "val"],
        ["bench", onnx, *faces, "--batch", "1", "--threads", "1"],
        ["predict", *photo, "--bundle", onnx],
        ["pick", "results.jsonl"],
        ["profile", onnx],
    ]
    blocked = [package for package in EXTRAS if package != "onnxruntime"]
    assert endings(blocked, commands, tmp_path) == [(0, "")] * len(commands)


def test_lint_for_tensorrt_takes_onnx_alone(place: Place, tmp_path: Path) -> None:
    blocked = [package for package in EXTRAS if package != "onnx"]
    command = ["lint", str(place.onnx), "--target", "orin-nano"]
    assert endings(blocked, [command], tmp_path) == [(0, "")]


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("lightning_fabric", "slim a-run --max-gmacs 1"),
        ("pydantic", "profile hrsupernet"),
        ("safetensors", "export {torch}"),
        ("onnx", "export {torch} --formats onnx"),
        ("litert_torch", "export {torch} --formats litert"),
        ("h5py", "eval {torch} --data cofw --data-format cofw"),
    ],
)
def test_a_single_package_that_is_missing_is_named(
    place: Place, tmp_path: Path, package: str, command: str
) -> None:
    (tmp_path / "cofw").mkdir()
    (tmp_path / "cofw" / "COFW_test_color.mat").write_bytes(b"never read")
    words = [word.format(torch=place.torch) for word in command.split()]
    ((status, told),) = endings([package], [words], tmp_path)
    assert (status, len(told.splitlines())) == (2, 1), told
    assert package.replace("_", "-") in told.replace("_", "-")
    assert told.endswith(f"pip install 'slimalign[{EXTRAS[package]}]'\n")
