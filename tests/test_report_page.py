"""The report without a browser: what is in its data, its files and its commands."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import BUNDLES, EVIL, accuracy_of, few_records, few_results, latency_of, many_results
from records import POINTS, point, told

from slimalign import api
from slimalign.benchmarks.axes import AXES
from slimalign.benchmarks.frontier import frontier
from slimalign.benchmarks.layers import Layer, LayersRecord
from slimalign.benchmarks.report import table
from slimalign.benchmarks.report_page.accuracy_figures import MOST_STEPS, ced_rows
from slimalign.benchmarks.report_page.chosen import point_names
from slimalign.benchmarks.report_page.commands import all_places, bench_commands, eval_commands, formats_of
from slimalign.benchmarks.report_page.frontier_plot import published_dots, save_frontier
from slimalign.benchmarks.report_page.latency_figures import sweep_titles, time_rows
from slimalign.benchmarks.report_page.packing import columns, csv_text, script_json
from slimalign.benchmarks.report_page.published import published_parts, published_rows
from slimalign.benchmarks.report_page.run_figures import MOST_LAYERS, layer_rows
from slimalign.benchmarks.report_page.summary import summary_of
from slimalign.benchmarks.report_screenshot import take
from slimalign.benchmarks.results import CostRecord, Results, append
from slimalign.cli import main
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.timing import Record

MOST_BYTES = 6_000_000


@pytest.fixture
def page(tmp_path: Path) -> str:
    api.report(few_results(tmp_path), tmp_path / "r.html")
    return (tmp_path / "r.html").read_text()


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def column(packed: Any, name: str) -> list[Any]:
    values = packed[name]
    return values if isinstance(values, list) else [values["values"][code] for code in values["codes"]]


def test_the_page_holds_every_point_and_each_setting_its_own(page: str) -> None:
    frontier_data = data_of(page)["frontier"]
    points = frontier_data["points"]
    assert len(column(points, "bundle")) == 3 * 2 * 3
    assert set(column(points, "bundle")) == {name for name, *_ in BUNDLES}
    assert [(s["batch"], s["threads"], len(s["points"])) for s in frontier_data["settings"]] == [
        (1, 1, 6), (4, 1, 6), (8, 1, 6)
    ]  # fmt: skip
    for setting in frontier_data["settings"]:
        assert {column(points, "batch")[place] for place in setting["points"]} == {setting["batch"]}
    first = frontier_data["settings"][0]["points"]
    line, _ = frontier_data["curves"]["0|latency|nme"]
    # The faster runtime of each bundle, from the fastest to the most accurate.
    assert [column(points, "latency")[first[place]] for place in line] == [2.0, 4.0, 8.0]
    assert [round(column(points, "nme")[first[place]], 6) for place in line] == [9.0, 5.0, 3.0]
    lows = column(points, "latency low")
    assert [lows[first[place]] for place in line] == [1.96, 3.92, 7.84]


def test_what_bundles_are_called_is_no_markup(page: str) -> None:
    assert EVIL not in page
    assert "<img src=x" not in page
    assert EVIL in json.dumps(data_of(page)["frontier"]["points"])


@given(st.text())
def test_no_text_ends_the_script_that_holds_it(text: str) -> None:
    told = script_json({"text": text})
    assert json.loads(told) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(told)


def test_the_page_names_no_address_that_is_loaded(page: str) -> None:
    without_libraries = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", without_libraries)
    assert "default-src 'none'" in page


def test_sections_without_data_are_named_with_the_way_to_them(page: str) -> None:
    absent = page[page.index('<section id="absent">') :]
    assert "Steps of the run" in absent
    assert "slimalign report RUN_FOLDER" in absent
    assert "Layers" in absent
    for key in ("frontier", "points", "batches", "ced", "subsets", "time", "state"):
        assert f'<section id="{key}">' in page


def test_results_without_accuracy_give_a_page_without_a_frontier(tmp_path: Path) -> None:
    append(
        tmp_path / "results.jsonl",
        [*(latency_of("a", "net", "litert", size, 2.0) for size in (1, 2)), told("b", 3.0)],
    )
    points = api.report(tmp_path / "results.jsonl", tmp_path / "r.html")
    assert [point.p50_ms for point in points] == [2.0]
    page = (tmp_path / "r.html").read_text()
    assert '<section id="frontier">' not in page
    assert "no bundle has both an error and a cost" in page
    # Two machines and protocols are told, and never ranked together.
    assert len(data_of(page)["frontier"]["settings"]) == 3
    assert "Latencies of 2 machines are in this file" in page
    assert "1 latencies were told by another program" in page


def test_an_empty_results_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UserError, match="no records"):
        api.report(tmp_path / "results.jsonl", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["r.pdf", "r", "r.htm"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"written as \.html"):
        api.report(few_results(tmp_path), tmp_path / name)


def test_a_setting_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no latency with --batch 2; the results hold --batch 1 --threads 1"):
        api.report(few_results(tmp_path), tmp_path / "r.html", batch=2)


def test_figures_are_written_as_svg_and_csv(tmp_path: Path) -> None:
    api.report(few_results(tmp_path), tmp_path / "r.html", figures=tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {
        "frontier-latency-nme.svg",
        "frontier-latency-nme.csv",
        "ced.svg",
        "subsets.svg",
        "time.csv",
    } <= names
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".csv"}
    for path in (tmp_path / "figures").glob("*.svg"):
        text = path.read_text()
        assert text.startswith("<svg"), path
        assert "<path" in text, path
    with (tmp_path / "figures" / "batches-throughput.csv").open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if (row["bundle"], row["runtime"]) == ("big", "onnxruntime")
        ]
    # 8, 16 and 32 ms for 1, 4 and 8 images: from 4 on there are no more images a second.
    assert [(int(row["batch"]), float(row["images_per_s"])) for row in rows] == [(1, 125), (4, 250), (8, 250)]
    assert [float(row["ms_per_image"]) for row in rows] == [8, 4, 4]
    assert [row["knee"] for row in rows] == ["0", "1", "0"]


def test_a_curve_of_errors_counts_the_faces_below(tmp_path: Path) -> None:
    rows = ced_rows("a", [4.0, 1.0, 2.0, 8.0])
    assert [(row["nme"], row["share"]) for row in rows] == [(0, 0), (1, 25), (2, 50), (4, 75), (8, 100)]
    nmes = np.random.default_rng(0).gamma(4, 1.0, 5000)
    rows = ced_rows("a", nmes.tolist())
    assert len(rows) <= MOST_STEPS + 1
    for row in rows[1:]:
        assert row["share"] == pytest.approx(100 * (nmes <= row["nme"]).mean())


def test_sweeps_that_would_look_alike_are_chosen_apart() -> None:
    fp32 = latency_of("a", "net", "litert", 1, 1.0)
    sweeps = [
        [fp32],
        [replace(fp32, sha256="b", precision="int8")],
        [replace(fp32, sha256="c", bundle="other")],
    ]
    names = {"a": "net", "b": "net", "c": "other"}
    assert sweep_titles(sweeps, names) == ["net · fp32", "net · int8", "other"]
    there = [replace(fp32, target="ssh://pi@pi")]
    assert sweep_titles([[fp32], there], names) == ["net · local", "net · ssh://pi@pi"]


def test_visits_are_told_beside_the_whole_record() -> None:
    record = replace(
        latency_of("a", "net", "litert", 1, 1.0, calls=4), samples_ms=(1.0, 1.0, 3.0, 3.0), visits=(2, 2)
    )
    rows = time_rows(record, "net")
    assert [(row["calls"], row["p50_ms"], row["share"]) for row in rows] == [(2, 1.0, 50.0), (2, 3.0, 150.0)]
    # Older records do not know their visits: ten equal parts.
    old = replace(record, samples_ms=tuple(range(1, 21)), visits=())
    assert [row["p50_ms"] for row in time_rows(old, "net")] == [1.5 + 2 * part for part in range(10)]


def test_latencies_that_were_gone_on_with_are_told() -> None:
    whole = latency_of("a" * 64, "a", "litert", 1, 2.0)
    broken = replace(whole, openings=("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"))
    said = "1 of 2 latencies are of several times: they were gone on with after a break."
    assert said in summary_of(Results(latency=(whole, broken)), "val", "inter-ocular").warnings
    unbroken = summary_of(Results(latency=(whole,)), "val", "inter-ocular").warnings
    assert not any("several times" in one for one in unbroken)


def test_slow_layers_stand_first_and_shares_add_up() -> None:
    layers = tuple(Layer(f"layer-{n}", "Conv", 1, 10 * (n + 1), 4, float(n + 1)) for n in range(30))
    rows = layer_rows(LayersRecord("net", "a", "fp32", layers, runtime="litert"), "net")
    times = [row for row in rows if row["measure"] == "time"]
    assert [row["layer"] for row in times[:2]] == ["layer-29", "layer-28"]
    assert [row["value"] for row in times] == list(range(30, 30 - MOST_LAYERS, -1))
    # A share is that of all 30 layers, which take 1 + 2 + ... + 30 ms.
    assert times[0]["share"] == pytest.approx(100 * 30 / 465)
    moved = [row["share"] for row in rows if row["measure"] == "bytes moved"]
    assert moved == [pytest.approx(100 / 30)] * MOST_LAYERS
    untimed = tuple(replace(layer, ms=None) for layer in layers)
    assert {row["measure"] for row in layer_rows(LayersRecord("net", "a", "fp32", untimed), "net")} == {
        "multiply-adds", "bytes moved"
    }  # fmt: skip


def test_profiles_of_one_name_stand_apart(tmp_path: Path) -> None:
    layers = (Layer("stem", "Conv", 1, 10, 4, 1.0), Layer("stem", "Conv", 1, 30, 4, 3.0))
    first = LayersRecord("net", "a1" * 32, "fp32", layers, runtime="litert", threads=1)
    records = [
        first,
        replace(first, threads=2),
        replace(first, sha256="b2" * 32, precision="int8"),
        replace(first, sha256="c3" * 32),
        replace(first, target="ssh://pi@pi"),
        replace(first, runtime=None, threads=None),
    ]
    append(tmp_path / "r.jsonl", [*records, CostRecord("net", "a1" * 32, "fp32", 1, 1, 1)])
    api.report(tmp_path / "r.jsonl", tmp_path / "r.html")
    rows = data_of((tmp_path / "r.html").read_text())["figures"]["layers"]["rows"]
    assert set(column(rows, "bundle")) == {
        "net · litert, 1 thread, a1a1a1",
        "net · litert, 2 threads",
        "net · litert int8, 1 thread",
        "net · litert, 1 thread, c3c3c3",
        "net · litert, 1 thread, ssh://pi@pi",
        "net · not timed",
    }
    # Of one bar there is one row, so that no two are drawn on top of each other.
    bars = list(zip(*(column(rows, name) for name in ("bundle", "layer", "measure")), strict=True))
    assert len(set(bars)) == len(bars)
    assert set(column(rows, "layer")) == {"stem", "stem (2)"}
    assert all(share <= 100 for share in column(rows, "share"))


def test_commands_measure_the_same_again() -> None:
    held = Results(latency=tuple(record for record in few_records() if isinstance(record, Record)))
    (command,) = bench_commands(held.latency, all_places(held, {}), "my results.jsonl")
    words = shlex.split(command)
    assert words[:2] == ["slimalign", "bench"]
    assert words[words.index("--batch") + 1] == "1,4,8"
    assert words[words.index("--results") + 1] == "my results.jsonl"
    assert set(words[2 : words.index("--batch")]) == {
        f"PATH/TO/{name}-{runtime}-fp32" for name, *_ in BUNDLES for runtime in ("onnxruntime", "litert")
    }
    assert "--reference" not in words
    reference = replace(
        latency_of("a", "net", "litert", 1, 1.0), protocol="end-to-end-1-reference", target="ssh://pi@pi"
    )
    (command,) = bench_commands([reference], {"a": "bundles/net"}, "r.jsonl")
    assert command == (
        "slimalign bench bundles/net --batch 1 --threads 1 --target ssh://pi@pi --timed end-to-end --reference "
        "--results r.jsonl"
    )


def test_a_bundle_is_called_by_its_name_alone_where_no_other_has_it() -> None:
    one, other = latency_of("1" * 64, "net", "litert", 1, 1.0), latency_of("2" * 64, "net", "litert", 1, 1.0)
    peer = latency_of("3" * 64, "pfld", "onnxruntime", 1, 1.0)
    known = all_places(Results(latency=(one, other, peer)), {})
    assert list(known.values()) == [
        "PATH/TO/net-litert-fp32-111111", "PATH/TO/net-litert-fp32-222222", "PATH/TO/pfld"
    ]  # fmt: skip
    # slimalign bench refuses two bundles that its records could not tell apart.
    assert [command.split()[2:4] for command in bench_commands((one, other, peer), known, "r.jsonl")] == [
        ["PATH/TO/net-litert-fp32-111111", "PATH/TO/pfld"],
        ["PATH/TO/net-litert-fp32-222222", "--batch"],
    ]


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("onnxruntime", ""),
        ("onnxruntime-xnnpack", "--provider xnnpack "),
        ("litert-none", "--delegate none "),
        ("litert-gpu", "--delegate gpu "),
        ("litert-libnpu,backend=htp", "--delegate PATH/TO/libnpu,backend=htp "),
        ("tensorrt-graph", "--cuda-graph "),
    ],
)
def test_commands_name_what_has_computed(runtime: str, words: str) -> None:
    record = latency_of("a", "net", runtime, 1, 1.0)
    (command,) = bench_commands([record], {"a": "net"}, "r.jsonl")
    assert command == f"slimalign bench net --batch 1 --threads 1 {words}--results r.jsonl"
    (command,) = eval_commands(
        [accuracy_of("a", "net", runtime, 3.0)], {"a": "net"}, {"0a1b": "wflw"}, "r.jsonl"
    )
    assert command == (
        "slimalign eval net --data PATH/TO/faces --split val --data-format wflw --normaliser inter-ocular "
        f"{words}--results r.jsonl"
    )


def test_commands_name_the_faces_that_were_run() -> None:
    record = replace(latency_of("a", "net", "litert", 1, 1.0), inputs="wflw test, 32 faces, 0a1b2c3d4e5f")
    drawn = replace(record, inputs="drawn")
    first, second = bench_commands([record, drawn], {"a": "net"}, "r.jsonl")
    assert "--data PATH/TO/faces --split test --data-format wflw --results" in first
    assert "--data" not in second
    assert formats_of([record, drawn]) == {"0a1b2c3d4e5f": "wflw"}
    (command,) = eval_commands([accuracy_of("a", "net", "litert", 3.0)], {"a": "net"}, {}, "r.jsonl")
    assert "--data-format FORMAT" in command


def test_every_bundle_of_many_is_named() -> None:
    records = [latency_of(f"{n:064}", f"net-{n}", "litert", 1, 1.0) for n in range(20)]
    places = all_places(Results(latency=tuple(records)), {})
    (command,) = bench_commands(records, places, "r.jsonl")
    assert [word for word in command.split() if "net-" in word] == [f"PATH/TO/net-{n}" for n in range(20)]
    judged = [accuracy_of(f"{n:064}", f"net-{n}", "litert", 3.0) for n in range(20)]
    (command,) = eval_commands(judged, places, {}, "r.jsonl")
    assert command.count("PATH/TO/net-") == 20


def test_the_command_that_made_the_page_makes_it_again(page: str, tmp_path: Path) -> None:
    (line,) = re.findall(r"<code>(slimalign report .*?)</code>", page)
    (tmp_path / "r.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line)[1:])
    assert not ended.value.code
    assert (tmp_path / "r.html").read_text() == page


def test_the_command_that_makes_the_page_again_has_every_option(tmp_path: Path) -> None:
    results = few_results(tmp_path)
    given = [
        "--split",
        "val",
        "--normaliser",
        "inter-ocular",
        "--protocol",
        "kernel-1-draft",
        "--target",
        "local",
    ]
    given += ["--batch", "4", "--threads", "1", "--x", "params", "--figures", str(tmp_path / "my figures")]
    given += ["--out", str(tmp_path / "r.html")]
    with pytest.raises(SystemExit) as ended:
        main(["report", str(results), *given])
    assert not ended.value.code
    (line,) = re.findall(r"<code>(slimalign report .*?)</code>", (tmp_path / "r.html").read_text())
    assert shlex.split(html.unescape(line)) == ["slimalign", "report", str(results), *given]


def test_bundles_of_one_name_are_told_apart(tmp_path: Path) -> None:
    twins = [("net", "a1" * 32, 2.0), ("net", "b2" * 32, 3.0), ("other", "c3" * 32, 4.0)]
    for name, sha256, ms in twins:
        append(
            tmp_path / "r.jsonl",
            [latency_of(sha256, name, "litert", 1, ms), accuracy_of(sha256, name, "litert", 10 - ms)],
        )
    points = api.report(tmp_path / "r.jsonl", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert column(data_of(page)["frontier"]["points"], "bundle") == ["net a1a1a1", "net b2b2b2", "other"]
    assert "2 bundles of one runtime and precision are called net" in page
    assert "are called other" not in page
    # The most accurate first.
    assert list(table(points).columns[0].cells) == ["other", "net b2b2b2", "net a1a1a1"]


def test_files_for_two_runtimes_are_no_doubles_where_only_one_setting_was_timed() -> None:
    one, other = point("net", 1.0, 3.0), point("net", 2.0, 3.0)
    held = [replace(one, sha256="a", runtime="litert"), replace(other, sha256="b", runtime="onnxruntime")]
    untimed = [replace(held[0], runtime=None), replace(held[1], runtime=None)]
    assert point_names([*held, *untimed]) == {"a": "net", "b": "net"}
    assert point_names(untimed) == {"a": "net a", "b": "net b"}


@pytest.mark.parametrize(
    ("subsets", "normaliser", "data_format", "dataset", "axes"),
    [
        (
            ("common", "challenge", "lfpw"),
            "inter-ocular",
            None,
            "300w",
            {"nme": "full", "nme:common": "common"},
        ),
        (("common", "lfpw"), "inter-ocular", "300w", "300w", {"nme": "common", "nme:common": "common"}),
        (
            ("pose", "expression", "illumination", "make-up", "occlusion", "blur"),
            "inter-ocular",
            None,
            "wflw",
            {},
        ),
        ((), "inter-ocular", "cofw", "cofw", {"nme": "full"}),
        (("common", "challenge"), "inter-pupil", "300w", None, {}),
        (("far",), "inter-ocular", None, None, {}),
    ],
)
def test_published_figures_stand_only_beside_their_own_faces(
    subsets: tuple[str, ...],
    normaliser: str,
    data_format: str | None,
    dataset: str | None,
    axes: dict[str, str],
) -> None:
    found = published_parts(subsets, normaliser, data_format)
    if dataset is None:
        assert found is None
        return
    assert found is not None
    assert found[0] == dataset
    assert axes.items() <= found[1].items()


def test_labels_of_published_figures_do_not_lie_on_each_other_or_on_points() -> None:
    x, y = AXES["params"], AXES["nme"]
    methods = [
        {"name": name, "source": "a paper", "params": params, "nme": nme}
        for name, params, nme in (("a", 1e6, 3.0), ("b", 1.05e6, 3.01), ("c", 1e8, 4.0), ("d", 1e7, 3.5))
    ]
    dots = published_dots(methods, x, y, [{"x": 1e7, "y": 3.5}])
    assert [dot["label"] for dot in dots] == ["a", "", "c", ""]
    assert [dot["name"] for dot in dots] == ["a", "b", "c", "d"]


def test_the_note_on_published_figures_names_their_faces_and_ours(tmp_path: Path) -> None:
    part = {"images": 20, "nme": 4.0, "failure_rate": 0.0, "auc": 50.0}
    one = replace(accuracy_of("a", "net", "litert", 4.0), subsets={"common": part}, subset_nmes={})
    append(tmp_path / "r.jsonl", [one, CostRecord("net", "a", "fp32", 1, 1000, 1000)])
    api.report(tmp_path / "r.jsonl", tmp_path / "r.html")
    page = html.unescape((tmp_path / "r.html").read_text())
    assert "NME of the papers' common test set, NME on common of the papers' common test set" in page
    assert "(689 faces: 554 common and 135 challenging)" in page
    assert "These results are on 40 faces of the split val." in page


def test_published_figures_are_those_of_the_papers() -> None:
    """SD-HRNet's abstract: 0.98 M parameters and 0.59 GFLOPs on 300W."""
    rows = {row["name"]: row for row in published_rows("300w", {"nme": "full"})}
    assert (rows["SD-HRNet"]["params"], rows["SD-HRNet"]["macs"]) == (980_000, 590_000_000)
    assert rows["SD-HRNet"]["nme"] == 3.40
    assert all(row["source"] for row in rows.values())


def test_columns_are_unpacked_as_they_were() -> None:
    rows = [
        {"name": "a", "ms": 1.23456789, "batch": 1},
        {"name": "b", "ms": None, "batch": 2},
        {"name": "a", "ms": 0.0, "batch": 3},
    ]
    packed = columns(rows)
    assert packed == {
        "name": {"values": ["a", "b"], "codes": [0, 1, 0]}, "ms": [1.2346, None, 0.0], "batch": [1, 2, 3]
    }  # fmt: skip
    assert csv_text([{"a": 'x,"y"', "b": None}]) == 'a,b\n"x,""y""",\n'


def test_a_frontier_alone_is_a_picture_that_says_what_it_left_out(tmp_path: Path) -> None:
    points = [*POINTS, point("untested", 1, None)]
    save_frontier(points, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    save_frontier(points, tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text()
    for words in (
        "big",
        "small",
        "latency, median of a call (ms)",
        "1 points without latency or nme are not shown",
    ):
        assert f">{words}</text>" in text
    assert len(frontier(POINTS, ("latency", "nme")).points) == 3
    with pytest.raises(UserError, match="none of 3 points has both params and nme; they have latency"):
        save_frontier(POINTS, tmp_path / "f.png", "params")
    with pytest.raises(UserError, match=r"written as \.png or \.svg"):
        save_frontier(POINTS, tmp_path / "f.gif")


def test_ten_thousand_records_make_a_page_of_at_most_six_megabytes(tmp_path: Path) -> None:
    path = many_results(tmp_path / "results.jsonl", 2500)
    points = api.report(path, tmp_path / "r.html")
    assert len(points) == 2500
    assert (tmp_path / "r.html").stat().st_size <= MOST_BYTES
    page = (tmp_path / "r.html").read_text()
    # Every point is there, and of single bundles those that matter.
    assert len(column(data_of(page)["frontier"]["points"], "bundle")) == 5000
    assert "24 of 2500 bundles are kept in this page" in page
    assert "24 of 2500 curves are kept in this page" in page


def test_a_run_folder_adds_its_waterfall_and_pictures(tmp_path: Path) -> None:
    results = Path(__file__).parent.parent / "benchmarks" / "results" / "demo"
    few_results(tmp_path)
    shutil.copy(results / "waterfall.json", tmp_path)
    shutil.copy(results / "predictions.jpg", tmp_path)
    (tmp_path / "run.json").write_text(
        json.dumps({"name": "my run", "data": {"format": "drawn"}, "faces": {}})
    )
    api.report(tmp_path, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<h1>my run</h1>" in page
    assert f"slimalign run &#39;my run.toml&#39; --out {tmp_path}" in page
    steps = json.loads((results / "waterfall.json").read_text())["steps"]
    drawn = data_of(page)["figures"]["waterfall"]["rows"]
    assert column(drawn, "step") == [step["step"] for step in steps]
    assert column(drawn, "test_nme") == pytest.approx([step["test_nme"] for step in steps], rel=1e-4)
    assert page.count("data:image/jpeg;base64,") == 1
    assert len(page) < MOST_BYTES


@pytest.mark.parametrize("name", ["r.html", "r.svg", "r.png"])
def test_a_cost_that_is_none_is_refused_whatever_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--x nme: no cost of .*; choose one of latency, p90, throughput,"):
        api.report(few_results(tmp_path), tmp_path / name, x="nme")
    assert not (tmp_path / name).exists()


STEP = {"step": "teacher", "runtime": "pytorch", "test_nme": 3.0}
RUN = {"name": "my run", "data": {"format": "300w"}, "faces": {"test": "0a1b"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", "[]"),
        ("run.json", '{"data": {}}'),
        ("run.json", json.dumps({**RUN, "data": []})),
        ("run.json", json.dumps({**RUN, "faces": ["a"]})),
        ("run.json", json.dumps({**RUN, "name": 3})),
        ("run.json", "{"),
        ("waterfall.json", "null"),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": []})),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": {"teacher": 3}})),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": ["teacher"]})),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": [{"step": "teacher"}]})),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": [{**STEP, "test_nme": "low"}]})),
        ("waterfall.json", json.dumps({"recipe": "r", "steps": [{**STEP, "val_nme": float("nan")}]})),
        ("waterfall.json", json.dumps({"steps": [STEP]})),
    ],
)
def test_files_of_a_run_that_are_damaged_are_told_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    few_results(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}: not .*; let 'slimalign run' write it again") as refused:
        api.report(tmp_path, tmp_path / "r.html")
    assert "\n" not in str(refused.value)


def test_photographs_are_told_of_and_left_out_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few_results(tmp_path)
    results = Path(__file__).parent.parent / "benchmarks" / "results" / "demo"
    shutil.copy(results / "predictions.jpg", tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(RUN))

    def told(*options: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["report", str(tmp_path), "--out", str(tmp_path / "r.html"), *options])
        assert not ended.value.code
        return (tmp_path / "r.html").read_text(), capsys.readouterr().out

    page, said = told()
    assert "Photographs of people are in this page" in page
    assert "Photographs of people are in it; --no-photos leaves them out" in said
    assert "data:image/jpeg" in page
    page, said = told("--no-photos")
    assert "Photographs" not in page + said
    assert "data:image/jpeg" not in page
    assert f"--out {tmp_path / 'r.html'} --no-photos</code>" in page
    with pytest.raises(UserError, match="its faces are of 300w, photographs of people"):
        take(tmp_path, tmp_path / "shot.png")
    # Faces that are drawn are no photographs.
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "data": {"format": "drawn"}}))
    page, said = told()
    assert "Photographs" not in page + said
    assert "data:image/jpeg" in page


def test_a_picture_is_told_of_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = few_results(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", str(results), "--out", str(tmp_path / "r.svg")])
    said = " ".join(capsys.readouterr().out.split())
    size = (tmp_path / "r.svg").stat().st_size
    assert f"r.svg, {size / 1e3:.1f} kB" in said.replace(" r.svg", "r.svg")
    assert "the page has all of them" not in said
    assert "a page, --out report.html, has all of them" in said


def test_layers_and_sustained_minutes_have_their_places(tmp_path: Path) -> None:
    path = few_results(tmp_path)
    layers = (
        Layer("stem", "Conv", 100, 2000, 300, 1.5),
        Layer("reorder", "onnxruntime", None, None, None, 0.5),
    )
    samples = tuple(1.0 + 0.01 * (call // 100) for call in range(2000))
    kept = replace(
        latency_of("a", "warm", "litert", 1, 1.0),
        protocol="kernel-1-sustained",
        samples_ms=samples,
        visits=(100,) * 20,
        intervals={},
    )
    append(path, [LayersRecord("big", "b", "fp32", layers, runtime="onnxruntime", threads=2), kept])
    api.report(path, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    rows = data_of(page)["figures"]["layers"]["rows"]
    shares = dict(
        zip(
            zip(column(rows, "layer"), column(rows, "measure"), strict=True),
            column(rows, "share"),
            strict=True,
        )
    )
    assert shares["stem", "time"] == 75
    assert shares["stem", "multiply-adds"] == 100
    assert (
        f"slimalign profile PATH/TO/big-onnxruntime-fp32-b --layers --timed --threads 2 --results {path}"
        in page
    )
    # A call takes 0.01 ms more in each window: 1.015 ms in the first fifth, 1.175 ms in the last.
    assert "1.158 (" in page[page.index("Minutes of calls without a pause") :]
    assert "--sustained" in page
