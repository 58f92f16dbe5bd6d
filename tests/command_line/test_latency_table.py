"""``latency-table`` and slimming by it, on a search space so small that all is measured in seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command_line.place import Command
from sshd import Sshd

from slimalign import latency_tables
from slimalign.compress.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint
from slimalign.compress.networks.supernet import HRSuperNet, operation_key
from slimalign.compress.recipe import Recipe
from slimalign.compress.recipe_file import read_recipe
from slimalign.runtimes.schemes import W300
from slimalign.runtimes.timing import Protocol
from slimalign.runtimes.timing_loop import Span

DEMO = Path(__file__).parents[2] / "recipes" / "demo.toml"
QUICK = Protocol("kernel", 1, "draft", Span(1, 0.0), Span(1, 0.0), Span(6, 0.0), rounds=2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short rounds; that predictions are near is another matter."""
    monkeypatch.setattr(latency_tables, "PROTOCOL", QUICK)


def tiny() -> Recipe:
    entries = read_recipe(DEMO).model_dump(mode="json")
    entries["search"] |= {"widths": [6, 8], "stem_width": 8, "stage_count": 5, "encoders": 1}
    return Recipe.model_validate(entries)


@pytest.fixture
def searched_run(tmp_path: Path) -> Path:
    """A run whose search is done, with importances that rise from operation to operation."""
    recipe, folder = tiny(), tmp_path / "run"
    network = HRSuperNet(recipe.search.supernet(W300.count, recipe.input.size))
    (folder / "supernet").mkdir(parents=True)
    save_checkpoint(folder / "supernet" / CHECKPOINT_NAME, Checkpoint(1, network.state_dict(), [], []))
    importances = {operation_key(op): 1.0 + place for place, op in enumerate(network.architecture.operations)}
    (folder / "importances.json").write_text(json.dumps(importances))
    (folder / "run.json").write_text(json.dumps({**recipe.model_dump(mode="json"), "faces": {}}))
    return folder


@pytest.mark.usefixtures("quick")
def test_a_table_is_measured_and_a_run_is_slimmed_by_it(slimalign: Command, searched_run: Path) -> None:
    options = ("--run", searched_run, "--format", "onnx", "--check", "3", "--out", "here/table.json")
    done = slimalign("latency-table", *options)
    # Whether two short rounds tell enough for the predictions to hold is left to chance.
    assert done.status in (0, 1), done.err
    assert "networks that it was not made of:" in done.out
    table = json.loads(Path("here/table.json").read_text())
    one = table["tried"][0]
    p50_error = 100 * (one["predicted_ms"] / one["p50_ms"] - 1)
    assert f"p50 {one['p50_ms']:7.2f} ms  {p50_error:+5.1f} %" in done.out
    assert (table["format"], table["runtime"], table["threads"]) == ("onnx", "onnxruntime", 1)
    assert table["shape"]["widths"] == [6, 8]
    assert {"stem", "0>0", "0>1", "1>0", "1>1", "mbconv@stem", "mbconv@1"} <= set(table["parts"])
    assert all(0 <= part["ms"] < 1000 for part in table["parts"].values())
    assert sum(part["ms"] for part in table["parts"].values()) > 0
    assert all(one["measured_ms"] > 0 and one["predicted_ms"] > 0 for one in table["tried"])
    # In so small a space some may be networks that the table is made of.
    assert 1 <= len(table["tried"]) <= 3
    assert table["command"].split()[0] == "slimalign"
    off = [one for one in table["tried"] if abs(one["predicted_ms"] / one["measured_ms"] - 1) > 0.15]
    assert done.status == bool(off)
    assert ("predictions are off" in done.err) == bool(off)

    files = sorted(Path("here/table-files").iterdir())
    written = [path.stat().st_mtime_ns for path in files]
    again = slimalign("latency-table", *options, "--json")
    assert again.status in (0, 1), again.err
    assert list(json.loads(again.out)["parts"]) == list(table["parts"])
    assert [path.stat().st_mtime_ns for path in files] == written, "files that are there are made anew"

    by = ("--latency-table", "here/table.json", "--json")
    least = slimalign("slim", searched_run, "--max-ms", "1e-9", *by)
    assert (least.status, least.out) == (2, "")
    reachable = float(least.err.split(" takes at least ")[1].split(" ms")[0])
    cut = slimalign("slim", searched_run, "--max-ms", reachable, *by)
    assert cut.status == 0, cut.err
    assert 0 < cut.json["predicted_ms"] <= reachable
    said = slimalign("slim", searched_run, "--max-gmacs", cut.json["macs"] / 1e9, *by[:2], "--name", "other")
    assert " ms, 5th percentile, by here/table.json; to train" in said.out


@pytest.mark.usefixtures("quick")
def test_a_table_is_measured_on_a_device(
    slimalign: Command, searched_run: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_tables, "CALIBRATING", 1)
    there = ("--target", sshd.address, "--python", sys.executable)
    done = slimalign(
        "latency-table", "--run", searched_run, "--format", "onnx", *there, "--check", "0", "--json"
    )
    assert done.status == 0, done.err
    assert done.json["target"] == sshd.address
    assert done.json["tried"] == []
    assert done.json["before"]["time"] <= done.json["after"]["time"]


@pytest.mark.parametrize(
    ("python", "said"),
    [(sys.executable, "no ssh server listens there"), ("python-of-nobody", "python-of-nobody is not there")],
)
def test_a_device_is_reached_before_networks_are_written(
    slimalign: Command, sshd: Sshd, python: str, said: str
) -> None:
    address = sshd.address if "nobody" in python else "ssh://nobody@127.0.0.1:1"
    options = ("--format", "onnx", "--target", address, "--python", python)
    done = slimalign("latency-table", "--recipe", DEMO, *options)
    assert done.status == 2
    assert said in done.err
    assert list(Path().glob("latency-table*")) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give either a run, --run, or a recipe, --recipe"),
        (("--recipe", DEMO, "--run", "x"), "give either a run"),
        (("--recipe", "nowhere.toml"), "nowhere.toml: no such recipe"),
        (("--run", "nowhere"), "nowhere: not a run folder"),
        (("--recipe", DEMO, "--format", "torch"), "--format torch: tables are of formats that"),
        (("--recipe", DEMO, "--format", "tensorrt-fp16"), "--format tensorrt-fp16: tables are of"),
        (("--recipe", DEMO, "--format", "onnx", "--check", "-1"), "--check -1: give a whole number"),
        (("--recipe", DEMO, "--threads", "0"), "--threads: '0' is neither"),
        (("--recipe", DEMO, "--format", "onnx", "--out", "."), ".: cannot be written"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_one_line(
    slimalign: Command, options: tuple[object, ...], said: str
) -> None:
    done = slimalign("latency-table", *options)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"slimalign: {said}"), done.err
    assert done.err.count("\n") == 1


def test_a_proof_holds_no_network_that_the_table_is_made_of() -> None:
    request = latency_tables.TableRequest(tiny(), None, "onnx", 1, 8, "")
    made_of = {network.operations for network in latency_tables._made_of(request.full).values()}
    assert not made_of & {network.operations for network in latency_tables._proof(request).values()}
