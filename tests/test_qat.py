"""Quantisation-aware training: rounding as the files round, and weights that every format takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dots import dot_bench, dot_finder, dotted_faces, uneven_dot_finder
from rich.console import Console
from rich.progress import Progress
from torch import nn

from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export import qat
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.fold import folded
from slimalign.export.gate import GateError
from slimalign.export.qat import (
    FakeInt8,
    FakeInt8Conv,
    QuantisationAware,
    retrained,
    self_distillation_loss,
    with_norms_in_convolutions,
)
from slimalign.export.subject import ExportSubject
from slimalign.export.uneven import uneven, write_uneven
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.export_jobs import ExportJob, RescueBy, Rescuer, write_bundles
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def rounding(least: float, largest: float, symmetric: bool) -> FakeInt8:
    fake = FakeInt8().eval()
    fake(torch.tensor([least, largest]))
    fake.observing, fake.symmetric = False, symmetric
    return fake


def test_symmetric_rounding_has_127_steps_on_either_side() -> None:
    fake = rounding(-1.0, 2.0, symmetric=True)
    step = 2 / 127
    found = fake(torch.tensor([0.0, 0.4 * step, 0.6 * step, -1.0, 5.0, -5.0]))
    torch.testing.assert_close(found / step, torch.tensor([0.0, 0, 1, -64, 127, -128]))


def test_asymmetric_rounding_has_255_steps_from_least_to_largest_and_keeps_zero() -> None:
    """From -1 to 3 a step is 4/255, and 0 the 64th of them: 63.75 rounded."""
    fake = rounding(-1.0, 3.0, symmetric=False)
    step = 4 / 255
    found = fake(torch.tensor([0.0, 0.6 * step, -9.0, 9.0]))
    torch.testing.assert_close(found / step, torch.tensor([0.0, 1, -64, 191]))
    # After a ReLU all of the steps lie above 0.
    positive = rounding(0.5, 3.0, symmetric=False)
    torch.testing.assert_close(positive(torch.tensor([0.0, 3.0])), torch.tensor([0.0, 3.0]))


def test_gradients_pass_inside_the_range_alone() -> None:
    x = torch.tensor([0.3, 1.9, 5.0], requires_grad=True)
    rounding(-2.0, 2.0, symmetric=True)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


def test_ranges_follow_the_activations_in_training_alone() -> None:
    fake = rounding(0.0, 2.0, symmetric=True)
    fake(torch.tensor([0.0, 4.0]))
    assert fake.get_buffer("extremes").tolist() == [0.0, 2.0]
    fake.train()
    fake(torch.tensor([-1.0, 4.0]))
    assert fake.get_buffer("extremes").tolist() == pytest.approx([-0.1, 2.2])


def test_a_convolution_multiplies_rounded_values_by_rounded_weights() -> None:
    conv = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.27, 0.014], [-2.54, 0.031]])[:, :, None, None])
        conv.bias.zero_()
    fake = FakeInt8Conv(conv).eval()
    fake(torch.tensor([0.0, 12.7]).view(1, 2, 1, 1))
    fake.taken.observing = False
    found = fake(torch.tensor([1.02, 10.0]).view(1, 2, 1, 1))
    # Inputs round to 1.0 and 10.0; of the first channel's weights a step is 0.01, of the second's 0.02.
    assert found.flatten().tolist() == pytest.approx(
        [1.27 * 1.0 + 0.01 * 10, -2.54 * 1.0 + 0.04 * 10], rel=1e-5
    )


def test_norms_and_factors_go_into_the_convolutions(lively_supernet: HRSuperNet) -> None:
    plain = with_norms_in_convolutions(lively_supernet)
    assert type(plain) is HRSuperNet
    with torch.inference_mode():
        expected, found = lively_supernet(images()), plain(images())
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    exported = {name: p for name, p in folded(lively_supernet).named_parameters() if name.startswith("stem")}
    for name in ("stem.0.weight", "stem.3.weight"):
        torch.testing.assert_close(plain.get_parameter(name), exported[name], rtol=1e-5, atol=1e-6)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.detach().square().tolist() == pytest.approx(
                [1 + module.eps] * module.num_features
            )


def test_the_aware_network_computes_what_the_file_by_tensorrts_rules_does(tmp_path: Path) -> None:
    """But for the head, which the file leaves in float, and the additions' other branches."""
    bench = dot_bench(dotted_faces(32), dotted_faces(4, seed=100))
    bundle = write_bundle(tmp_path / "dots", bench, "onnx-int8-tensorrt")
    aware = QuantisationAware(with_norms_in_convolutions(bench.subject.network)).eval()
    aware.observe(torch.from_numpy(bench.calibration_inputs("NCHW")))
    inputs = network_inputs(bench.parity_crops, bundle.manifest)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle.model_path), providers=["CPUExecutionProvider"])
    (file,) = session.run(None, {"image": inputs})
    with torch.inference_mode():
        found = aware(torch.from_numpy(inputs)).numpy()
        exact = bench.subject.network(torch.from_numpy(inputs)).numpy()
    rounded = float(np.abs(file - exact).mean())
    assert 0 < float(np.abs(found - file).mean()) < 0.5 * rounded


def test_the_loss_is_nothing_where_the_heatmaps_are_the_same() -> None:
    target = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert float(self_distillation_loss(target, target)) == pytest.approx(0, abs=1e-6)
    # The squared error alone where all of a heatmap is shifted: the softmax does not change.
    assert float(self_distillation_loss(target, target + 0.5)) == pytest.approx(
        0.25 / float(target.var()), rel=1e-4
    )


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(quiet=True), disable=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long and as fast as a network of next to no weights needs."""
    monkeypatch.setattr(qat, "EPOCHS", 20)
    monkeypatch.setattr(qat, "PEAK", 3e-3)


@pytest.mark.usefixtures("quick")
def test_training_makes_a_file_pass_that_did_not(tmp_path: Path, progress: Progress) -> None:
    bench = dot_bench(dotted_faces(64), dotted_faces(16, seed=100), network=uneven_dot_finder())
    job = ExportJob(tmp_path, bench, "onnx-int8-tensorrt")
    with pytest.raises(GateError, match="at most 1 % worse is allowed"):
        job.write(progress)
    rescuer = Rescuer(bench, tmp_path / "training", RescueBy(blocks=True, training=True), progress)
    # Blocks do not do here: the one that is hurt holds most of the multiply-adds.
    (bundle,), failures = write_bundles([job], progress, rescuer)
    assert failures == []
    kept = json.loads((bundle.folder / "rescue.json").read_text())
    assert kept["training"] == {"epochs": 20, "batch": 16, "peak_learning_rate": 3e-3, "seed": 0, "faces": 64}
    assert (kept["float_blocks"], kept["alone"]) == ([], {})
    assert kept["all_int8"]["nme"] > 1.01 * kept["network_nme"]
    assert kept["all_int8"]["strain"] == pytest.approx(
        100 * (kept["all_int8"]["nme"] / kept["network_nme"] - 1)
    )
    assert bundle.manifest.gate is not None
    assert bundle.manifest.gate["loss"] <= 1
    assert bundle.manifest.int8_share == 1


@pytest.mark.usefixtures("quick")
def test_a_finished_training_is_taken_as_it_is_and_belongs_to_its_network_and_faces(
    tmp_path: Path, progress: Progress
) -> None:
    bench = dot_bench(dotted_faces(32), dotted_faces(4, seed=100))
    inputs = torch.from_numpy(bench.calibration_inputs("NCHW"))
    before = {name: tensor.clone() for name, tensor in bench.subject.network.state_dict().items()}

    def trained(network: nn.Module, faces: ExportFaces = bench.faces) -> dict[str, torch.Tensor]:
        subject = bench.with_network(network).subject
        return retrained(subject, inputs, faces, tmp_path, progress).state_dict()

    first = trained(bench.subject.network)
    (folder,) = tmp_path.glob("qat-*")
    written = (folder / "checkpoint.safetensors").stat().st_mtime_ns
    again = trained(bench.subject.network)
    assert (folder / "checkpoint.safetensors").stat().st_mtime_ns == written
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(before[name], now) for name, now in bench.subject.network.state_dict().items())
    assert not torch.equal(first["head.heatmaps.weight"], before["head.heatmaps.weight"])
    trained(dot_finder(encoders=2))
    assert len(list(tmp_path.glob("qat-*"))) == 2
    moved = [dataclasses.replace(face, points=face.points + 1) for face in bench.faces.training]
    trained(bench.subject.network, dataclasses.replace(bench.faces, training=moved))
    assert len(list(tmp_path.glob("qat-*"))) == 3


def test_uneven_channels_compute_the_same(lively_supernet: HRSuperNet) -> None:
    made = uneven(lively_supernet.double(), ["s3_t2_f0"])
    x = images().double()
    with torch.inference_mode():
        torch.testing.assert_close(made(x), lively_supernet(x), rtol=1e-9, atol=1e-9)
    factors = (
        made.transforms["s3_t2_f0"][1].weight / lively_supernet.transforms["s3_t2_f0"][1].weight
    ).detach()
    assert float(factors.max() / factors.min()) == pytest.approx(1000, rel=1e-3)


def test_an_uneven_bundle_is_written_whole_or_not_at_all(lively_supernet: HRSuperNet, tmp_path: Path) -> None:
    subject = ExportSubject("small", lively_supernet, 64, 1.25, "aflw-19", "local-softmax", 4)
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    source = write_bundle(tmp_path / "small", Workbench(subject, crops), "torch")
    with pytest.raises(UserError, match="operation 's9_t9_f9'"):
        write_uneven(source.folder, tmp_path / "made", ["s9_t9_f9"])
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    write_uneven(source.folder, tmp_path / "made", ["s3_t2_f0"])
    made = read_bundle(tmp_path / "made")
    assert (made.manifest.name, made.manifest.format) == ("made", "torch")
    assert made.sha256 != source.sha256
    with pytest.raises(UserError, match="made: is there already; give another place"):
        write_uneven(source.folder, tmp_path / "made", ["s3_t2_f0"])


@pytest.mark.parametrize("name", ["s3_t1_f0", "s9_t9_f9"])
def test_operations_without_two_convolutions_cannot_be_made_uneven(
    name: str, lively_supernet: HRSuperNet
) -> None:
    with pytest.raises(UserError, match=f"operation '{name}': not one of the network's"):
        uneven(lively_supernet, [name])
