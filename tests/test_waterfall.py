"""The steps of a run as files: what is written and measured when one of them fails its check."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from test_latency_table import table_of
from torch import Tensor, nn

from slimalign.benchmarks.points import join
from slimalign.benchmarks.results import append, read
from slimalign.chain import Chain, Distilled
from slimalign.compress.distil import Switches
from slimalign.compress.latency_table import parts_of
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe import Recipe
from slimalign.compress.recipe_file import read_recipe
from slimalign.faces import recipe_faces
from slimalign.runtimes.device_state import device_state
from slimalign.waterfall import export_steps, measure, predicted, waterfall_of, waterfall_table

DEMO = Path(__file__).parent.parent / "recipes" / "demo.toml"
SILENT = Progress(console=Console(quiet=True), disable=True)


class TracedOtherwise(nn.Module):
    """A network whose exported file computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 68, 1))

    def forward(self, images: Tensor) -> Tensor:
        heatmaps: Tensor = self.body(images)
        return heatmaps + 0.01 if torch.onnx.is_in_onnx_export() else heatmaps


def tiny() -> Recipe:
    """The demo's recipe with a few drawn faces and ONNX alone."""
    entries = read_recipe(DEMO).model_dump(mode="json")
    entries["data"] |= {"drawn": {"train": 16, "val": 3, "test": 2, "size": 64}}
    entries["export"]["formats"] = ["onnx"]
    return Recipe.model_validate(entries)


def chain_of(recipe: Recipe, folder: Path) -> Chain:
    faces = recipe_faces(tiny().data, None, False, SILENT)
    return Chain(recipe, faces, folder, Fabric(accelerator="cpu", devices=1), SILENT)


def small_network() -> HRSuperNet:
    """A network whose heatmaps are far from flat, so that rounding does not decide where their peaks are."""
    torch.manual_seed(0)
    network = HRSuperNet(full_architecture(68, 64, 12, (6, 10), stage_count=3, encoders=1)).eval()
    torch.nn.init.normal_(network.head.heatmaps.weight)
    return network


def test_a_file_that_fails_its_check_does_not_keep_the_others_from_being_measured(tmp_path: Path) -> None:
    chain, network = chain_of(tiny(), tmp_path), small_network()
    bundles, failures = export_steps(chain, {"slimmed": network}, TracedOtherwise().eval(), SILENT)
    assert [bundle.folder.name for bundle in bundles] == ["slimmed-torch"]
    failed = tmp_path / "bundles" / "distilled-onnx.failed-parity"
    assert [str(failure).split(":")[0] for failure in failures] == [str(failed)]
    (step,) = measure(chain, bundles, SILENT)
    assert (step.step, step.runtime) == ("slimmed", "pytorch")
    assert step.val_nme == pytest.approx(chain.nme(network), abs=0.01)
    crops = np.load(tmp_path / "parity_crops.npy")
    assert (crops.shape, crops.dtype) == ((3, 64, 64, 3), np.uint8)


def test_what_an_earlier_training_left_is_not_chosen_among(tmp_path: Path) -> None:
    chain, network = chain_of(tiny(), tmp_path), small_network()
    bundles, _ = export_steps(chain, {"teacher": network, "distilled": network}, network, SILENT)
    measure(chain, bundles, SILENT)
    own = read(tmp_path / "results.jsonl").cost[0]
    append(tmp_path / "results.jsonl", [replace(own, bundle="mine", sha256="0" * 64)])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"kind": "cost", "bundle": "cut sho')  # by a kill, within its writing
    other = small_network()
    torch.nn.init.normal_(other.head.heatmaps.weight, std=2.0)
    bundles, failures = export_steps(chain, {"distilled": other}, TracedOtherwise().eval(), SILENT)
    assert len(failures) == 1
    left = sorted(path.name for path in (tmp_path / "bundles").iterdir())
    assert left == ["distilled-onnx.failed-parity", "distilled-torch"]
    assert [record.bundle for record in read(tmp_path / "results.jsonl").cost] == ["mine"]
    measure(chain, bundles, SILENT)
    assert [r.bundle for r in read(tmp_path / "results.jsonl").cost] == ["mine", "distilled"]
    export_steps(chain, {"distilled": other}, other, SILENT)
    left = sorted(path.name for path in (tmp_path / "bundles").iterdir())
    assert left == ["distilled-onnx", "distilled-torch"]


def test_a_run_is_measured_again_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its latencies take the place of those of the first machine; what else was measured there stays."""
    chain, network = chain_of(tiny(), tmp_path), small_network()
    bundles, _ = export_steps(chain, {"teacher": network}, network, SILENT)
    results = tmp_path / "results.jsonl"
    for cpu in ("first", "second"):
        state = {**device_state(), "cpu": cpu}
        monkeypatch.setattr("slimalign.runtimes.sweep_entries.device_state", lambda state=state: state)
        measure(chain, bundles, SILENT)
        if cpu == "first":
            append(results, [replace(read(results).latency[0], batch=8)])
    found = read(results)
    assert [(record.cpu, record.batch) for record in found.latency] == [
        ("first", 8),
        ("second", 1),
        ("second", 1),
    ]
    assert [point.batch for point in join(found, split="val", batch=1, threads=1)] == [1, 1]


def test_a_cut_that_was_made_is_read_back(tmp_path: Path) -> None:
    """Even where the importances would now decide otherwise."""
    recipe = tiny()
    chain = chain_of(recipe, tmp_path)
    supernet = HRSuperNet(recipe.search.supernet(68, 64))
    with torch.no_grad():
        supernet.factors.copy_(torch.linspace(1, 2, len(supernet.factors)))
    cut = chain.student(supernet).architecture
    with torch.no_grad():
        supernet.factors.copy_(supernet.factors.flip(0))
    assert chain.student(supernet).architecture == cut
    (tmp_path / "architecture.json").unlink()
    assert chain.student(supernet).architecture != cut


def test_faces_that_stand_in_for_a_validation_split_are_called_test_faces(tmp_path: Path) -> None:
    chain = chain_of(tiny(), tmp_path)
    chain.faces = replace(chain.faces, val=chain.faces.test)
    assert not chain.faces.has_validation
    bundles, _ = export_steps(chain, {"slimmed": small_network()}, small_network(), SILENT)
    steps = measure(chain, bundles, SILENT)
    assert [step.val_nme for step in steps] == [None, None]
    kinds = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {record["split"] for record in kinds if record["kind"] == "accuracy"} == {"test"}
    text = io.StringIO()
    Console(file=text, width=200).print(waterfall_table(waterfall_of(chain, steps, {})))
    (line,) = (line for line in text.getvalue().splitlines() if "slimmed" in line)
    assert line.split()[:3] == ["slimmed", "pytorch", "-"]


def test_a_student_slimmed_by_a_table_is_shown_as_predicted_and_as_measured(tmp_path: Path) -> None:
    entries = tiny().model_dump(mode="json")
    full = tiny().search.supernet(68, 64)
    times = dict.fromkeys(parts_of(full), 2.0)
    path = tmp_path / "table.json"
    path.write_text(table_of(full, times).to_json())
    entries["slim"] = {"max_ms": 5.0, "latency_table": str(path)}
    chain, network = chain_of(Recipe.model_validate(entries), tmp_path / "run"), small_network()
    student = full.keeping([op for op in full.operations if op.target == op.source == 0])
    bundles, _ = export_steps(chain, {"slimmed": network}, network, SILENT)
    steps = measure(chain, bundles, SILENT)
    found = predicted(chain, student, bundles)
    assert found is not None
    (samples,) = (
        record.samples_ms
        for record in read(tmp_path / "run" / "results.jsonl").latency
        if (record.bundle, record.runtime) == ("distilled", "onnxruntime")
    )
    assert found.predicted_ms == 2.0 * sum(parts_of(student).values())
    assert found.measured_ms == pytest.approx(np.percentile(samples, 5))
    waterfall = waterfall_of(chain, steps, {}, found)
    told = json.loads(waterfall.to_json())["prediction"]
    assert (told["predicted_ms"], told["measured_ms"]) == (found.predicted_ms, found.measured_ms)
    text = io.StringIO()
    Console(file=text, width=200).print(waterfall_table(waterfall))
    line = (
        f"5th percentile: predicted {found.predicted_ms:.2f} ms on local (a processor), threads 1; measured"
    )
    assert f"student in onnx, {line} {found.measured_ms:.2f} ms here on 1 thread" in " ".join(
        text.getvalue().split()
    )
    # A table of a format that the run does not export.
    path.write_text(table_of(full, times).model_copy(update={"format": "litert"}).to_json())
    other = predicted(chain, student, bundles)
    assert other is not None
    assert (other.predicted_ms, other.measured_ms) == (found.predicted_ms, None)
    plain = chain_of(tiny(), tmp_path / "run")
    assert predicted(plain, student, bundles) is None


def test_the_chosen_student_bears_the_rows_name() -> None:
    first, second = small_network(), small_network()
    assert Distilled(Switches(), [first, second]).named == {"distilled": first, "distilled-other": second}
    assert Distilled(Switches(False, False, False), [first]).named == {"fine-tuned": first}
