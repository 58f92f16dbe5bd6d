"""The report's page in a real Chromium: it draws, its controls work, and it asks for nothing."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from measured import BUNDLES, EVIL, few_records, few_results, many_results
from needs import needed
from playwright.sync_api import Browser, Page, sync_playwright

from slimalign import api
from slimalign.benchmarks.layers import Layer, LayersRecord
from slimalign.benchmarks.report_page.published import published_rows
from slimalign.benchmarks.results import AccuracyRecord, append

DRAWN = "html[data-drawn=true]"
FRONTIER = '[data-figure="frontier"]'
POINTS = f"{FRONTIER} .chart svg .mark-symbol.role-mark path"
CHARTS = ("frontier", "batches-throughput", "batches-time", "ced", "subsets", "time")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = needed("chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        # Root may not start its sandbox.
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    api.report(few_results(folder), folder / "r.html")
    return (folder / "r.html").as_uri()


class Seen:
    """A page that is open, what its console told and what it asked for."""

    def __init__(self, browser: Browser, address: str, width: int = 1280, touch: bool = False) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, has_touch=touch, offline=True
        )
        self.page: Page = self.context.new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector(DRAWN, timeout=60_000)


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Seen]:
    opened = Seen(browser, address)
    yield opened
    # Whatever a test has done with the page, nothing went wrong in it and nothing was asked for.
    assert opened.told == []
    assert [url for url in opened.asked if not url.startswith(("blob:", "data:"))] == [address]
    opened.context.close()


def axis_titles(page: Page) -> set[str]:
    return set(page.locator(f"{FRONTIER} .role-axis-title text").all_text_contents())


def first_cells(page: Page, column: int = 0) -> list[str]:
    return page.locator(f"#table tbody tr td:nth-child({column + 1})").all_inner_texts()


def test_every_chart_has_marks(seen: Seen) -> None:
    for key in CHARTS:
        marks = seen.page.locator(f'[data-figure="{key}"] .chart svg [class*=mark-] :is(path, line, text)')
        assert marks.count() > 3, key
    assert seen.page.locator(POINTS).count() == 6
    assert set(seen.page.locator("h2").all_inner_texts()) >= {
        "Summary",
        "Frontier",
        "All points",
        "Device state",
    }


def test_a_bundles_name_is_text_wherever_it_stands(seen: Seen) -> None:
    seen.page.locator("#text").fill("onerror")
    assert seen.page.locator("img[src=x]").count() == 0
    assert set(first_cells(seen.page)) == {EVIL}


def test_other_axes_draw_another_chart(seen: Seen) -> None:
    assert axis_titles(seen.page) == {"latency, median of a call (ms)", "NME (%)"}
    before = seen.page.locator(POINTS).first.get_attribute("transform")
    seen.page.select_option("#axis-x", "params")
    seen.page.wait_for_function(
        f"document.querySelector(`{FRONTIER} .chart`).textContent.includes('parameters')"
    )
    seen.page.select_option("#axis-y", "nme:far")
    seen.page.wait_for_function(
        f"document.querySelector(`{FRONTIER} .chart`).textContent.includes('NME on far')"
    )
    assert axis_titles(seen.page) == {"parameters", "NME on far (%)"}
    assert seen.page.locator(POINTS).first.get_attribute("transform") != before


def test_filters_hide_points_and_rows(seen: Seen) -> None:
    seen.page.locator("#runtimes input[value=litert]").uncheck()
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 3")
    heads = seen.page.locator("#table thead button").all_inner_texts()
    assert set(first_cells(seen.page, heads.index("runtime"))) == {"onnxruntime"}
    seen.page.locator("#text").fill("BIG")
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 1")
    assert set(first_cells(seen.page)) == {"big"}
    seen.page.locator("#text").fill("nothing has this name")
    seen.page.wait_for_function("document.querySelector('#frontier-note').textContent.startsWith('No point')")
    assert seen.page.locator("#count").inner_text() == "0 points"


def corners(page: Page) -> list[tuple[float, float]]:
    """The corners of the frontier's line as it is drawn, across and up, by the scales of the chart."""
    path = page.locator(f"{FRONTIER} .mark-line path").first.get_attribute("d") or ""
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+),([-\d.]+)", path)]


def test_a_filtered_frontier_is_that_of_the_points_that_pass(seen: Seen) -> None:
    whole = len(corners(seen.page))
    # Without the fast runtime only the slow one's points, which all lay behind, are left: they are the frontier.
    seen.page.locator("#runtimes input[value=onnxruntime]").uncheck()
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 3")
    spots = [dot.get_attribute("transform") or "" for dot in seen.page.locator(POINTS).all()]
    places = {tuple(round(float(part), 1) for part in re.findall(r"[-\d.]+", spot)[:2]) for spot in spots}
    drawn = {(round(x, 1), round(y, 1)) for x, y in corners(seen.page)}
    assert len(places) == 3
    assert places <= drawn
    assert len(corners(seen.page)) == whole
    opacities = {dot.get_attribute("opacity") for dot in seen.page.locator(POINTS).all()}
    assert opacities == {"1"}
    assert "of the points that pass the filters" in seen.page.locator("#frontier-note").inner_text()
    # One point alone has no line to another.
    seen.page.locator("#text").fill("middle")
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 1")
    assert len(corners(seen.page)) <= 1


def published_page(folder: Path) -> Path:
    """Results on faces with the subsets of 300W, beside which published figures are drawn."""
    part = {"images": 20, "nme": 4.0, "failure_rate": 0.0, "auc": 50.0}
    records = [
        replace(record, subsets={"common": part, "challenge": part}, subset_nmes={})
        if isinstance(record, AccuracyRecord)
        else record
        for record in few_records()
    ]
    append(folder / "results.jsonl", records)
    api.report(folder / "results.jsonl", folder / "r.html", x="params")
    return folder / "r.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_published_figure_tells_its_name_and_source(browser: Browser, tmp_path: Path, width: int) -> None:
    opened = Seen(browser, published_page(tmp_path).as_uri(), width, touch=width < 500)
    grey = opened.page.locator(f'{FRONTIER} .chart svg .mark-symbol.role-mark path[fill="#AEB4BB"]')
    assert grey.count() > 5
    grey.last.scroll_into_view_if_needed()
    if width < 500:
        grey.last.tap()
        box = opened.page.locator("#details")
    else:
        grey.last.hover()
        box = opened.page.locator(".tip")
    box.locator("dl").wait_for()
    name = box.locator("b").inner_text()
    assert name in {row["name"] for row in published_rows("300w", {"nme": "full"})}
    assert "published by" in box.inner_text()
    assert "parameters" in box.inner_text()
    assert opened.told == []
    opened.context.close()


def test_another_batch_size_shows_its_own_latencies(seen: Seen) -> None:
    seen.page.select_option("#batch", "8")
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 6")
    seen.page.locator(POINTS).first.hover()
    tip = seen.page.locator(".tip")
    tip.wait_for(state="visible")
    assert "batch\n8" in tip.inner_text().replace("\n\n", "\n")


def test_pointing_at_a_point_tells_its_figures_with_intervals(seen: Seen) -> None:
    seen.page.locator("#text").fill("middle")
    seen.page.locator("#runtimes input[value=litert]").uncheck()
    seen.page.wait_for_function(f"document.querySelectorAll(`{POINTS}`).length === 1")
    seen.page.locator(POINTS).hover()
    text = seen.page.locator(".tip").inner_text()
    assert "middle" in text
    assert "4 (3.92 to 4.08)" in text  # the median of a call, its interval two percent wide
    assert "5 (4.5 to 5.5)" in text


def test_a_finger_shows_them_too(browser: Browser, address: str) -> None:
    opened = Seen(browser, address, width=390, touch=True)
    opened.page.locator(POINTS).first.scroll_into_view_if_needed()
    opened.page.locator(POINTS).first.tap()
    opened.page.locator("#details dl").wait_for()
    assert "NME (%)" in opened.page.locator("#details").inner_text()
    assert opened.told == []
    opened.context.close()


def test_errors_stand_beside_the_name_which_stays_in_sight(browser: Browser, address: str) -> None:
    opened = Seen(browser, address, width=390)
    heads = opened.page.locator("#table thead button").all_inner_texts()
    assert heads[:2] == ["bundle", "NME (%)"]
    assert heads.index("runtime") == 1 + sum(head.startswith(("NME", "failure")) for head in heads)
    opened.page.locator("#points .scroll").evaluate("element => element.scrollLeft = 400")
    name = opened.page.locator("#table tbody td:first-child").first.bounding_box()
    assert name is not None
    assert name["x"] >= 0
    opened.context.close()


def test_visits_are_counted_in_whole_numbers(browser: Browser, address: str) -> None:
    opened = Seen(browser, address, width=390)
    labels = opened.page.locator('[data-figure="time"] .chart svg .role-axis-label text').all_text_contents()
    assert {"1", "2", "3"} <= set(labels)
    assert [label for label in labels if label in ("1", "2", "3")] == ["1", "2", "3"]
    assert not any(label and label.endswith(".0") for label in labels)
    opened.context.close()


def test_layers_keep_the_end_of_their_names_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    stem = "network.stages.fusions.branches.convolutions."
    layers = tuple(Layer(f"{stem}{part}", "Conv", 1, 10, 4, 1.0) for part in ("first", "second"))
    path = few_results(tmp_path)
    append(path, [LayersRecord("net", "a", "fp32", layers, runtime="litert", threads=1)])
    api.report(path, tmp_path / "r.html")
    opened = Seen(browser, (tmp_path / "r.html").as_uri(), width=390)
    labels = opened.page.locator(
        '[data-figure="layers"] .chart svg .role-axis-label text'
    ).all_text_contents()
    assert {label[-6:] for label in labels} >= {".first", "second"}
    assert opened.told == []
    opened.context.close()


def test_the_table_sorts_by_the_head_that_is_pressed(seen: Seen) -> None:
    heads = seen.page.locator("#table thead button").all_inner_texts()
    place = heads.index("latency, median of a call (ms)")
    seen.page.locator("#table thead button").nth(place).click()
    values = [float(text) for text in first_cells(seen.page, place)]
    assert values == sorted(values)
    assert len(values) == 18
    seen.page.locator("#table thead button").nth(place).click()
    assert [float(text) for text in first_cells(seen.page, place)] == sorted(values, reverse=True)
    assert seen.page.locator("#table th[aria-sort=descending]").count() == 1


@pytest.mark.parametrize("key", CHARTS)
def test_each_figure_is_saved_as_svg_and_csv(seen: Seen, tmp_path: Path, key: str) -> None:
    for kind in ("svg", "csv"):
        with seen.page.expect_download() as download:
            seen.page.locator(f'[data-figure="{key}"] button[data-save={kind}]').click()
        assert download.value.suggested_filename == f"{key}.{kind}"
        download.value.save_as(tmp_path / f"{key}.{kind}")
    assert (tmp_path / f"{key}.svg").read_text().startswith("<svg")
    with (tmp_path / f"{key}.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 3


def test_bundles_are_chosen_beside_a_figure(seen: Seen) -> None:
    chart = seen.page.locator('[data-figure="ced"]')
    lines = chart.locator("svg .mark-line path")
    assert lines.count() == 5
    chart.locator("input[type=checkbox]").first.uncheck()
    seen.page.wait_for_function(
        "document.querySelectorAll('[data-figure=\"ced\"] svg .mark-line path').length === 4"
    )
    sweep = seen.page.locator('[data-figure="batches-time"]')
    assert sweep.locator("select option").all_inner_texts() == [name for name, *_ in reversed(BUNDLES)]
    before = sweep.locator("svg .mark-line path").first.get_attribute("d")
    sweep.locator("select").select_option("big")
    seen.page.wait_for_function(
        "d => document.querySelector('[data-figure=\"batches-time\"] svg .mark-line path').getAttribute('d') !== d",
        arg=before,
    )


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(browser: Browser, address: str, width: int) -> None:
    opened = Seen(browser, address, width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for key in CHARTS:
        box = opened.page.locator(f'[data-figure="{key}"] .chart svg').bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    opened.context.close()


def test_the_page_is_printed(seen: Seen) -> None:
    seen.page.emulate_media(media="print")
    seen.page.set_viewport_size({"width": 700, "height": 1000})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 700  # or every page is shrunk
    assert not seen.page.locator("#filters").is_visible()
    assert seen.page.locator("#table").is_visible()
    data = seen.page.pdf(format="A4")
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") >= 2


def test_what_is_shown_can_be_read_without_seeing_it(seen: Seen) -> None:
    for chart in seen.page.locator(".chart").all():
        assert chart.get_attribute("aria-label")
    assert seen.page.locator("img:not([alt])").count() == 0
    for control in seen.page.locator("select, input").all():
        assert control.evaluate("element => element.labels.length") == 1
    assert seen.page.locator("h1").count() == 1


def test_ten_thousand_records_are_drawn(browser: Browser, tmp_path: Path) -> None:
    api.report(many_results(tmp_path / "results.jsonl", 2500), tmp_path / "r.html")
    opened = Seen(browser, (tmp_path / "r.html").as_uri())
    assert opened.page.locator(POINTS).count() == 2500
    assert opened.page.locator("#count").inner_text() == "5000 points, the first 25 are shown"
    assert opened.told == []
    opened.context.close()
