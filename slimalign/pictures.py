"""The pictures of a run: factors, architecture, the frontier and a sheet of predictions on test faces.

The sheet shows the data set's own faces: it stays in the run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slimalign.benchmarks.opening import open_bundle
from slimalign.benchmarks.points import join
from slimalign.benchmarks.report_page.frontier_plot import save_frontier
from slimalign.benchmarks.results import read
from slimalign.chain import searched
from slimalign.compress.data.sample import cut_crops
from slimalign.compress.importance import MEASURES
from slimalign.compress.networks.architecture import Architecture
from slimalign.compress.pictures import draw_architecture, draw_factors
from slimalign.run_names import PREDICTIONS_NAME, RESULTS_NAME
from slimalign.runtimes.aligner import Aligner
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.drawing import contact_sheet, draw_landmarks, enlarged, write_image
from slimalign.runtimes.timing import DRAFT
from slimalign.waterfall import AnyChain

SHEET_FACES = 24
TILE_PIXELS = 192
SHEET_COLUMNS = 6


def draw_run(
    chain: AnyChain,
    architecture: Architecture | None,
    bundles: Sequence[Bundle],
    student: Bundle,
) -> None:
    """Draw a run's pictures into its folder: frontier of its ``bundles``, predictions of ``student``, and of a searched
    ``architecture`` that and the factors.
    """
    folder = chain.folder
    if architecture is not None:
        found = searched(folder)
        draw_factors(
            found.supernet.architecture,
            list(found.importances.values()),
            folder / "factors.png",
            kept=architecture,
            measure=MEASURES[found.recipe.slim.importance],
        )
        draw_architecture(architecture, folder / "architecture.png", title=chain.recipe.name)
    _draw_frontier(chain, bundles, folder / "frontier.png")
    draw_predictions(chain, student, folder / PREDICTIONS_NAME)


def _draw_frontier(chain: AnyChain, bundles: Sequence[Bundle], path: Path) -> None:
    """NME against this machine's latency at batch 1 on one thread; other records may stand in the results too."""
    split = "val" if chain.faces.has_validation else "test"
    results = read(chain.folder / RESULTS_NAME).of({bundle.sha256 for bundle in bundles})
    normaliser = chain.recipe.data.normaliser
    points = join(
        results, split=split, normaliser=normaliser, protocol=DRAFT.key, target="local", batch=1, threads=1
    )
    save_frontier(points, path)


def draw_predictions(chain: AnyChain, student: Bundle, path: Path) -> None:
    """A sheet of test faces with the landmarks that ``student`` finds on them."""
    crops = cut_crops(chain.faces.test[:SHEET_FACES], chain.rule)
    with open_bundle(student, threads=1) as session:
        aligner = Aligner(session)
        points = [aligner.align_crops(crop[None]).points[0] for crop in crops]
    tiles = [
        draw_landmarks(*enlarged(crop, found, TILE_PIXELS), chain.faces.scheme)
        for crop, found in zip(crops, points, strict=True)
    ]
    write_image(path, contact_sheet(tiles, SHEET_COLUMNS))
