"""What a mistake looks like: status 2 and one line that names it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line.place import COMMANDS, ROOT, Command, Place


@pytest.mark.parametrize(
    ("boxes", "fault"),
    [
        ("[[0, 0], [10, 10]]", r"0.png: box \[0, 0\]; give four finite numbers"),
        ("[[0, 0, 10, NaN]]", r"0.png: box \[0, 0, 10, NaN\]; give four finite numbers"),
        ('[["0", 0, 10, 10]]', r"0.png: box .*; give four finite numbers"),
        ("[0, 0, 10, 10]", r"0.png: box 0; give four finite numbers"),
        ('"all"', r"0.png: its boxes are \"all\"; give a list"),
        ("[[0, 0, 0, 10]]", r"0.png: box 0,0,0,10: it has no area"),
        ("[[200, 0, 210, 10]]", r"0.png: box 200,0,210,10: outside the image of 96x96"),
    ],
)
def test_a_wrong_box_is_named_with_its_image(
    slimalign: Command, place: Place, boxes: str, fault: str
) -> None:
    photo = str(place.data / "0.png")
    Path("boxes.json").write_text(f"{{{json.dumps(photo)}: {boxes}}}")
    done = slimalign("predict", "--bundle", place.onnx, "--boxes", "boxes.json")
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert re.search(fault, done.err), done.err


MISTAKES = [
    (
        "export {torch} --formats onnx --compute-capability 8.6",
        "no engine is asked for; add tensorrt-fp16 or",
    ),
    (
        "export {torch} --formats tensorrt-fp16 --compute-capability 1.0",
        "compute capability 1.0: here builds",
    ),
    ("profile hrnet-w81", "did you mean hrnet-w18?"),
    ("profile hrnet-w18 --landmarks 0", "hrnet-w18: 0 landmarks; give a number of at least 1"),
    ("profile hrnet-w18 --landmarks -1", "hrnet-w18: -1 landmarks; give a number of at least 1"),
    ("profile hrnet-w18 --input 100", "hrnet-w18: input size 100; give a multiple of 32"),
    ("profile hrsupernet --input 100", "hrsupernet: input size 100; give a multiple of 32"),
    ("profile hrsupernet --input 0", "hrsupernet: input size 0; give a multiple of 32"),
    ("profile hrsupernet --landmarks 0", "hrsupernet: 0 landmarks; give a number of at least 1"),
    ("profile {data}/0.png", "0.png: not a JSON file that can be read"),
    ("profile {onnx} --landmarks 29", "a bundle has 19 landmarks and input size 64; leave --landmarks"),
    ("profile {onnx} --input 64", "a bundle has 19 landmarks and input size 64; leave --landmarks"),
    ("profile {onnx}/model.onnx --input 32", "a model file has its landmarks and input size"),
    ("profile {torch} --timed --threads 0", "threads = 0, must be at least 1"),
    ("frobnicate", "slimalign: No such command 'frobnicate'; see slimalign --help"),
    ("--frobnicate", "slimalign: No such option: --frobnicate; see slimalign --help"),
    ("profile", "; see slimalign profile --help"),
    ("profile hrnet-w18 hrnet-w32", "(hrnet-w32); see slimalign profile --help"),
    ("profile hrnet-w18 --input wide", "Invalid value for '--input': "),
    (
        "bench --bacth 1",
        "No such option: --bacth (Possible options: --batch, --data); see slimalign bench --help",
    ),
    ("bench {onnx} --batch", "slimalign: Option '--batch' requires an argument; see slimalign --help"),
    ("predict photo.jpg", "slimalign: Missing option '--bundle'; see slimalign predict --help"),
    ("run nowhere.toml", "nowhere.toml: no such recipe"),
    ("run {root}/recipes", "recipes: cannot be read (Is a directory); give one recipe, a TOML file"),
    (
        "run {onnx}/model.onnx/a.toml",
        "a.toml: cannot be read (Not a directory); give one recipe",
    ),
    ("run {root}/recipes/demo.toml --data nowhere --out run", "--data nowhere: data.format = drawn needs no"),
    ("run {root}/recipes/faces300w_cpu.toml --out run", "give it with --data"),
    ("eval nowhere --data .", "nowhere: no such folder; give a bundle"),
    ("eval {onnx}/.. --data .", "not a bundle, but holds some; give one of {onnx}/../onnx, {onnx}/../torch"),
    ("eval {data} --data .", "not a bundle, it holds no bundle.json"),
    ("pick {root}/README.md", "README.md, line 1: not a whole record"),
    ("eval {onnx} --data nowhere", "nowhere: no such folder"),
    ("eval {onnx} --data {data} --normaliser nose", "normaliser 'nose' is unknown"),
    ("eval {onnx} --data {data} --threshold 0", "threshold 0; give an NME in percent above 0"),
    ("eval {onnx} --data {data} --data-format folder --split x", "the splits there are test, val"),
    ("bench nowhere", "nowhere: no such folder"),
    ("bench {onnx} --timed all", "--timed all: choose among kernel, end-to-end, with a comma between them"),
    ("bench {onnx} --batch 0", "--batch: '0' is not a whole number above 0"),
    ("bench {onnx} --batch \u00b2", "--batch: '\u00b2' is not a whole number above 0"),
    ("bench {onnx} --data {data} --data-format folder --split x", "the splits there are test, val"),
    ("export nowhere", "nowhere: neither a finished run nor a PyTorch bundle"),
    ("export {onnx}", "a bundle of format onnx; export starts from a torch bundle"),
    ("slim nowhere --max-gmacs 1", "nowhere: not a run folder"),
    ("slim {run}", "give either threshold, or max_gmacs"),
    ("slim nowhere --max-gmacs 1 --name ../up", "--name '../up': give a name without folders"),
    ("slim nowhere --max-gmacs 1 --name distilled", "the run's own bundle has that name; give another"),
    ("run {root}/recipes/demo.toml --devices 0", "--devices 0: give a whole number of at least 1"),
    ("export {run} --out {run}/bundles", "bundles: a run's own bundles, with what was measured of them"),
    (
        "export {torch} --formats onnx-int8",
        "torch: files of fewer bits are calibrated and judged on faces; give them",
    ),
    (
        "export {torch} --formats onnx-int8 --data {data} --data-format folder",
        "the splits there are test, val",
    ),
    (
        "export {torch} --formats tensorrt-fp16 --batches 8",
        "--batches 8: give least, best and largest batch size",
    ),
    ("export {torch} --formats torch,onyx", "format 'onyx' is unknown; choose one of onnx"),
    ("pick nowhere.jsonl", "nowhere.jsonl: no such results file"),
    ("report nowhere.jsonl", "nowhere.jsonl: no such results file"),
    ("predict --bundle {onnx}", "give a photo, or --boxes"),
    ("predict nowhere.png --bundle {onnx}", "nowhere.png: the image cannot be read"),
    ("predict {data}/0.png --bundle {onnx} --box 1,2,3", "--box 1,2,3: give four numbers"),
    ("predict {data}/0.png --bundle {onnx} --box 1,2,3,nan", "--box 1,2,3,nan: give four numbers"),
    ("predict {data}/0.png --bundle {onnx} --boxes a.json", "--boxes FILE.json names photos and boxes"),
    ("predict --bundle {onnx} --boxes nowhere.json", "nowhere.json: cannot be read (No such file"),
    ("predict --bundle {onnx} --boxes {onnx}/model.onnx", "model.onnx: not valid JSON"),
]


@pytest.mark.parametrize(("line", "fault"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_mistakes_end_with_status_2_and_one_line(
    slimalign: Command, place: Place, line: str, fault: str
) -> None:
    places = {"onnx": place.onnx, "torch": place.torch, "data": place.data, "run": place.run, "root": ROOT}
    done = slimalign(*(word.format(**places) for word in line.split()))
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert fault.format(**places) in done.err


def test_help_is_no_mistake(slimalign: Command) -> None:
    for words in ([], *([name] for name in COMMANDS)):
        done = slimalign(*words, "--help")
        assert (done.status, done.err) == (0, "")
        assert " ".join(["Usage: slimalign", *words]) in done.out


def test_without_arguments_there_is_help(slimalign: Command) -> None:
    done = slimalign()
    assert (done.status, done.err) == (2, "")
    assert all(name in done.out for name in COMMANDS)


CTRL_C = """
import os, signal, threading
from slimalign.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this behind it
os.mkfifo("recipe.toml")
def interrupt():
    with open("recipe.toml", "wb"):  # waits until the command reads from it
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
main(["run", "recipe.toml"])
"""


def test_ctrl_c_ends_with_status_130_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CTRL_C]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (
        130,
        "",
        "slimalign: broken off; a run goes on with the same command, after its last whole epoch\n",
    )


def test_bad_faces_are_left_out_by_name(slimalign: Command, place: Place, tmp_path: Path) -> None:
    data = tmp_path / "broken [/c]"
    data.mkdir(parents=True)
    (data / "0.png").write_bytes((place.data / "0.png").read_bytes())
    # The second face's image, with a name that rich would read as markup, is missing.
    listed = (place.data / "val.csv").read_text().splitlines()[:3]
    (data / "val.csv").write_text("\n".join(listed).replace("1.png", "[/d].png"))
    command = (
        "bench",
        place.onnx,
        "--data",
        data,
        "--data-format",
        "folder",
        "--batch",
        "1",
        "--threads",
        "1",
    )
    refused = slimalign(*command)
    assert refused.status == 2
    assert "[/d].png: the image cannot be read" in refused.err
    done = slimalign(*command, "--skip-bad", "--json")
    assert len(done.json) == 1
    assert "val: 1 bad face\n  [/d].png: the image cannot be read" in done.err
