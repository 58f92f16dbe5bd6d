"""The command parity without a target: the bundle's golden face on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line.place import Command, Place

from slimalign.runtimes.bundle import MANIFEST_NAME, file_sha256
from slimalign.runtimes.golden import GOLDEN_NAME


def moved(bundle: Path, copy: Path, crop_px: float, precision: str = "fp32") -> Path:
    """A copy of ``bundle`` in which a point of the golden face lies so many pixels of the crop elsewhere."""
    shutil.copytree(bundle, copy)
    golden = json.loads((copy / GOLDEN_NAME).read_text())
    golden["points"][3][0] += crop_px / golden["image_to_crop"][0][0]
    (copy / GOLDEN_NAME).write_text(json.dumps(golden))
    manifest = json.loads((copy / MANIFEST_NAME).read_text())
    manifest["files"][GOLDEN_NAME] = file_sha256(copy / GOLDEN_NAME)
    manifest["precision"] = precision
    (copy / MANIFEST_NAME).write_text(json.dumps(manifest))
    return copy


def test_it_holds_where_the_bundle_was_made(slimalign: Command, place: Place) -> None:
    done = slimalign("parity", place.onnx)
    assert done.status == 0
    assert done.out.startswith(
        "small [b] in onnxruntime: the same landmarks here as at its export on its golden face;"
    )
    assert "(allowed 0.05), the crop is the same\n" in done.out


@pytest.mark.parametrize(
    ("precision", "crop_px", "status"),
    [("fp32", 0.04, 0), ("fp32", 0.06, 1), ("int8", 0.24, 0), ("int8", 0.26, 1)],
)
def test_its_tolerance_is_that_of_devices(
    slimalign: Command, place: Place, tmp_path: Path, precision: str, crop_px: float, status: int
) -> None:
    done = slimalign("parity", moved(place.onnx, tmp_path / "moved", crop_px, precision), "--json")
    assert done.status == status
    found = json.loads(done.out)
    assert found["holds"] == (status == 0)
    assert found["largest_px"] == pytest.approx(crop_px, abs=1e-3)
    assert found["allowed_px"] == (0.05 if precision == "fp32" else 0.25)
    assert (found["crop_levels"], found["same_crop"]) == (0, True)


def test_where_it_does_not_hold_it_says_so(slimalign: Command, place: Place, tmp_path: Path) -> None:
    done = slimalign("parity", moved(place.onnx, tmp_path / "moved", 2))
    assert done.status == 1
    assert "NOT the same landmarks here" in done.out


def test_what_cannot_be_checked_is_told_in_one_line(slimalign: Command, place: Place) -> None:
    for options, said in {
        (place.torch,): "holds no golden face (golden.json); export it again, in a format for devices",
        (
            place.onnx,
            "--data",
            place.data,
        ): "name the device too, as in --target ssh://user@host; without one",
        (place.onnx, "--provider", "abacus"): "provider abacus: ONNX Runtime ",
        (place.onnx, "--benchmark-model", "b"): "--benchmark-model b: name the phone",
    }.items():
        done = slimalign("parity", *options)
        assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert said in done.err
