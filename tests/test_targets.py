"""Device profiles: what the shipped ones say, how they are named, and what a mistake in one is told as."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slimalign.export.formats import FORMATS
from slimalign.export.onnx_from_torch import OPSETS
from slimalign.runtimes.errors import UserError
from slimalign.targets.profile import PROFILES, all_targets, read_profile, target_named
from slimalign.targets.target import jetpacks

JETSONS = {
    "jetson-nano": ("5.3", False, ["4.6", "4.6.1"]),
    "jetson-tx2": ("6.2", False, ["4.6", "4.6.1"]),
    "jetson-xavier-nx": ("7.2", True, ["4.6", "4.6.1", "5.0.2", "5.1"]),
    "jetson-agx-xavier": ("7.2", True, ["4.6", "4.6.1", "5.0.2", "5.1"]),
    "jetson-orin-nano": ("8.7", True, ["5.1", "6.0", "6.1", "6.2"]),
    "jetson-agx-orin": ("8.7", True, ["5.0.2", "5.1", "6.0", "6.1", "6.2"]),
    "jetson-thor": ("11.0", True, ["7.0", "7.1"]),
}
OTHERS = (
    "android",
    "android-galaxy",
    "android-pixel",
    "iphone",
    "linux-arm64",
    "linux-x86-64",
    "raspberry-pi-5",
)


def test_every_device_is_there_with_formats_that_can_be_exported() -> None:
    assert {target.name for target in all_targets()} == {*JETSONS, *OTHERS}
    for target in all_targets():
        assert set(target.formats) <= set(FORMATS)
        assert [FORMATS[name].kind in target.runtimes for name in target.formats] == [True] * len(
            target.formats
        )
        assert target.opset in OPSETS
        assert ("litert" in target.runtimes) == bool(target.delegates)


@pytest.mark.parametrize("name", JETSONS)
def test_a_jetson_has_its_gpu_and_its_jetpacks(name: str) -> None:
    target = target_named(name)
    capability, int8, releases = JETSONS[name]
    assert (target.compute_capability, target.int8) == (capability, int8)
    assert [one.version for one in target.jetpacks] == releases
    assert target.jetpack == target.jetpacks[-1]
    assert ("tensorrt-int8" in target.formats) == int8


def test_memory_and_power_modes_are_told_where_they_are_known() -> None:
    assert target_named("orin-nano").memory_gb == (4, 8)
    assert "MAXN_SUPER" in target_named("orin-nano").power_modes
    assert target_named("jetson-nano").power_modes == ("5W", "MAXN")
    for target in all_targets():
        assert (target.name in JETSONS) == bool(target.power_modes)
        assert list(target.memory_gb) == sorted(target.memory_gb)
        assert (target.address, target.python) == (None, "python3")


def test_jetpacks_bring_their_tensorrt_and_opset() -> None:
    found = {version: (one.tensorrt, one.cuda, one.opset) for version, one in jetpacks().items()}
    assert found["4.6.1"] == ("8.2.1", "10.2", 13)
    assert found["5.1"] == ("8.5.2", "11.4", 13)
    assert found["6.0"] == ("8.6.2", "12.2", 17)
    assert found["6.2"] == ("10.3", "12.6", 17)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("jetson-orin-nano", "jetson-orin-nano"),
        ("orin-nano", "jetson-orin-nano"),
        ("agx-orin", "jetson-agx-orin"),
        ("tx2", "jetson-tx2"),
        ("pixel", "android-pixel"),
        ("raspberry", "raspberry-pi-5"),
        ("x86", "linux-x86-64"),
        ("android", "android"),
    ],
)
def test_parts_of_a_name_are_enough(given: str, name: str) -> None:
    assert target_named(given).name == name


@pytest.mark.parametrize(
    ("name", "jetpack", "release"),
    [
        ("orin-nano", "5.1", "5.1"),
        ("orin-nano", "5.1.2", "5.1"),
        ("orin-nano", "6.2.1", "6.2"),
        ("jetson-nano", "4.6", "4.6"),
        ("jetson-nano", "4.6.4", "4.6.1"),
    ],
)
def test_another_jetpack_can_be_named(name: str, jetpack: str, release: str) -> None:
    target = target_named(name, jetpack)
    assert target.jetpack == jetpacks()[release]
    assert (target.tensorrt, target.opset) == (jetpacks()[release].tensorrt, jetpacks()[release].opset)


@pytest.mark.parametrize(
    ("given", "jetpack", "said"),
    [
        ("nano", None, "target 'nano' may be jetson-nano or jetson-orin-nano; give the whole name"),
        ("orin", None, "target 'orin' may be jetson-agx-orin or jetson-orin-nano; give the whole name"),
        ("jetson-orin", None, "may be jetson-agx-orin or jetson-orin-nano; give the whole name"),
        ("jetson", None, "target 'jetson' may be " + " or ".join(sorted(JETSONS)) + "; give the whole name"),
        ("64", None, "target '64' is unknown; did you mean linux-x86-64. The targets are"),
        ("xavier-agx", None, "is unknown; did you mean jetson-agx-xavier. The targets are"),
        ("rpi5", None, "is unknown; did you mean raspberry-pi-5. The targets are"),
        ("orinnano", None, "is unknown; did you mean jetson-orin-nano. The targets are"),
        ("nanno", None, "is unknown; did you mean jetson-nano or jetson-orin-nano. The targets are"),
        ("jetson-oron-nano", None, "is unknown; did you mean jetson-orin-nano. The targets are android, "),
        ("fridge", None, "target 'fridge' is unknown; the targets are android, .*, or give a .toml file"),
        ("nowhere.toml", None, "nowhere.toml: no such file; give a device profile"),
        ("orin-nano", "4.6", "JetPack '4.6' is none of jetson-orin-nano's; choose one of 5.1, 6.0, 6.1, 6.2"),
        ("agx-orin", "5.0.1", "JetPack '5.0.1' is none of jetson-agx-orin's; choose one of 5.0.2, "),
        ("orin-nano", "six", "JetPack 'six' is none of jetson-orin-nano's; choose one of "),
        ("iphone", "6.0", "target iphone has no JetPack; leave --jetpack 6.0 out"),
    ],
)
def test_what_is_no_target_is_told_in_one_line(given: str, jetpack: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        target_named(given, jetpack)
    assert "\n" not in str(caught.value)


def changed(name: str, line: str, replaced: str, folder: Path) -> Path:
    """A shipped profile with one line replaced."""
    text = (PROFILES / f"{name}.toml").read_text()
    path = folder / "my-device.toml"
    path.write_text(re.sub(rf"^{line} = .*$", replaced, text, flags=re.M))
    assert path.read_text() != text
    return path


def test_a_profile_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    path = changed("jetson-orin-nano", "jetpack", 'jetpack = ["6.0", "5.1"]', tmp_path)
    target = target_named(str(path))
    assert (target.name, target.title) == ("my-device", "Jetson Orin Nano")
    assert target.told == "my-device (JetPack 6.0, TensorRT 8.6.2)"
    assert target_named(path) == target
    path = changed("jetson-orin-nano", "jetpack", 'tensorrt = "11.0"', tmp_path)
    target = target_named(str(path))
    assert (target.told, target.opset) == ("my-device (TensorRT 11.0)", 17)


def test_a_profile_of_ones_own_says_how_to_reach_the_device(tmp_path: Path) -> None:
    lines = 'title = "My board"\naddress = "ssh://me@10.0.0.7:2222"\npython = "/opt/py/bin/python3"'
    target = read_profile(changed("jetson-orin-nano", "title", lines, tmp_path))
    assert (target.address, target.python) == ("ssh://me@10.0.0.7:2222", "/opt/py/bin/python3")
    assert target.to_dict()["address"] == target.address


@pytest.mark.parametrize(
    ("name", "line", "replaced", "said"),
    [
        (
            "raspberry-pi-5",
            "memory_gb",
            "memory_gb = 8",
            "memory_gb = 8, must be a list of at least one of the sizes",
        ),
        ("raspberry-pi-5", "memory_gb", "memory_gb = [0]", "memory_gb = [0], must be a list of"),
        ("raspberry-pi-5", "memory_gb", "memory_gb = [true]", "memory_gb = [true], must be a list of"),
        ("raspberry-pi-5", "memory_gb", "memory_gb = [inf]", "memory_gb = [Infinity], must be a list of"),
        (
            "raspberry-pi-5",
            "memory_gb",
            "memory = [8]",
            "memory = [8]: no such entry; did you mean memory_gb?",
        ),
        ("jetson-nano", "power_modes", 'power_modes = "5W"', 'power_modes = "5W", must be a list of'),
        (
            "jetson-nano",
            "memory_gb",
            'address = "pi@board"',
            "must be how to reach it: local, ssh://user@host",
        ),
        (
            "jetson-nano",
            "memory_gb",
            'address = "ssh://-oX"',
            "must be how to reach it: local, ssh://user@host",
        ),
        ("jetson-nano", "memory_gb", "python = 3.6", "python = 3.6, must be the command of its Python"),
        ("iphone", "title", "title = 3", "title = 3, must be a line of text"),
        (
            "iphone",
            "architecture",
            'architecture = "arm"',
            'architecture = "arm", must be one of aarch64, x86_64',
        ),
        ("iphone", "formats", "formats = []", "formats = [], must be a list of at least one of slimalign's"),
        ("iphone", "formats", 'formats = ["coreml"]', 'formats = ["coreml"], must be a list of .*litert'),
        ("iphone", "delegates", 'delegates = ["npu"]', 'delegates = ["npu"], must be .* of xnnpack, gpu'),
        ("iphone", "delegates", "", "delegates is missing, add it as a list of at least one of xnnpack"),
        (
            "iphone",
            "delegates",
            'delegate = ["gpu"]',
            'delegate = ["gpu"]: no such entry; did you mean delegates?',
        ),
        (
            "iphone",
            "delegates",
            'delegates = ["gpu"]\nint8 = true',
            "int8 = true: no such entry; this device's",
        ),
        ("jetson-thor", "int8", 'int8 = "yes"', 'int8 = "yes", must be true or false'),
        (
            "jetson-thor",
            "compute_capability",
            "compute_capability = 11.0",
            "= 11.0, must be a version as text",
        ),
        ("jetson-thor", "jetpack", 'jetpack = ["9"]', 'jetpack = ["9"], must be a list of .* 7.0, 7.1'),
        ("jetson-thor", "jetpack", "tensorrt = 11", "tensorrt = 11, must be a version as text"),
        ("jetson-thor", "title", "title =", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_profile_is_told_with_file_entry_and_value(
    name: str, line: str, replaced: str, said: str, tmp_path: Path
) -> None:
    path = changed(name, line, replaced, tmp_path)
    with pytest.raises(UserError) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert re.search(re.escape(said).replace(r"\.\*", ".*"), str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
