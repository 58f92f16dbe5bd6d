"""Figures without a display: made off screen, written as PNG or SVG by way of a file beside the target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DPI = 150


def check_picture_path(path: str | Path) -> Path:
    """``path`` as a Path; raises UserError where it ends in neither .png nor .svg."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a picture is written as .png or .svg; change its ending")
    return path


def new_figure(width: float = 7.0, height: float = 4.5) -> Figure:
    """An empty figure of ``width`` x ``height`` inches that needs no display and touches no pyplot state.

    Raises UserError where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("matplotlib is not installed; run pip install 'slimalign[report]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` by way of a file beside it, so that a kill leaves no half a picture.

    The same figure gives the same bytes. Raises UserError where the file cannot be written.
    """
    from matplotlib import rc_context

    # An SVG would else carry the date and random identifiers, and differ on every run.
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with replacing(path) as beside, rc_context({"svg.hashsalt": "slimalign"}):
        figure.savefig(beside, format=path.suffix[1:], dpi=DPI, metadata=metadata)
