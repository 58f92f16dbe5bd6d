"""pick and compare on results files written by hand: what is shown, what scripts get, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from command_line.place import Command
from records import accuracy, cost, latency

from slimalign import api
from slimalign.benchmarks.results import AnyRecord, append

FACES = (3.0, 4.0, 5.0)
SHIFTED = (3.5, 4.5, 5.5)


def measured(sha256: str, nmes: Sequence[float], ms: float) -> list[AnyRecord]:
    samples = tuple(ms * (1 + 0.01 * (number % 3)) for number in range(12))
    timed = replace(latency(sha256, samples), visits=(4, 4, 4)).with_intervals()
    judged = replace(
        accuracy(sha256, sum(nmes) / 3, "val"), nmes=tuple(nmes), subset_nmes={"far": (nmes[0],)},
        nme_interval=(nmes[0], nmes[-1]),
    )  # fmt: skip
    return [timed, judged, cost(sha256)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    for letter, nmes, ms in (("a", FACES, 6.0), ("b", SHIFTED, 3.0), ("c", (7.0, 8.0, 9.0), 2.5)):
        append(path, measured(64 * letter, nmes, ms))
    return path


def test_pick_shows_the_choice_the_runner_up_and_the_knee(slimalign: Command, results: Path) -> None:
    done = slimalign("pick", results)
    assert (done.status, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert any(line.startswith("bundle net-aaa") for line in lines)
    assert "runtime onnxruntime onnxruntime" in lines
    assert "NME % 4.00 (3.00 to 5.00) 4.50 (3.50 to 5.50)" in lines
    assert any(line.startswith("p50 ms 6.06 (") for line in lines)
    a, b = (f"net-{64 * letter} on onnxruntime fp32" for letter in "ab")
    assert f"The choice is {a}, by the NME on val" in lines
    # Of 8 ways to set three signs two are as far from 0.
    assert any(
        line.startswith(
            f"The runner-up is {b}: NME 4.50 % against 4.00 %: no difference beyond the noise (p = 0.2"
        )
        for line in lines
    )
    assert f"The knee of latency against NME: {b}, NME 4.50 %, 3.03 ms" in lines


def test_the_api_gives_what_the_command_line_gives(slimalign: Command, results: Path) -> None:
    limits = (
        "--max-latency-ms",
        "5",
        "--max-nme-subset",
        "far=8",
        "--min-throughput",
        "1",
        "--max-params",
        "2000000",
    )
    shown = slimalign("pick", results, *limits, "--json").json
    found = api.pick(
        results, max_latency_ms=5, max_nme_subset={"far": 8.0}, min_throughput=1, max_params=2_000_000
    )
    assert shown == json.loads(json.dumps(found.to_dict()))
    assert {"point", "runner_up", "why", "knee", "binding", "relaxations"} <= set(shown)
    assert (shown["point"]["sha256"], shown["binding"]) == ("b" * 64, ["max_latency_ms"])
    assert [point.sha256[0] for point in api.points(results)] == ["a", "b", "c"]
    compared = slimalign("compare", results, results, "--json").json
    assert compared == json.loads(json.dumps(api.compare(results, results).to_dict()))


def test_limits_that_nothing_meets_end_with_1_and_what_would_let_one_in(
    slimalign: Command, results: Path
) -> None:
    done = slimalign(
        "pick", results, "--max-latency-ms", "1", "--max-nme-subset", "far=4.2", "--min-throughput", "200"
    )
    assert done.status == 1
    assert "No point fits; binding: --max-latency-ms, --min-throughput, --max-nme-subset far" in done.out
    lines = [line for line in done.out.splitlines() if line.startswith("raise")]
    # Latency 1 and 200 faces a second: b is 203 % over, and 7 % in NME; a is 506 % and 21 % over.
    a, b = (f"then net-{64 * letter} on onnxruntime fp32" for letter in "ab")
    assert lines == [
        f"raise --max-latency-ms 3.03 and raise --max-nme-subset far=4.5: {b} fits, NME 4.50 %, 3.03 ms",
        f"raise --max-latency-ms 6.06 and lower --min-throughput 165: {a} fits, NME 4.00 %, 6.06 ms",
    ]
    again = slimalign("pick", results, "--max-nme-subset", "far=2.5")
    assert "raise --max-nme-subset far=4: then net-aaa" in again.out


def changed(results: Path, **changes: object) -> None:
    """The last latency record once more, with changes."""
    append(results, [replace(latency("b" * 64), **changes)])  # type: ignore[arg-type]


def test_bad_results_are_one_line_each(slimalign: Command, results: Path) -> None:
    whole = results.read_text()
    changed(results, protocol="kernel-1-reference")
    mixed = whole, results.read_text()
    cases = [
        (mixed[1], (), "several protocols (kernel-1-draft, kernel-1-reference), which do not compare"),
        (whole.replace("6.06", "NaN", 1), (), "results.jsonl, line 1: it holds NaN; a figure that is not finite"),
        (whole.replace('"samples_ms": [6.0', '"samples_ms": [1e999', 1), (), "line 1: samples_ms = [Infinity, "),
        (re.sub(r'"p50_ms": \[[\d.]+', '"p50_ms": [1e999', whole, count=1), (), "line 1: intervals = {"),
        (re.sub(r'"nme_interval": \[[\d.]+', '"nme_interval": [1e999', whole, count=1), (), "line 2: nme_interval = ["),
        (whole[:-30], (), "results.jsonl, line 9: not a whole record; if its writer was killed"),
        (whole, ("--target", "ssh://orin"), "no latency with --target ssh://orin; it holds local"),
        (whole, ("--max-nme-subset", "far"), "--max-nme-subset far: give a subset and its most NME in percent"),
        (whole, ("--max-nme-subset", "=5"), "--max-nme-subset =5: give a subset and its most NME in percent"),
        (whole, ("--max-nme-subset", "near=5"), "none of 3 points has NME on near"),
        (whole, ("--max-energy-mj", "5"), "none of 3 points has energy of a face"),
        (whole, ("--max-nme-subset", "far=nan"), "--max-nme-subset far=nan: must be above 0"),
    ]  # fmt: skip
    for text, options, fault in cases:
        results.write_text(text)
        done = slimalign("pick", results, *options)
        assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
        assert fault in done.err


def test_two_bundles_under_one_name_are_told_apart(slimalign: Command, results: Path) -> None:
    results.write_text(
        results.read_text().replace(f"net-{64 * 'a'}", "net").replace(f"net-{64 * 'b'}", "net")
    )
    done = slimalign("pick", results)
    assert "The choice is net (aaaaaaaa) on onnxruntime fp32" in done.out
    assert "The runner-up is net (bbbbbbbb) on onnxruntime fp32" in done.out


def test_an_nme_that_another_runtime_found_is_marked(slimalign: Command, results: Path) -> None:
    assert " by " not in slimalign("pick", results).out.partition("The choice")[0]
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    lines = [{**line, "runtime": "torch"} if line["kind"] == "accuracy" else line for line in lines]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = slimalign("pick", results)
    assert re.search(r"by\s+torch", done.out.partition("The choice")[0])
    assert slimalign("pick", results, "--json").json["point"]["judged_by"] == "torch"


def test_a_file_of_an_older_version_is_read(slimalign: Command, results: Path) -> None:
    new = {"visits", "inputs", "transfers", "graph", "intervals", "memory", "energy", "nmes", "subset_nmes"}
    new |= {"nme_interval", "params_without_head", "macs_without_head", "bytes_moved"}
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    old = [{key: value for key, value in line.items() if key not in new} for line in lines]
    results.write_text("".join(json.dumps(line) + "\n" for line in old))
    point = slimalign("pick", results, "--json").json["point"]
    assert (point["sha256"], point["p50_interval"], point["memory_mb"]) == ("a" * 64, None, None)
    assert "how sure that is was not kept" in slimalign("pick", results).out
    assert slimalign("compare", results, results).status == 0


def test_compare_fails_where_something_surely_got_worse(
    slimalign: Command, results: Path, tmp_path: Path
) -> None:
    after = tmp_path / "after.jsonl"
    append(after, [*measured("a" * 64, FACES, 9.0), *measured("b" * 64, SHIFTED, 3.0)])
    done = slimalign("compare", results, after)
    assert (done.status, done.err) == (1, "")
    row = next(line for line in done.out.splitlines() if " p50 ms " in line)
    assert row.split()[-1] == "WORSE"
    assert "+50.00" in row
    assert f"only in the first file: net-{64 * 'c'} on onnxruntime fp32, local: NME %" in done.out
    assert done.out.splitlines()[-1] == (
        "2 of 10 figures worse, surely (p < 0.05) and by more than 5 % as measured"
    )
    assert slimalign("compare", results, after, "--max-worse", "60").status == 0
    assert slimalign("compare", after, results).status == 0


def test_compare_says_in_one_line_what_it_cannot_do(
    slimalign: Command, results: Path, tmp_path: Path
) -> None:
    after = tmp_path / "after.jsonl"
    append(after, [latency("d" * 64)])
    cases = [
        ((results, after), "the two files have no figure"),
        ((results, tmp_path / "none.jsonl"), "none.jsonl: no such results file"),
        ((results, results, "--split", "test"), "no NME of the split 'test' by inter-ocular"),
        ((results, results, "--max-worse", "-1"), "max_worse = -1; give a share in percent"),
    ]  # fmt: skip
    for arguments, fault in cases:
        done = slimalign("compare", *arguments)
        assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
        assert fault in done.err
    append(after, [replace(latency("a" * 64), protocol="kernel-1-reference")])
    assert "these do not compare" in slimalign("compare", results, after).err
    forced = slimalign("compare", results, after, "--force")
    assert forced.out.startswith("forced: net-aaaa")
