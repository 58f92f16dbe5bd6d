"""The verbs that make things: what they refuse before any work is done, and that they speak only when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from small_manifest import small_manifest

from slimalign import api, making
from slimalign.compress.recipe import SlimRecipe
from slimalign.compress.recipe_file import read_recipe
from slimalign.export_jobs import raise_all
from slimalign.run_names import RUN_NAME
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import write_image
from slimalign.runtimes.errors import CheckError, UserError

DEMO = read_recipe(Path(__file__).parent.parent / "recipes" / "demo.toml")


WHOLE = "the whole supernet is within the budget, it has .*; lower max_gmacs"
NONE = (
    r"no student meets the budget, every one has at least \d+ parameters and 0\.00\d+ G .*; raise max_gmacs"
)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_gmacs": 0.1}, WHOLE),
        ({"max_params": 10**7}, WHOLE),
        ({"max_gmacs": 0.001}, NONE),
        ({"max_gmacs": 0.01, "max_params": 1000}, NONE),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_any_training(
    tmp_path: Path, budget: dict[str, Any], said: str
) -> None:
    recipe = DEMO.model_copy(update={"slim": SlimRecipe(**budget)})
    with pytest.raises(UserError, match=f"slim: {said}"):
        api.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_silent_run_stays_silent_after_its_processes_have_started() -> None:
    progress = Progress(console=Console(quiet=True), disable=True)
    making._launched(DEMO, 1, 1, progress)
    assert progress.console.quiet


@pytest.mark.parametrize(
    ("architecture", "extensions", "emulated"),
    [
        ("x86_64", set(), True),
        ("x86_64", {"avx512_bf16"}, False),
        ("x86_64", {"amx_bf16"}, False),
        ("x86_64", {"avx2"}, True),
        ("aarch64", set(), False),
    ],
)
def test_a_processor_without_bfloat16_is_known(
    monkeypatch: pytest.MonkeyPatch, architecture: str, extensions: set[str], emulated: bool
) -> None:
    told = {"architecture": architecture, **dict.fromkeys(extensions, True)}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    recipe = DEMO.model_copy(update={"precision": "bf16-mixed"})
    assert making._is_slow_in_bf16(recipe, torch.device("cpu")) == emulated
    assert not making._is_slow_in_bf16(recipe, torch.device("cuda"))
    assert not making._is_slow_in_bf16(DEMO, torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not making._is_slow_in_bf16(recipe, torch.device("cpu"))


def test_an_earlier_cut_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "bundles" / "half-torch").mkdir(parents=True)
    with pytest.raises(UserError, match=r"--name 'half': .*half-torch is there already; give another"):
        api.slim(tmp_path, max_gmacs=0.01, name="half")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "slim: give either threshold, or max_gmacs, max_params and/or max_ms"),
        ({"max_gmacs": -1.0}, r"slim: max_gmacs = -1\.0: Input should be greater than 0"),
    ],
)
def test_a_cut_that_cannot_be_names_its_value(tmp_path: Path, limits: dict[str, Any], said: str) -> None:
    entries = {**DEMO.model_dump(mode="json"), "faces": {}}
    (tmp_path / RUN_NAME).write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        api.slim(tmp_path, **limits)


def test_a_drawing_does_not_take_the_photos_place(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    write_image(photo, np.zeros((40, 40, 3), np.uint8))
    before, manifest = photo.read_bytes(), small_manifest(tmp_path, ("photo.png",), "onnx", 32)
    with pytest.raises(UserError, match=r"--out .*photo\.png: is the photo itself; give another name"):
        api.predict(Bundle(tmp_path, manifest), photo, out=tmp_path / "a" / ".." / "photo.png")
    assert photo.read_bytes() == before


def test_a_run_of_which_a_stage_is_trained_anew_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "bundles" / "distilled-torch").mkdir(parents=True)
    with pytest.raises(UserError, match="neither a finished run nor a PyTorch bundle"):
        api.export(tmp_path, ["onnx"], tmp_path / "out")


def test_all_failed_checks_are_told_in_one_line() -> None:
    raise_all([])
    with pytest.raises(CheckError, match="^a.onnx: bad; b.tflite: worse$"):
        raise_all([CheckError("a.onnx: bad"), CheckError("b.tflite: worse")])
