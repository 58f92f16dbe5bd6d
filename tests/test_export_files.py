"""ONNX and LiteRT files: their graphs are what devices need, their heatmaps are PyTorch's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_manifest import small_manifest
from torch import Tensor, nn

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.export.bundle_writer import write_bundle
from slimalign.export.litert_from_torch import write_litert
from slimalign.export.litert_graph import LiteRtGraph, read_litert_graph
from slimalign.export.onnx_from_torch import write_onnx
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import Workbench
from slimalign.runtimes.bundle import Bundle, read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import heatmaps_nchw

SIZE = 64


def randomised(network: HRNet | HRSuperNet) -> nn.Module:
    """Statistics, scales, shifts, factors and the heatmaps' layer as far from their start as training takes them."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3, generator=rng)
                module.running_var.uniform_(0.5, 2, generator=rng)
                module.weight.uniform_(0.2, 0.6, generator=rng)
                module.bias.normal_(0, 0.3, generator=rng)
        network.head.heatmaps.weight.normal_(0, 0.3, generator=rng)
        if isinstance(network, HRSuperNet):
            network.factors.uniform_(0.1, 1.3, generator=rng)
    return network.eval()


@pytest.fixture(scope="module")
def supernet() -> nn.Module:
    return randomised(HRSuperNet(full_architecture(19, SIZE, 16, (8, 16), stage_count=3, encoders=1)))


@pytest.fixture(scope="module")
def onnx_file(supernet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(supernet, SIZE, path)
    return path


@pytest.fixture(scope="module")
def litert_bundle(supernet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The one conversion of this file, which takes seconds: as a whole bundle."""
    subject = ExportSubject("small", supernet, SIZE, 1.25, "aflw-19", "local-softmax", 4)
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    return write_bundle(tmp_path_factory.mktemp("litert") / "small", Workbench(subject, crops), "litert")


def onnx_bundle(path: Path) -> Bundle:
    """A bundle around an ONNX file."""
    return Bundle(path.parent, small_manifest(path.parent, (path.name,), "onnx", SIZE))


def assert_same_heatmaps(bundle: Bundle, network: nn.Module) -> None:
    """At every batch size, one after the other in one session, to the issue's 1e-4."""
    faces = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = network(faces).numpy()
    scale = max(1.0, float(np.abs(expected).max()))
    inputs = faces.numpy() if bundle.manifest.layout == "NCHW" else faces.permute(0, 2, 3, 1).numpy()
    with open_bundle(bundle, threads=1) as session:
        for batch in (1, 2, 4, 8, 3, 1):
            found = heatmaps_nchw(session.run(np.ascontiguousarray(inputs[:batch])), bundle.manifest)
            np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=1e-4 * scale)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_onnx_gives_the_heatmaps_of_pytorch_at_every_batch_size(onnx_file: Path, supernet: nn.Module) -> None:
    assert_same_heatmaps(onnx_bundle(onnx_file), supernet)


def test_litert_gives_the_heatmaps_of_pytorch_at_every_batch_size(
    litert_bundle: Bundle, supernet: nn.Module
) -> None:
    assert_same_heatmaps(litert_bundle, supernet)


def test_the_litert_bundle_says_what_it_holds(litert_bundle: Bundle) -> None:
    assert read_bundle(litert_bundle.folder) == litert_bundle
    manifest = litert_bundle.manifest
    assert (manifest.format, manifest.layout) == ("litert", "NHWC")
    assert (manifest.precision, manifest.batch) == ("fp32", None)
    assert [path.name for path in litert_bundle.folder.parent.iterdir()] == ["small"]
    assert manifest.model == "model.tflite"
    assert list(manifest.files) == ["model.tflite", "golden.png", "golden.json"]
    assert set(manifest.tools) == {"slimalign", "torch", "litert-torch", "litert-converter"}


def test_the_teacher_goes_through_onnx(tmp_path: Path) -> None:
    teacher = randomised(HRNet(19, width=2))
    write_onnx(teacher, SIZE, tmp_path / "teacher.onnx")
    assert_same_heatmaps(onnx_bundle(tmp_path / "teacher.onnx"), teacher)


def test_onnx_has_its_names_and_a_dynamic_batch(onnx_file: Path) -> None:
    graph = onnx.load(str(onnx_file)).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"image": ["batch", 3, 64, 64], "heatmaps": ["batch", 19, 16, 16]}


@pytest.mark.parametrize("opset", [13, 17])
def test_onnx_is_of_the_opset_asked_for(opset: int, supernet: nn.Module, tmp_path: Path) -> None:
    write_onnx(supernet, SIZE, tmp_path / "model.onnx", opset=opset)
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)


def test_onnx_holds_its_weights_and_only_fused_operations(onnx_file: Path) -> None:
    """Two identities of the six operations keep a factor: in stage 3, level by level."""
    model = onnx.load(str(onnx_file), load_external_data=False)
    assert not [tensor for tensor in model.graph.initializer if tensor.external_data]
    assert [file.name for file in onnx_file.parent.iterdir()] == ["model.onnx"]
    found = kinds(model)
    assert found["BatchNormalization"] == 0
    assert found["Mul"] == 2
    assert set(found) <= {"Conv", "Relu", "Clip", "Add", "Mul", "Resize", "Concat", "Constant", "Identity"}


def test_onnx_resizes_by_constant_scales_with_half_pixel_centres(onnx_file: Path) -> None:
    model = onnx.load(str(onnx_file))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    # Into level 0 in stage 3, and before the head.
    assert len(resizes) == 2
    for node in resizes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes["coordinate_transformation_mode"] == b"half_pixel"
        assert attributes["mode"] == b"linear"
        assert len(node.input) == 3
        np.testing.assert_array_equal(constants[node.input[2]], [1, 1, 2, 2])


def test_litert_has_no_transpose_and_half_pixel_centres(litert_bundle: Bundle) -> None:
    graph = read_litert_graph(litert_bundle.model_path)
    assert graph.faults() == []
    assert graph.operations["TRANSPOSE"] == 0
    assert graph.operations["RESIZE_BILINEAR"] == graph.half_pixel_resizes == 2
    assert graph.operations["MUL"] == 2
    assert graph.operations["CONV_2D"] > 0


def test_a_litert_graph_that_moves_layouts_or_pixels_is_refused() -> None:
    graph = LiteRtGraph(
        Counter(TRANSPOSE=3, RESIZE_BILINEAR=3, RESIZE_NEAREST_NEIGHBOR=1),
        half_pixel_resizes=1,
        transposed=((1, 16, 16, 68), (1, 68, 16, 16), (68, 5, 5, 8)),
    )
    assert graph.faults()[0].startswith("3 TRANSPOSE")
    # Regions of a cascade may be laid out anew.
    transposes, half_pixels, nearest = graph.faults(region=5)
    assert transposes.startswith("2 TRANSPOSE")
    assert half_pixels.startswith("2 of 3 resizes")
    assert nearest.startswith("1 resizes are not bilinear")


class Resized(nn.Module):
    """A network whose resize no device should get."""

    def __init__(self, resize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 19, 1)
        self.resize = resize

    def forward(self, images: Tensor) -> Tensor:
        return self.resize(self.conv(images))


def test_onnx_refuses_a_resize_with_aligned_corners(tmp_path: Path) -> None:
    def aligned(x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)

    with pytest.raises(UserError, match="half-pixel"):
        write_onnx(Resized(aligned), SIZE, tmp_path / "model.onnx")


def test_a_failed_conversion_is_one_line(tmp_path: Path) -> None:
    """An input that the levels do not fit on fails inside the converter's process."""
    network = HRSuperNet(full_architecture(19, SIZE, 16, (8, 16), stage_count=3, encoders=1))
    with pytest.raises(UserError) as caught:
        write_litert(network, 66, tmp_path / "model.tflite")
    message = str(caught.value)
    assert str(tmp_path / "model.tflite") in message
    assert "litert-torch could not convert the network" in message
    assert "\n" not in message
    assert not (tmp_path / "model.tflite").exists()
