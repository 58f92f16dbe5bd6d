"""The command line in this process, and a real tiny bundle to give it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line.place import FACES, Command, Done, Place

from slimalign.cli import main
from slimalign.compress.networks.architecture import Architecture, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe_file import read_recipe
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import Workbench
from slimalign.runtimes.drawing import write_image

RECIPES = Path(__file__).parents[2] / "recipes"
SIZE = 64


@pytest.fixture
def slimalign(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Done(status, *capfd.readouterr())

    return call


def lively(architecture: Architecture) -> HRSuperNet:
    """A network whose heatmaps are not flat, as those of a fresh one are."""
    network, rng = HRSuperNet(architecture), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=rng))
    return network.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    data = folder / "faces [a]"
    data.mkdir()
    rows = [["image", *(f"{axis}{i}" for i in range(19) for axis in "xy"), "subsets"]]
    for number, face in enumerate(FACES):
        write_image(data / f"{number}.png", face.load())
        # Every second face is in a subset, the last in two.
        labels = ["even"] * (number % 2 == 0) + ["last"] * (face is FACES[-1])
        rows.append([f"{number}.png", *(str(value) for value in face.points.ravel()), ";".join(labels)])
    for split in ("val", "test"):
        with (data / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    network = lively(full_architecture(19, SIZE, 12, (6, 10, 14), stage_count=4, encoders=1))
    subject = ExportSubject("small [b]", network, SIZE, 1.25, "aflw-19", "local-softmax", 4)
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    for kind in ("onnx", "torch"):
        write_bundle(folder / kind, Workbench(subject, crops), kind)
    run = folder / "run"
    write_bundle(run / "bundles" / "distilled-torch", Workbench(subject, crops), "torch")
    recipe = read_recipe(RECIPES / "demo.toml")
    (run / "run.json").write_text(json.dumps({**recipe.model_dump(mode="json"), "faces": {}}))
    (run / "waterfall.json").write_text("{}")
    return Place(data, folder / "onnx", folder / "torch", run)
