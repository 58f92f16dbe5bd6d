"""The pictures of a run: factors, architecture, the frontier and a sheet of predictions on test faces.

The sheet shows the data set's own faces: it stays in the run folder.
"""

from __future__ import annotations

from pathlib import Path

from slimalign.benchmarks.frontier import join
from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.report import scatter
from slimalign.benchmarks.results import read
from slimalign.chain import Chain
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.pictures import draw_architecture, draw_factors
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import contact_sheet, draw_landmarks, write_image
from slimalign.runtimes.timing import DRAFT
from slimalign.waterfall import RESULTS_NAME

SHEET_FACES = 24
SHEET_COLUMNS = 6


def draw_run(chain: Chain, supernet: HRSuperNet, architecture: Architecture, student: Bundle) -> None:
    """Draw a run's pictures into its folder: factors, architecture, frontier, predictions of ``student``."""
    folder = chain.folder
    factors = supernet.factors.detach().cpu().numpy()
    draw_factors(supernet.architecture, factors, folder / "factors.png", kept=architecture)
    draw_architecture(architecture, folder / "architecture.png", title=chain.recipe.name)
    points = join(read(folder / RESULTS_NAME), split="val", protocol=DRAFT.key)
    scatter(points, folder / "frontier.png", x="latency")
    draw_predictions(chain, student, folder / "predictions.jpg")


def draw_predictions(chain: Chain, student: Bundle, path: Path) -> None:
    """A sheet of test faces with the landmarks that ``student`` finds on them."""
    samples = chain.faces.test[:SHEET_FACES]
    crops = [chain.rule.crop(sample.load(), sample.box) for sample in samples]
    with open_bundle(student, threads=1) as session:
        aligner = Aligner(session)
        tiles = [
            draw_landmarks(crop, aligner.align_crops(crop[None]).points[0], chain.faces.scheme)
            for crop in crops
        ]
    write_image(path, contact_sheet(tiles, SHEET_COLUMNS))
