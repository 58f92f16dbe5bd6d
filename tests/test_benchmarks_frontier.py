"""The results file, the points, the frontier and the report, on records written by hand."""

import io
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from records import POINTS, accuracy, cost, latency, point
from rich.console import Console
from rich.table import Table

from slimalign.benchmarks.frontier import frontier, pareto_mask
from slimalign.benchmarks.points import join
from slimalign.benchmarks.report import short_count, table
from slimalign.benchmarks.results import AccuracyRecord, Results, append, check_results, forget, read
from slimalign.runtimes.errors import UserError


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [latency("a"), accuracy("a", 3.5)])
    append(path, [cost("a")])
    assert read(path) == Results((latency("a"),), (accuracy("a", 3.5),), (cost("a"),))


@pytest.mark.parametrize("kept", [1, 10, -2])
def test_a_cut_last_line_is_named_and_the_next_append_mends_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [cost("a"), cost("b")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    with pytest.raises(
        UserError, match=r"results.jsonl, line 2: not a whole record; if its writer was killed"
    ):
        read(path)
    notes: list[str] = []
    append(path, [cost("c")], notes.append)
    assert read(path).cost == (cost("a"), cost("c"))
    assert path.read_bytes().startswith(first)
    assert notes == [f"{path}: its last line was cut short, as by a kill: it was taken off"]


@pytest.mark.parametrize(
    "held", ["the last line of a text", "a text\nthat ends well\n", '{"a": 1}', "5", '{"a": [1,\n2']
)
def test_a_file_of_another_kind_is_not_added_to(tmp_path: Path, held: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(held, encoding="utf-8")
    said = r"notes\.txt: it ends with a line that is no record; give a results file, or the name of a new one"
    for act in (check_results, lambda path: append(path, [cost("a")]), lambda path: forget(path, bool)):
        with pytest.raises(UserError, match=said):
            act(path)
        assert path.read_text(encoding="utf-8") == held


@pytest.mark.parametrize("written", ['{"kind":"cost"}', '{"bundle": "a", "kind": "cost"}\n', "", "\n"])
def test_what_another_program_wrote_as_records_is_added_to(tmp_path: Path, written: str) -> None:
    path, notes = tmp_path / "results.jsonl", list[str]()
    path.write_text(written, encoding="utf-8")
    check_results(path)
    append(path, [cost("a")], notes.append)
    assert path.read_text(encoding="utf-8").startswith(written)
    assert notes == []


def test_a_whole_last_line_is_kept_where_only_its_end_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [cost("a"), cost("b")])
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path).cost == (cost("a"), cost("b"))
    append(path, [cost("c")])
    assert read(path).cost == (cost("a"), cost("b"), cost("c"))


def test_a_cut_line_within_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [cost("a"), cost("b")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[:20] + b"\n" + second)
    with pytest.raises(UserError, match=r"results.jsonl, line 1: not a whole record"):
        read(path)


def test_what_is_appended_while_records_are_taken_out_is_kept(tmp_path: Path) -> None:
    """The other writer waits, and then adds to the new file."""
    path = tmp_path / "results.jsonl"
    append(path, [cost("a"), cost("b")])
    writers = []

    def stale(record: object) -> bool:
        if not writers:
            writers.append(threading.Thread(target=append, args=(path, [cost("c")])))
            writers[0].start()
            writers[0].join(0.2)
        return record == cost("a")

    forget(path, stale)
    writers[0].join()
    assert read(path).cost == (cost("b"), cost("c"))


FULL = """
import resource, sys
from slimalign.benchmarks.results import CostRecord, append
from slimalign.runtimes.errors import UserError

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
record = CostRecord("net", "x" * 100, "fp32", 1, None, None)
for _ in range(20):
    try:
        append(sys.argv[1], [record, record])
    except UserError as error:
        print(error)
        break
"""


@pytest.mark.parametrize("cut", [b"", b'{"kind": "co'])
def test_a_full_disk_adds_whole_lines_or_none(tmp_path: Path, cut: bytes) -> None:
    """A quota of 1000 bytes on file size stands for the disk; the last write begins and finds too little room."""
    path = tmp_path / "new" / "results.jsonl"
    append(path, [cost("a")])
    path.write_bytes(path.read_bytes() + cut)
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{path}: cannot be written (File too large); free some space or mend its rights; nothing was added"
    ]
    lines = path.read_bytes().splitlines(keepends=True)
    pairs = (1000 - len(lines[0])) // (2 * len(lines[-1]))
    assert [record.bundle for record in read(path).cost] == ["net-a"] + 2 * pairs * ["net"]
    assert 0 < 1000 - path.stat().st_size < 2 * len(lines[-1])


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        append(tmp_path, [cost("a")])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"kind": "speed"}', "line 1: kind = 'speed', must be one of latency, told-latency, accuracy, cost"),
        ('{"kind": "cost", "bundle": "a"}', "line 1: not a whole record"),
        ('{"kind": "cost", "params": NaN}', "line 1: it holds NaN"),
        ("[]", r"line 1: not a whole record \(expected object, got array\)"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read(path)


def test_figures_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        accuracy("a", float("nan"))
    with pytest.raises(UserError, match="no such results file"):
        read(tmp_path / "none.jsonl")


@given(arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(1, 3)), elements=st.integers(0, 4)))
def test_the_frontier_is_what_nobody_beats(values: np.ndarray) -> None:
    def beats(a: np.ndarray, b: np.ndarray) -> bool:
        pairs = list(zip(a.tolist(), b.tolist(), strict=True))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    expected = [not any(beats(other, row) for other in values) for row in values]
    assert pareto_mask(values).tolist() == expected


def test_a_frontier_is_sorted_and_leaves_out_what_is_unknown() -> None:
    points = [point("slow", 9, 3), point("fast", 1, 5), point("beaten", 9, 4), point("untested", 1, None)]
    found = frontier(points, ("latency", "nme")).points
    assert [p.bundle for p in found] == ["fast", "slow"]
    with pytest.raises(UserError, match="axes speed: choose from latency"):
        frontier(points, ("speed",))


def test_more_throughput_is_better() -> None:
    # 1 face in 2 ms is 500 a second, 8 faces in 8 ms are 1000 a second.
    points = [point("one", 2, 3), point("eight", 8, 3, batch=8)]
    assert [p.throughput for p in points] == [500.0, 1000.0]
    assert [p.bundle for p in frontier(points, ("throughput", "nme")).points] == ["eight"]


def test_records_are_joined_by_the_file_they_measure() -> None:
    results = Results(
        latency=(latency("a"), latency("a", (5.0, 6.0, 7.0)), latency("a", batch=4)),
        accuracy=(accuracy("a", 3.5), accuracy("b", 4.0)),
        cost=(cost("a"),),
    )
    joined = join(results)
    assert [(p.sha256, p.batch, p.p50_ms, p.nme, p.params, p.macs) for p in joined] == [
        ("a", 1, 6.0, 3.5, 1_000_000, None),
        ("a", 4, 2.0, 3.5, 1_000_000, None),
        ("b", None, None, 4.0, None, None),
    ]


def test_figures_that_do_not_compare_are_not_joined() -> None:
    other = replace(latency("b"), protocol="kernel-1-reference")
    results = Results((latency("a"), other), (accuracy("a", 3.0), accuracy("a", 9.0, "train")))
    with pytest.raises(UserError, match=r"several protocols \(kernel-1-draft, kernel-1-reference\)"):
        join(results, split="test")
    with pytest.raises(UserError, match=r"several splits \(test, train\)"):
        join(results, protocol="kernel-1-draft")
    assert [p.nme for p in join(results, split="train", protocol="kernel-1-draft")] == [9.0]
    elsewhere = Results((latency("a"), replace(latency("b"), cpu="Cortex-A72")))
    with pytest.raises(UserError, match=r"several processors \(.*Cortex-A72.*one results file a machine"):
        join(elsewhere)


def test_accuracy_on_other_faces_under_the_same_name_is_not_joined() -> None:
    mixed = (accuracy("a", 3.0), accuracy("b", 2.0, faces="9f8e"), accuracy("b", 5.0, split="val"))
    with pytest.raises(
        UserError, match=r"several sets of faces .* \(0a1b, 9f8e\), .* one results file a data set"
    ):
        join(Results(accuracy=mixed), split="test")
    assert [p.nme for p in join(Results(accuracy=mixed), split="val")] == [5.0]
    # Once every bundle is judged on the new faces, the old figures are out of the way.
    again = (*mixed, accuracy("a", 2.5, faces="9f8e"))
    assert [p.nme for p in join(Results(accuracy=again), split="test")] == [2.5, 2.0]


def test_latency_is_joined_at_one_batch_size_and_thread_count() -> None:
    four = replace(latency("a", (9.0,), batch=8), threads=4)
    results = Results(
        latency=(latency("a"), latency("a", (8.0,), batch=8), four, latency("b", (5.0,), batch=8)),
        accuracy=(accuracy("c", 4.0),),
        cost=(cost("a"), cost("b")),
    )

    def timed(batch: int | None, threads: int | None) -> list[tuple[str, float | None]]:
        return [(p.sha256, p.p50_ms) for p in join(results, batch=batch, threads=threads)]

    # A bundle that was timed otherwise is still there, as one that was not timed is.
    assert timed(1, 1) == [("a", 2.0), ("b", None), ("c", None)]
    assert timed(8, 1) == [("a", 8.0), ("b", 5.0), ("c", None)]
    assert timed(8, None) == [("a", 8.0), ("a", 9.0), ("b", 5.0), ("c", None)]
    with pytest.raises(
        UserError, match="no latency with --batch 1 --threads 4; the results hold --batch 1 --thr"
    ):
        timed(1, 4)
    untimed = join(replace(results, latency=()), batch=1, threads=1)
    assert [(p.sha256, p.p50_ms) for p in untimed] == [("a", None), ("b", None), ("c", None)]


def test_a_table_lists_the_best_first_and_unknown_as_such() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(table([POINTS[2], point("untested", 1, None), POINTS[0]]))
    lines = [line for line in text.getvalue().splitlines() if "litert" in line]
    assert [next(n for n in ("big", "small", "untested") if n in line) for line in lines] == [
        "big",
        "small",
        "untested",
    ]
    assert "?" in lines[2]
    assert "local, kernel-1-draft, fp32, batch 1, threads 1" in text.getvalue()
    assert not {"precision", "batch", "threads", "target", "protocol"} & headings(table(POINTS))
    mixed = table([POINTS[0], replace(POINTS[1], protocol="kernel-1-reference", batch=8)])
    assert {"batch", "protocol"} <= headings(mixed)
    assert mixed.title == "local, fp32, threads 1"


def test_a_long_table_ends_with_how_many_are_left_out() -> None:
    """The best by NME are shown; what was not judged is the first to be left out."""
    made = table([*POINTS, point("untested", 1, None)], most=len(POINTS) - 1)
    assert made.row_count == len(POINTS) - 1
    assert made.caption == "and 2 more of higher NME, or without one"
    text = io.StringIO()
    Console(file=text, width=200).print(made)
    worst = max(POINTS, key=lambda one: one.nme or 0.0)
    assert worst.bundle not in text.getvalue()
    assert table(POINTS).caption is None


def headings(made: Table) -> set[str]:
    return {str(column.header) for column in made.columns}


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_folds_names_and_keeps_numbers_whole(width: int) -> None:
    student = point("a-student-of-a-rather-long-name", 123.45, 9.93, params=180_951, macs=11_600_000)
    text = io.StringIO()
    Console(file=text, width=width).print(table([replace(student, size_bytes=812_900)]))
    assert "…" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= width
    for number in ("123.45", "9.93", "181 k", "11.6 M", "813 k"):
        assert number in text.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (999, "999"), (999.4, "999"), (999.6, "1 k"), (1000, "1 k"), (180_951, "181 k"), (999_499, "999 k"),
        (999_500, "1 M"), (11_560_000, "11.6 M"), (4.66e9, "4.66 G"),
    ],
)  # fmt: skip
def test_counts_are_written_in_three_digits(value: float, text: str) -> None:
    assert short_count(value) == text


def test_a_point_has_the_nme_of_the_runtime_that_was_timed() -> None:
    def by(runtime: str, target: str, nme: float) -> AccuracyRecord:
        return replace(accuracy("a", nme), runtime=runtime, target=target)

    def joined(*judged: AccuracyRecord) -> tuple[float | None, str | None]:
        (one,) = join(Results((latency("a"),), judged))
        return one.nme, one.judged_by

    same, elsewhere = by("onnxruntime", "local", 1.0), by("onnxruntime", "ssh://pi", 2.0)
    other, far = by("litert", "local", 3.0), by("litert", "ssh://pi", 4.0)
    assert joined(same, elsewhere, other, far) == (1.0, None)
    assert joined(elsewhere, other, far) == (2.0, None)
    assert joined(other, far) == (3.0, "litert")
    assert joined(far) == (4.0, "litert")
    assert joined(same, replace(same, nme=5.0), far) == (5.0, None), "the latest of its kind"
    text = io.StringIO()
    Console(file=text, width=200).print(table(join(Results((latency("a"),), (other,)))))
    assert "3.00 by litert" in text.getvalue()
