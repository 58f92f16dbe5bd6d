"""A picture of the report's page, as README.md shows it: the first screen of the page of a run on drawn faces.

    slimalign demo
    slimalign bench slimalign-demo/bundles/* --batch 1,2,4,8,16 --threads 1 --results slimalign-demo/results.jsonl
    python -m slimalign.benchmarks.report_screenshot slimalign-demo benchmarks/results/report.png

The page shows faces of the run's data set: give a run whose faces are drawn. Needs playwright, of the extra ``dev``,
and Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from slimalign.benchmarks.mains import run_main
from slimalign.benchmarks.report_page.page import DRAWN
from slimalign.runtimes.errors import UserError

RUN_NAME = "run.json"
"""What a run tells of its faces; where it is written is above this floor."""
WIDTH, HEIGHT = 1200, 920
"""Pixels of the picture."""


def check_drawn(run_folder: Path) -> None:
    """Raise UserError where the faces of ``run_folder`` are not known to be drawn: a picture shows no people."""
    try:
        recipe = json.loads((run_folder / RUN_NAME).read_text(encoding="utf-8"))
        read = recipe["data"]["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{run_folder}: no {RUN_NAME} that tells of its faces; give the folder of a run"
        ) from None
    if read != DRAWN:
        raise UserError(
            f"{run_folder}: its faces are of {read}, photographs of people; give a run whose faces are drawn, as that "
            "of slimalign demo"
        )


def take(run_folder: Path, out: Path) -> None:
    """Write the page of ``run_folder`` and take its picture into ``out``, from the frontier on."""
    from playwright.sync_api import sync_playwright

    check_drawn(run_folder)
    program = shutil.which("chromium")
    if program is None:
        raise UserError("chromium: not installed; run apt-get install chromium")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        command = [sys.executable, "-m", "slimalign", "report", str(run_folder), "--out", str(page_file)]
        subprocess.run(command, check=True)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-drawn=true]")
        page.check("#near")
        page.evaluate("document.querySelector('#frontier').scrollIntoView({behavior: 'instant'})")
        page.screenshot(path=out)
        browser.close()


def main() -> None:
    """Read the arguments and take the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    take(given.run_folder, given.out)


if __name__ == "__main__":
    run_main(main)
