"""Rescuing int8 files: blocks by name, which of them int8 hurts, and what is kept of it in the bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from dots import dot_bench, dotted_faces, hurt_dot_finder
from rich.progress import Progress

from slimalign.export.blocks import litert_block, litert_block_pattern, onnx_block
from slimalign.export.formats import FORMATS
from slimalign.export.gate import GateError, GateReport, gate_report
from slimalign.export.rescue import RESCUE_NAME
from slimalign.export.sensitivity import sensitivity, worst_blocks
from slimalign.export.workbench import GraphOptions, Workbench
from slimalign.export_jobs import ExportJob, RescueBy, Rescuer, write_bundles
from slimalign.runtimes.bundle import read_bundle

HURT = "s3_l0"
"""The block of the hurt dot finder whose middle lies far from zero."""


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("/stem/stem.0/Conv", "stem"),
        ("/s5_l2/s5_t2_f0/s5_t2_f0.0/Conv", "s5_l2"),
        ("/s5_l2/Relu", "s5_l2"),
        ("/network/s5_l2/Add_1", "s5_l2"),
        ("/network/Relu", None),
        ("/Relu", None),
        ("Identity_34", None),
    ],
)
def test_an_onnx_nodes_block_is_the_module_that_the_network_calls(name: str, block: str | None) -> None:
    assert onnx_block(name) == block


WRAPPED = "a.ChannelLastIOWrapper/slimalign.export.fold.FoldedSuperNet_wrapped"
DECODED = "a.ChannelLastIOWrapper/b.Decoding_wrapped/c.FoldedSuperNet_network"


@pytest.mark.parametrize("around", [WRAPPED, DECODED])
def test_a_litert_tensors_block_is_that_of_its_own_operation(around: str) -> None:
    """Before it stand activations that were fused into it and places of constants, which may be other blocks'."""
    conv = f"{around}/fold.FoldedBlock_s5_l2/torch.nn.Sequential_s5_t2_f0/torch.nn.Conv2d_0"
    fused = f"{around}/fold.FoldedBlock_s10_l2;;{conv};"
    top = f"{conv};;{around};"
    assert [litert_block(name) for name in (conv, f"{conv};1", fused, top)] == ["s5_l2"] * 3 + [None]
    for name in (conv, f"{conv};1", f"{conv};", fused, top, "serving_default_args_0"):
        for block in ("s5_l2", "s10_l2", "s5", "l2"):
            matched = re.search(litert_block_pattern(block), name)
            assert (matched is not None) == (litert_block(name) == block), (name, block)


def made_report(loss: float, subset_loss: float | None = None) -> GateReport:
    """Of a file whose NME is ``loss`` percent above the network's 4 %, and ``subset_loss`` in a fifth of the faces."""
    network = np.full(50, 4.0)
    nmes = network * (1 + loss / 100)
    if subset_loss is not None:
        nmes[:10] = 4 * (1 + subset_loss / 100)
        nmes[10:] = 4 * (1 + (5 * loss - subset_loss) / 400)
    return gate_report("made", nmes, network, [("few",)] * 10 + [()] * 40)


class Costs:
    """A file of which each block costs so many percent in int8; ``room`` is how many may be left in float."""

    def __init__(self, costs: dict[str, float], room: int, heavy: Sequence[str] = ()) -> None:
        self.costs, self.room, self.heavy = costs, room, heavy

    def __call__(self, blocks: Sequence[str]) -> GateReport:
        if len(blocks) > self.room or set(blocks) & set(self.heavy):
            raise GateError("too little in int8")
        return made_report(sum(cost for block, cost in self.costs.items() if block not in blocks))


def rescued(costs: Costs) -> tuple[str, ...]:
    all_int8 = made_report(sum(costs.costs.values()))
    return worst_blocks(costs, sensitivity(costs, list(costs.costs), lambda *_: None), all_int8)


def test_the_worst_blocks_are_kept_until_the_gate_holds() -> None:
    """5.0 % worse in all: without c 2.2, without c and a 0.7."""
    assert rescued(Costs({"a": 1.5, "b": 0.5, "c": 2.8, "d": 0.2}, room=4)) == ("c", "a")


def test_a_block_that_float_does_not_help_is_never_kept() -> None:
    with pytest.raises(GateError, match="with a in float it does not pass either"):
        rescued(Costs({"a": 1.0, "b": -0.5, "c": 0.0, "d": 4.0}, room=4, heavy=["d"]))


def test_blocks_for_which_there_is_no_room_are_passed_over() -> None:
    """The worst holds too much for an int8 file; the next two do."""
    assert rescued(Costs({"heavy": 0.9, "b": 2.0, "c": 1.5}, room=2, heavy=["heavy"])) == ("b", "c")
    with pytest.raises(GateError, match="with b in float it does not pass either"):
        rescued(Costs({"heavy": 0.9, "b": 2.0, "c": 1.5}, room=1, heavy=["heavy"]))


def test_what_fails_in_a_subset_is_rescued_there() -> None:
    """Without a the subset is as it was, though all faces together are a little worse."""
    found = {(): made_report(0.5, 5.0), ("a",): made_report(0.6, 1.0), ("b",): made_report(0.4, 5.0)}
    assert found[()].strain == pytest.approx(2.5)
    alone = sensitivity(found.__getitem__, ["a", "b"], lambda *_: None)
    assert worst_blocks(found.__getitem__, alone, found[()]) == ("a",)


def hurt_bench(options: GraphOptions | None = None) -> Workbench:
    return dot_bench(dotted_faces(32), dotted_faces(8, seed=100), options, hurt_dot_finder(HURT))


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return hurt_bench()


def test_without_a_rescue_the_error_names_the_ways_out(bench: Workbench, tmp_path: Path) -> None:
    job = ExportJob(tmp_path, bench, "onnx-int8")
    with Progress(disable=True) as progress:
        made, (failure,) = write_bundles([job], progress, Rescuer(bench, tmp_path, RescueBy(), progress))
    assert made == []
    assert "--rescue" in str(failure)
    assert [path.name for path in tmp_path.iterdir()] == ["dots-onnx-int8.failed-gate"]


@pytest.mark.parametrize("format_name", ["onnx-int8", "litert-int8"])
def test_the_hurt_block_alone_stays_in_float(format_name: str, bench: Workbench, tmp_path: Path) -> None:
    by = RescueBy(blocks=True)
    with Progress(disable=True) as progress:
        rescuer = Rescuer(bench, tmp_path / "training", by, progress)
        (bundle,), failures = write_bundles([ExportJob(tmp_path, bench, format_name)], progress, rescuer)
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == [f"dots-{format_name}"]
    kept = json.loads((read_bundle(bundle.folder).folder / RESCUE_NAME).read_text())
    assert RESCUE_NAME in bundle.manifest.files
    assert kept["float_blocks"] == [HURT]
    assert kept["alone"][HURT]["nme"] <= 1.01 * kept["network_nme"] < kept["all_int8"]["nme"]
    assert kept["alone"][HURT]["strain"] <= 1 < kept["all_int8"]["strain"]
    assert kept["training"] is None
    assert kept["latency"]["runtime"] == ("litert" if "litert" in format_name else "onnxruntime")
    assert bundle.manifest.int8_share is not None
    assert 0.9 <= bundle.manifest.int8_share < 1


def test_a_file_of_one_batch_size_is_timed_at_that(tmp_path: Path) -> None:
    bench = hurt_bench(GraphOptions(batch=3))
    with Progress(disable=True) as progress:
        rescuer = Rescuer(bench, tmp_path / "training", RescueBy(blocks=True), progress)
        (bundle,), failures = write_bundles([ExportJob(tmp_path, bench, "onnx-int8")], progress, rescuer)
    assert failures == []
    kept = json.loads((bundle.folder / RESCUE_NAME).read_text())
    assert (kept["float_blocks"], kept["latency"]["batch"]) == ([HURT], 3)


def test_int16_has_no_blocks_to_leave_in_float() -> None:
    """It is no int8 file, of which most must stay what it is called."""
    assert {name for name, kind in FORMATS.items() if kind.blocks} == {
        name for name, kind in FORMATS.items() if kind.int8_share
    }
    assert FORMATS["litert-int16x8"].calibrated


@pytest.mark.parametrize("format_name", ["tensorrt-int8", "onnx-int8-tensorrt"])
def test_files_for_other_devices_tell_no_latency(format_name: str, bench: Workbench, tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        rescuer = Rescuer(bench, tmp_path / "training", RescueBy(blocks=True), progress)
        (bundle,), _ = write_bundles([ExportJob(tmp_path, bench, format_name)], progress, rescuer)
    kept = json.loads((bundle.folder / RESCUE_NAME).read_text())
    assert (kept["float_blocks"], kept["latency"]) == ([HURT], None)
    graph = onnx.load(str(bundle.model_path)).graph
    takes = {name for node in graph.node if node.name.startswith(f"/{HURT}/") for name in node.input}
    assert not [name for name in takes if name.endswith("_dq")]
