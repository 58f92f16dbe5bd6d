"""Pictures of an architecture and of the importance factors it was cut by, after SD-HRNet's figures 2 and 7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slimalign.compress.figures import check_picture_path, new_figure, save_figure
from slimalign.compress.networks.architecture import Architecture, Operation, full_architecture
from slimalign.compress.stage_grid import (
    DIRECTIONS,
    GREY,
    INK,
    StageGrid,
    block_legend,
    direction,
    direction_counts,
    grid_inches,
    living_blocks,
)
from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Colour = tuple[float, float, float, float]
Magnitudes = Mapping[Operation, float]

PANEL_INCHES = 2.3
LEGEND_ROOM, LEGEND_INCHES = 0.35, 2.0
"""Height of the legend and width of one of its entries, in inches."""
THINNEST, THICKEST = 0.5, 3.2
"""Line widths, in points, of a factor of zero and of the largest one."""

DASHES = (0, (3, 2))


@dataclass(frozen=True)
class ImportanceScale:
    """Colour and width of an importance between 0 and ``largest``."""

    largest: float
    colours: Colormap

    def share(self, importance: float) -> float:
        """``importance`` as a share of the largest one, 0 where all are zero."""
        return importance / self.largest if self.largest else 0.0

    def colour(self, importance: float) -> Colour:
        """Red, green, blue and opacity, each 0 to 1."""
        red, green, blue, opacity = self.colours(self.share(importance))
        return red, green, blue, opacity

    def width(self, importance: float) -> float:
        """Line width in points."""
        return THINNEST + (THICKEST - THINNEST) * self.share(importance)


def draw_architecture(architecture: Architecture, path: str | Path, title: str = "") -> None:
    """Draw the network: stages across, levels down, kept blocks filled, discarded ones dashed.

    Kept operations are arrows, coloured by whether they keep the level, go up or go down. A line says how
    many operations and blocks of the supernet of the same widths and stages are kept. ``path`` ends in .png
    or .svg. Raises UserError where it does not or cannot be written, or where matplotlib is missing.
    """
    path = check_picture_path(path)
    width, height = grid_inches(architecture)
    figure = new_figure(width, height + LEGEND_ROOM)
    grid = StageGrid(figure.add_subplot(), architecture)
    grid.draw_frame()
    grid.draw_blocks(architecture)
    for op in architecture.operations:
        grid.draw_operation(op, _gid("kept", op), color=DIRECTIONS[direction(op)])
    grid.draw_heading(title, _kept_share(architecture, uncut(architecture)))
    counts = direction_counts(architecture.operations)
    arrows = [_line(DIRECTIONS[name], f"{name}: {count}") for name, count in counts.items()]
    _write_legend(figure, [*arrows, *block_legend(architecture)])
    save_figure(figure, path)


def draw_factors(
    architecture: Architecture,
    importances: ArrayLike,
    path: str | Path,
    kept: Architecture | None = None,
    title: str = "",
    measure: str = "|a|",
) -> None:
    """Draw the importance of each operation: as arrows on the network, and sorted, as bars.

    ``importances`` (operations,) are in the order of ``architecture.operations``; sign is ignored. ``measure`` tells
    what they are. Where ``kept``, an architecture cut from this one, is given, pruned operations are dashed and
    their bars hollow, and a line marks the cut. ``path`` ends in .png or .svg. Raises UserError for
    importances of another number or not finite, for a ``kept`` that was not cut from ``architecture``, and as
    draw_architecture.
    """
    path = check_picture_path(path)
    magnitudes = _magnitudes(architecture, importances)
    if kept is not None:
        _check_cut(architecture, kept)
    remaining = kept or architecture
    width, height = grid_inches(architecture)
    figure = new_figure(width, height + LEGEND_ROOM + PANEL_INCHES)
    above, below = figure.subplots(2, height_ratios=[height, PANEL_INCHES])
    scale = ImportanceScale(max(magnitudes.values()), _colours())
    grid = StageGrid(above, remaining)
    _draw_weighted_network(grid, magnitudes, remaining, scale)
    heading = _kept_share(kept, architecture) if kept else f"{len(magnitudes)} operations, none pruned"
    grid.draw_heading(title, f"importance {measure}: {heading}")
    _draw_sorted(below, magnitudes, remaining, scale)
    below.set_ylabel(measure, fontsize=8)
    _add_colour_bar(figure, below, scale)
    legend = [_line(scale.colour(scale.largest), "operation, wider the more important")]
    if kept is not None:
        legend.append(_line(GREY, "pruned operation", linestyle=DASHES))
    _write_legend(figure, [*legend, *block_legend(remaining, pale=True)])
    save_figure(figure, path)


def uncut(architecture: Architecture) -> Architecture:
    """The supernet with the widths and stages of ``architecture``, all operations kept."""
    return full_architecture(
        architecture.landmarks,
        architecture.input_size,
        architecture.stem_width,
        architecture.widths,
        architecture.last_stage,
        architecture.encoders,
    )


def _magnitudes(architecture: Architecture, factors: ArrayLike) -> Magnitudes:
    values: NDArray[np.float64] = np.abs(np.asarray(factors, dtype=np.float64))
    operations = architecture.operations
    if values.shape != (len(operations),):
        raise UserError(
            f"factors: shape {values.shape}, but the architecture has {len(operations)} operations; give one "
            "factor an operation, in the order of architecture.operations"
        )
    if not np.isfinite(values).all():
        op = operations[int(np.argmin(np.isfinite(values)))]
        raise UserError(
            f"factors: the one of stage {op.stage}, level {op.source} to {op.target} is NaN or infinite; "
            "the search has diverged, go back to an earlier checkpoint or lower its learning rate"
        )
    return dict(zip(operations, values.tolist(), strict=True))


def _check_cut(architecture: Architecture, kept: Architecture) -> None:
    same = (kept.widths, kept.last_stage) == (architecture.widths, architecture.last_stage)
    if not same or set(kept.operations) - set(architecture.operations):
        raise UserError(
            "kept: it has operations, widths or stages that the architecture lacks; give an architecture "
            "that was cut from this one"
        )


def _kept_share(kept: Architecture, whole: Architecture) -> str:
    operations, all_operations = len(kept.operations), len(whole.operations)
    blocks, all_blocks = len(living_blocks(kept)), len(living_blocks(whole))
    return (
        f"{operations} of {all_operations} operations ({operations / all_operations:.0%}) and "
        f"{blocks} of {all_blocks} blocks ({blocks / all_blocks:.0%}) are kept"
    )


def _colours() -> Colormap:
    """Pale to dark, without the palest shades, which would not be seen on white."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    shades = colormaps["YlOrRd"](np.linspace(0.28, 1.0, 128))
    return LinearSegmentedColormap.from_list("importance", [tuple(shade) for shade in shades])


def _add_colour_bar(figure: Figure, axes: Axes, scale: ImportanceScale) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(0.0, scale.largest or 1.0), scale.colours)
    figure.colorbar(colours, ax=axes, pad=0.01).ax.tick_params(labelsize=8)


def _draw_weighted_network(
    grid: StageGrid, magnitudes: Magnitudes, kept: Architecture, scale: ImportanceScale
) -> None:
    remaining = set(kept.operations)
    grid.draw_frame()
    grid.draw_blocks(kept, pale=True)
    # The strongest are drawn last, on top.
    for rank, op in enumerate(sorted(magnitudes, key=lambda op: magnitudes[op])):
        style: dict[str, Any] = {"color": scale.colour(magnitudes[op]), "zorder": 1 + rank / len(magnitudes)}
        if op in remaining:
            style |= {
                "linewidth": scale.width(magnitudes[op]),
                "mutation_scale": 5 + 5 * scale.share(magnitudes[op]),
            }
        else:
            style |= {"linewidth": 0.7, "mutation_scale": 4, "linestyle": DASHES}
        grid.draw_operation(op, _gid("kept" if op in remaining else "dropped", op), **style)


def _draw_sorted(axes: Axes, magnitudes: Magnitudes, kept: Architecture, scale: ImportanceScale) -> None:
    """Importance from the largest down, as bars; the cut lies after the last bar that is kept."""
    remaining = set(kept.operations)
    ranked = sorted(magnitudes, key=lambda op: (-magnitudes[op], op not in remaining))
    values = np.array([magnitudes[op] for op in ranked])
    for place, op in enumerate(ranked):
        colour = scale.colour(magnitudes[op])
        filled = colour if op in remaining else "white"
        axes.bar(
            place + 0.5,
            magnitudes[op],
            0.8,
            facecolor=filled,
            edgecolor=colour,
            linewidth=0.8,
            gid=_gid("bar", op),
        )
    if len(remaining) < len(ranked):
        last = max(place for place, op in enumerate(ranked) if op in remaining)
        _mark_cut(axes, last + 1, values, sum(op not in remaining for op in ranked[:last]))
    low, middle, high = values[-1], np.median(values), values[0]
    axes.set_title(f"smallest {low:.3g}, median {middle:.3g}, largest {high:.3g}", fontsize=8, color=GREY)
    axes.set_xlim(0, len(ranked))
    axes.set_ylim(0, 1.15 * (high or 1.0))
    axes.set_xlabel("operations, the most important first", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_cut(axes: Axes, place: int, values: NDArray[np.float64], stranded: int) -> None:
    """The line after the last kept bar; ``stranded`` operations before it went with a block they belonged to."""
    text = f"cut: the last one kept has {values[place - 1]:.3g}"
    if stranded:
        text += f"\n{stranded} larger ones are pruned (hollow)"
    axes.axvline(place, color=INK, linewidth=1, linestyle="--", gid="cut")
    left = place > len(values) / 2
    axes.annotate(
        text,
        (place, 1.12 * (values[0] or 1.0)),
        (-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=8,
        color=INK,
    )


def _gid(word: str, op: Operation) -> str:
    return f"{word}-s{op.stage}-t{op.target}-f{op.source}"


def _line(colour: Any, label: str, **style: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, linewidth=2, **style)


def _write_legend(figure: Figure, handles: list[Any]) -> None:
    columns = max(1, int(figure.get_figwidth() / LEGEND_INCHES))
    columns = min(columns, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
