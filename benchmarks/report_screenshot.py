"""A picture of the report's page, as README.md shows it: the first screen of the page of a run on drawn faces.

    slimalign demo
    slimalign bench slimalign-demo/bundles/* --batch 1,2,4,8,16 --threads 1 --results slimalign-demo/results.jsonl
    python -m slimalign.benchmarks.report_screenshot slimalign-demo benchmarks/results/report.png

The page shows faces of the run's data set: give a run whose faces are drawn. Needs playwright, of the extra ``dev``,
and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from slimalign.benchmarks.mains import run_main
from slimalign.runtimes.errors import UserError

WIDTH, HEIGHT = 1200, 920
"""Pixels of the picture."""


def take(run_folder: Path, out: Path) -> None:
    """Write the page of ``run_folder`` and take its picture into ``out``, from the frontier on."""
    from playwright.sync_api import sync_playwright

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
