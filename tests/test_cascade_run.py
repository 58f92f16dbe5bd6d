"""A cascade from recipe to files: trained on drawn faces, cut, exported, and refused where it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimalign import api
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.results import read
from slimalign.cascade_chain import teacher_of_cascade
from slimalign.compress.boundary import boundary_segments
from slimalign.compress.cascade_losses import AdaptiveWingLoss
from slimalign.compress.cascade_recipe import CascadeRecipe
from slimalign.compress.cascade_training import CascadeTask
from slimalign.compress.data.drawn import drawn_samples
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.losses import gaussian_heatmaps
from slimalign.compress.networks.architecture import full_architecture
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.cascade_shape import CascadeShape, HourglassShape, RegressionShape
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.recipe_file import read_recipe
from slimalign.compress.stage_curve import StageFigures, proposed_stages, stage_figures
from slimalign.compress.teachers import LandmarkTeacher, Taught, taught_by
from slimalign.compress.torch_files import read_network, write_network
from slimalign.export.bundle_writer import write_bundle, write_unjudged
from slimalign.export.coordinate_parts import has_coordinates
from slimalign.export.formats import FORMATS
from slimalign.export.litert_model import read_litert_model
from slimalign.export.onnx_graph import read_onnx_graph
from slimalign.export.subject import ExportSubject
from slimalign.export.workbench import ExportFaces, Workbench
from slimalign.runtimes.bundle import read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.inputs import network_inputs
from slimalign.runtimes.schemes import AFLW
from slimalign.stage_cutting import StageCut

SIZE = 64
RECIPE = """
name = "small-cascade"
loss = "adaptive-wing"
decoder = "local-mean"
batch_norm_momentum = 0.1
alone = true
[data]
format = "drawn"
scheme = "aflw-19"
drawn = { train = 64, val = 32, test = 8 }
[input]
size = 64
[heatmap]
hourglasses = 1
depth = 2
width = 16
stem_width = 8
branch_width = 8
branches = 2
selective_width = 8
excitation = 4
[regression]
stages = 2
features = 8
selective_width = 8
excitation = 4
width = 8
[training]
epochs = 4
batch = 16
optimiser = "adam"
learning_rate = { kind = "one-cycle", peak = 5e-3 }
[export]
formats = ["onnx"]
"""


def written(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    made = api.run(written(folder), folder / "run")
    assert made is not None
    assert not made.failures
    return made.folder


def stages_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    return found


def test_a_run_measures_every_number_of_stages(run: Path) -> None:
    stages = stages_of(run)
    assert [one["stages"] for one in stages] == [0, 1, 2]
    assert stages[2]["nme"] < stages[0]["nme"]
    assert stages[0]["macs"] < stages[1]["macs"] < stages[2]["macs"]
    kept = proposed_stages(
        [StageFigures(**{**one, "gain_interval": tuple(one["gain_interval"])}) for one in stages]
    )
    names = {"alone", "cascade", *(f"cascade-{k}" for k in range(3) if k != kept)}
    results = read(run / "results.jsonl")
    assert {record.bundle for record in results.cost} == names
    timed = {(record.bundle, record.runtime) for record in results.latency}
    assert timed == {(name, runtime) for name in names for runtime in ("pytorch", "onnxruntime")}
    measured = {r.bundle: r.nme for r in results.accuracy if r.runtime == "pytorch" and r.split == "val"}
    for one in stages:
        name = "cascade" if one["stages"] == kept else f"cascade-{one['stages']}"
        assert measured[name] == pytest.approx(one["nme"], rel=1e-4)
    assert (run / "stages.png").is_file()
    assert (run / "predictions.jpg").is_file()


def test_every_cut_is_exact_in_its_files(run: Path) -> None:
    """The kept stages give what the whole cascade gives there: bit by bit in PyTorch, to 0.05 px in ONNX Runtime."""
    whole = read_network(api.slim(run, keep_stages=2, name="whole").bundle.folder)
    assert isinstance(whole, Cascade)
    crops = np.load(run / "parity_crops.npy")
    for kept in range(3):
        made = api.slim(run, keep_stages=kept, name=f"kept-{kept}")
        cut = read_network(made.bundle.folder)
        inputs = network_inputs(crops, made.bundle.manifest)
        with torch.inference_mode():
            found, _ = cut(torch.from_numpy(inputs))
            expected = whole.in_crop(whole.all_stages(torch.from_numpy(inputs)).points[kept])
        assert torch.equal(found, expected)
        (onnx,) = api.export(made.bundle.folder, ["onnx"], run.parent / f"exported-{kept}")
        with open_bundle(onnx, threads=1) as session:
            assert np.abs(session.run(inputs)[..., :2] - expected.numpy()).max() < 0.05


def test_slim_proposes_what_earns_its_cost(run: Path) -> None:
    made = api.slim(run, name="proposed")
    assert isinstance(made, StageCut)
    assert made.kept == proposed_stages(made.figures)
    assert made.runtime == "onnxruntime fp32"
    assert set(made.ms) == {0, 1, 2}
    least = stages_of(run)[0]
    smallest = api.slim(run, max_gmacs=least["macs"] / 1e9, name="smallest")
    assert isinstance(smallest, StageCut)
    assert smallest.kept == 0
    quickest = api.slim(run, max_ms=max(made.ms.values()) + 1, name="quickest")
    assert isinstance(quickest, StageCut)
    assert quickest.kept == made.kept


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"keep_stages": 3}, "--keep-stages 3: the cascade has 2, give 0 to that"),
        ({"max_gmacs": 1e-6}, "not even the heatmap network alone meets the budget"),
        ({"threshold": 0.1}, "for supernets; a cascade takes --keep-stages"),
        ({"keep_stages": 1, "max_gmacs": 1.0}, "--keep-stages 1: says how far to cut by itself"),
    ],
)
def test_a_cut_that_cannot_be_is_told(run: Path, wish: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        api.slim(run, name="refused", **wish)


def test_a_stage_that_is_not_sure_is_cut() -> None:
    figures = [
        StageFigures(0, 1.0, 5.0, 0.0, (0.0, 0.0), 1, 1),
        StageFigures(1, 1.0, 4.0, 1.0, (0.5, 1.5), 2, 2),
        StageFigures(2, 1.0, 4.01, -0.01, (-0.1, 0.08), 3, 3),
        StageFigures(3, 1.0, 3.9, 0.11, (0.01, 0.2), 4, 4),
        StageFigures(4, 1.0, 3.89, 0.01, (-0.02, 0.04), 5, 5),
    ]
    assert proposed_stages(figures) == 3
    assert proposed_stages(figures[:3]) == 1
    assert proposed_stages(figures[:1]) == 0


def test_a_stage_is_held_against_the_last_sure_one() -> None:
    """Stage 2 is surely better than stage 1, which is worse than none; a single face makes nothing sure."""
    rng = np.random.default_rng(0)
    faces = rng.normal(4, 0.1, 50)
    noise = [rng.normal(0, 0.01, 50) for _ in range(3)]
    nmes = [faces, faces + 1 + noise[0], faces + 0.5 + noise[1], faces - 0.5 + noise[2]]
    cascade = Cascade(
        CascadeShape(
            landmarks=19,
            input_size=SIZE,
            heatmap=HourglassShape(hourglasses=1, depth=1, width=4, stem_width=4, branch_width=4, branches=1),
            regression=RegressionShape(stages=3, features=4, width=4),
        )
    )
    figures = stage_figures(cascade, [0.0] * 4, nmes)
    assert [one.is_sure for one in figures] == [False, False, False, True]
    assert figures[3].gain == pytest.approx(0.5, abs=0.01)
    assert proposed_stages(figures) == 3
    assert proposed_stages(stage_figures(cascade, [0.0] * 4, [nme[:1] for nme in nmes])) == 0


def test_a_run_goes_on_and_is_trained_anew_where_its_recipe_changed(run: Path) -> None:
    recipe = read_recipe(run.parent / "recipe.toml")
    assert isinstance(recipe, CascadeRecipe)
    changed = recipe.model_copy(update={"decoder": "argmax-quarter"})
    with pytest.raises(UserError, match="decoder changed since alone, cascade was trained"):
        api.run(changed, run)


def test_a_cascade_teaches_by_heatmaps_about_its_landmarks(run: Path) -> None:
    place = str(run / "bundles" / "cascade-torch")
    recipe = read_recipe(run.parent / "recipe.toml")
    teacher = taught_by(place, recipe).heatmap_teacher("softmax", 1.0)
    assert isinstance(teacher, LandmarkTeacher)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        heatmaps = teacher(images).flatten(2).softmax(dim=2).reshape(2, 19, 16, 16)
        points, _ = teacher.cascade(images)
    places = (points + 0.5) / 4 - 0.5
    inside = ((places > 3) & (places < 12)).all(dim=2)
    assert inside.any()
    axis = torch.arange(16.0)
    means = torch.stack(
        [(heatmaps.sum(dim=2) * axis).sum(dim=2), (heatmaps.sum(dim=3) * axis).sum(dim=2)], dim=2
    )
    assert torch.allclose(means[inside], places[inside], atol=0.02)


def test_a_cascade_teaches_gaussians_where_the_student_has_those(run: Path) -> None:
    recipe = read_recipe(run.parent / "recipe.toml")
    teacher = taught_by(str(run / "bundles" / "cascade-torch"), recipe).heatmap_teacher("mse", 1.0)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    heatmaps = teacher(images)
    points, _ = teacher.get_submodule("cascade")(images)
    places = (points + 0.5) / 4 - 0.5
    assert torch.allclose(heatmaps, gaussian_heatmaps(places, (16, 16), 1.0))


def test_a_network_of_logits_teaches_none_of_gaussians() -> None:
    taught = Taught("place", torch.nn.Identity(), "local-softmax")
    assert taught.heatmap_teacher("softmax", 1.0) is taught.network
    with pytest.raises(UserError, match="its heatmaps are logits, which teach no student with loss = mse"):
        taught.heatmap_teacher("mse", 1.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "size = 64",
            "size = 128",
            "for aflw-19 at 64 pixels, boxes times 1.25; the recipe is for aflw-19 at 128",
        ),
        ('"aflw-19"', '"wflw-98"', "the recipe is for wflw-98 at 64"),
        ("size = 64", "size = 64\nbox_scale = 1.5", "boxes times 1.5"),
    ],
)
def test_a_teacher_for_other_faces_is_refused(
    run: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE.replace(old, new)))
    with pytest.raises(UserError, match=said):
        taught_by(str(run / "bundles" / "cascade-torch"), recipe)


def test_a_cascade_learns_from_another(run: Path, tmp_path: Path) -> None:
    """What the teacher finds is a second truth: with much of it the student's loss is that against it."""
    place = run / "bundles" / "cascade-torch"
    text = RECIPE.replace("[training]", f'[teacher]\nbundle = "{place}"\n[training]\nteacher_weight = 1.0')
    recipe = read_recipe(written(tmp_path, text))
    assert isinstance(recipe, CascadeRecipe)
    teacher = teacher_of_cascade(recipe)
    assert teacher is not None
    network = read_network(place)
    assert isinstance(network, Cascade)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    taught = teacher(images)
    assert torch.equal(taught, network(images)[0])
    task = CascadeTask(network.eval(), AdaptiveWingLoss(4, 1.0, boundary_segments(AFLW)), recipe.training)
    truth = taught + 5
    with torch.no_grad():
        alone, both = task.losses(images, truth), task.losses(images, truth, taught)
        against = task.losses(images, taught)
    for a, b, c in zip(alone, against, both, strict=True):
        assert float(c) == pytest.approx(float(a) + float(b), rel=1e-5)
    assert float(against[-1]) == pytest.approx(0.0, abs=1e-4)


def test_a_cascade_has_no_search(run: Path) -> None:
    with pytest.raises(UserError, match="a cascade's, it has no supernet"):
        api.latency_table(run)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("depth = 2", "depth = 5", r"input.size = 64, must be a multiple of 128"),
        ("width = 16", "width = 18", r"heatmap.width = 18: Input should be a multiple of 4"),
        (
            "hourglasses = 1",
            "hourglass = 1",
            r"heatmap.hourglass: there is no such entry; did you mean hourglasses\?",
        ),
        ("stages = 2", "stages = 12", r"regression.stages = 12: Input should be less than or equal to 9"),
        ('"local-mean"', '"local-softmax"', "decoder = local-softmax: loss = softmax makes logits"),
        ("batch = 16", "batch = 1", None),
        (
            "[training]",
            "[training]\nteacher_weight = 1.0\n",
            r"training.teacher_weight = 1: give it and \[teacher\]",
        ),
        (
            '"adaptive-wing"\ndecoder = "local-mean"',
            '"softmax"\ndecoder = "local-softmax"',
            "a boundary has no single",
        ),
    ],
)
def test_faults_in_a_recipe_are_named(tmp_path: Path, old: str, new: str, said: str | None) -> None:
    path = written(tmp_path, RECIPE.replace(old, new))
    if said is None:
        assert isinstance(read_recipe(path), CascadeRecipe)
        return
    with pytest.raises(UserError, match=said):
        read_recipe(path)


def test_a_student_as_heatmap_network_starts_from_its_weights(tmp_path: Path) -> None:
    """One step of nearly nothing leaves the student where it was; a bundle of another network is refused."""
    torch.manual_seed(0)
    student = HRSuperNet(full_architecture(19, SIZE, 8, (8, 16), stage_count=3, encoders=1))
    torch.nn.init.normal_(student.head.heatmaps.weight, std=0.5)
    subject = ExportSubject("student", student, SIZE, 1.25, "aflw-19", "local-softmax", 4)
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    bundle = write_bundle(tmp_path / "student", Workbench(subject, crops), "torch")
    begin, end = RECIPE.index("[heatmap]"), RECIPE.index("[regression]")
    text = f'{RECIPE[:begin]}[heatmap]\nbundle = "{bundle.folder}"\n{RECIPE[end:]}'
    for old, new in (
        ('"adaptive-wing"', '"softmax"'),
        ('"local-mean"', '"local-softmax"'),
        (
            "selective_width = 8\nexcitation = 4\nwidth = 8",
            "selective = false\nwidth = 8\nnumbers = 3\nshared = true",
        ),
        ("stages = 2", "stages = 1"),
        ("peak = 5e-3", "peak = 1e-12"),
        ("epochs = 4", "epochs = 1"),
        ("train = 64", "train = 16"),
        ("alone = true", "alone = false"),
    ):
        assert old in text
        text = text.replace(old, new)
    made = api.run(written(tmp_path, text), tmp_path / "run")
    assert made is not None
    network = read_network(api.slim(made.folder, keep_stages=1, name="all").bundle.folder)
    assert isinstance(network, Cascade)
    kept = network.heatmap.get_submodule("student").state_dict()
    assert torch.allclose(
        kept["head.heatmaps.weight"], student.state_dict()["head.heatmaps.weight"], atol=1e-6
    )
    with pytest.raises(UserError, match="holds no student of a supernet"):
        api.run(
            written(tmp_path, text.replace(str(bundle.folder), str(made.folder / "bundles/cascade-torch")))
        )


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """A cascade with landmarks' own weights, random but lively, and drawn faces."""
    torch.manual_seed(0)
    shape = CascadeShape(
        landmarks=19,
        input_size=SIZE,
        decoder="local-mean",
        heatmap=HourglassShape(
            hourglasses=2,
            depth=2,
            width=16,
            stem_width=8,
            branch_width=8,
            branches=2,
            selective_width=8,
            excitation=4,
        ),
        regression=RegressionShape(stages=1, features=8, selective_width=8, excitation=4, width=8),
    )
    network = Cascade(shape).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("offsets.weight"):
            torch.nn.init.normal_(parameter, std=0.05)
    faces = drawn_samples(40, AFLW, seed=0)
    subject = ExportSubject("lively", network, SIZE, 1.25, "aflw-19", "local-mean", 4)
    crops = cut_crops(
        faces[:4], Workbench(subject, np.zeros((1, SIZE, SIZE, 3), np.uint8)).manifest("", "", "").crop_rule
    )
    return Workbench(subject, crops, ExportFaces(faces, faces[:8], "diagonal"))


def test_a_cascade_comes_back_from_its_files(bench: Workbench, tmp_path: Path) -> None:
    network = bench.subject.network
    write_network(tmp_path, network)
    again = read_network(tmp_path)
    assert isinstance(again, Cascade)
    images = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again(images)[0], network(images)[0])


def test_litert_computes_a_cascade_and_keeps_its_coordinates_in_float(
    bench: Workbench, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "float", bench, "litert")
    bundle = write_unjudged(tmp_path / "int8", bench, FORMATS["litert-int8"])
    operators = read_litert_model(bundle.model_path).operators
    products = [one for one in operators if one.kind == "BATCH_MATMUL"]
    assert len(products) == 2
    assert all(tensor.dtype == "float32" for one in products for tensor in one.outputs)
    assert bundle.manifest.int8_share is not None
    assert bundle.manifest.int8_share >= 0.9
    assert bundle.manifest.batch == 1


def test_onnx_keeps_coordinates_in_float_in_all_its_formats(bench: Workbench, tmp_path: Path) -> None:
    write_bundle(tmp_path / "half", bench, "onnx-fp16")
    for name in ("onnx-int8", "onnx-int8-tensorrt"):
        bundle = write_unjudged(tmp_path / name, bench, FORMATS[name])
        graph = read_onnx_graph(bundle.model_path)
        made_by = {output: node for node in graph.nodes for output in node.output}
        makers = [made_by.get(node.input[0]) for node in graph.nodes if node.op_type == "QuantizeLinear"]
        quantised = [maker.name for maker in makers if maker is not None and has_coordinates(maker.name)]
        # What a region holds and where a boundary is goes on to convolutions; places themselves do not.
        assert all("/sampler/Concat" in maker or "/mask/" in maker for maker in quantised), quantised


@pytest.mark.parametrize("name", ["tensorrt-fp16", "tensorrt-int8"])
def test_a_real_tensorrt_parses_a_cascade(bench: Workbench, tmp_path: Path, name: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is for x86-64 Linux")
    bundle = write_unjudged(tmp_path / name, bench, FORMATS[name])
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(bundle.model_path.read_bytes()), [
        parser.get_error(number).desc() for number in range(parser.num_errors)
    ]
    assert [network.get_output(number).name for number in range(network.num_outputs)] == ["points", "scores"]


def test_a_bundle_of_a_cascade_is_read_by_its_own_names(bench: Workbench, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "torch", bench, "torch")
    assert read_bundle(made.folder).manifest.output == "points"
    assert (made.folder / "cascade.json").is_file()
    with open_bundle(made, threads=1) as session:
        assert session.run(network_inputs(bench.parity_crops, made.manifest)).shape == (4, 19, 3)
