"""Lint of what slimalign itself exports: no errors on the devices whose profile lists the format."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from dots import dot_bench, dotted_faces

from slimalign.export.bundle_writer import write_bundle
from slimalign.export.lint.lint import lint
from slimalign.export.onnx_from_torch import OPSETS
from slimalign.export.workbench import GraphOptions
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.decode import DECODERS
from slimalign.runtimes.errors import UserError
from slimalign.targets.profile import all_targets, target_named
from slimalign.targets.target import Target

LISTED = sorted({name for target in all_targets() for name in target.formats})
TARGETS = [
    target.with_jetpack(release.version) for target in all_targets() for release in target.jetpacks
] + [target for target in all_targets() if not target.jetpacks]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Bundle]:
    """Every format of some profile, by its opset too."""
    folder, faces = tmp_path_factory.mktemp("bundles"), dotted_faces(40)
    made = {}
    for opset in OPSETS:
        bench = dot_bench(faces, faces[:20], GraphOptions(opset=opset))
        for name in LISTED:
            if name.startswith("tensorrt") or opset == OPSETS[-1]:
                made[name, opset] = write_bundle(folder / f"{name}-{opset}", bench, name)
    return made


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.told)
def test_no_errors_on_a_device_that_lists_the_format(
    target: Target, bundles: dict[tuple[str, int], Bundle]
) -> None:
    for name in target.formats:
        report = lint(bundles[name, target.opset].folder, target)
        assert [found for found in report.findings if found.level == "error"] == []
        expected = {"int8": 1.0}.get(name.split("-")[-1])
        assert report.facts.int8_share == expected, name
        assert report.facts.transposes == 0
        assert report.target == target.told


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_decoder_in_the_graph_leaves_nothing_to_plain_kernels(decoder: str, tmp_path: Path) -> None:
    faces = dotted_faces(4)
    bench = dot_bench(faces, faces, GraphOptions(decode_inside=True))
    bench.subject = dataclasses.replace(bench.subject, decoder=decoder)
    bundle = write_bundle(tmp_path / "dots", bench, "litert")
    assert lint(bundle.folder, target_named("android")).findings == ()


def test_a_newer_opset_than_the_jetpacks_is_warned_of(bundles: dict[tuple[str, int], Bundle]) -> None:
    (found,) = lint(bundles["tensorrt-fp16", 17].folder, target_named("jetson-nano")).findings
    assert (found.rule, found.level) == ("opset-too-new", "warning")
    assert found.message == "opset 17; TensorRT 8.2.1 is written for up to 13"


def test_int8_for_x86_is_no_int8_for_tensorrt(bundles: dict[tuple[str, int], Bundle]) -> None:
    report = lint(bundles["onnx-int8", 17].folder, target_named("orin-nano"))
    errors = {found.rule for found in report.findings if found.level == "error"}
    assert errors == {"zero-point", "unsigned", "quantised-bias"}
    assert report.errors == 3


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        (
            "litert-int8",
            "orin-nano",
            "jetson-orin-nano is known for tensorrt-int8, tensorrt-fp16, no .tflite file; export one",
        ),
        (
            "onnx",
            "iphone",
            "iphone is known for litert-int8, litert-fp16, litert, no .onnx file; export one",
        ),
    ],
)
def test_a_file_that_the_device_does_not_run_is_told_in_one_line(
    name: str, target: str, said: str, bundles: dict[tuple[str, int], Bundle]
) -> None:
    with pytest.raises(UserError, match=said):
        lint(bundles[name, 17].folder, target_named(target))
    with pytest.raises(UserError, match=said):
        lint(bundles[name, 17].model_path, target_named(target))


def test_what_is_no_model_file_is_told_in_one_line(tmp_path: Path) -> None:
    target = target_named("iphone")
    with pytest.raises(UserError, match="nowhere.onnx: no such file; give an .onnx or .tflite file"):
        lint(tmp_path / "nowhere.onnx", target)
    (tmp_path / "model.pt").touch()
    with pytest.raises(UserError, match="model.pt: not an .onnx or .tflite file; export litert-int8, "):
        lint(tmp_path / "model.pt", target)
    with pytest.raises(UserError, match="not a bundle, it holds no bundle.json"):
        lint(tmp_path, target)


def test_a_bundle_that_has_changed_is_told_by_its_hash(tmp_path: Path) -> None:
    faces = dotted_faces(40)
    bundle = write_bundle(tmp_path / "dots", dot_bench(faces, faces[:20]), "onnx")
    bundle.model_path.write_bytes(bundle.model_path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"sha256 differs"):
        lint(bundle.folder, target_named("linux-x86-64"))
