"""The grid on which networks are drawn, as in SD-HRNet's figures 2 and 7: stages across, levels down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slimalign.compress.networks.architecture import Architecture, Operation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

Point = tuple[float, float]
Block = tuple[int, int]
"""(stage, level)."""

COLUMN, ROW = 1.45, 1.0
BOX_WIDTH, BOX_HEIGHT = 0.52, 0.46
NODE_RADIUS = 0.16
HEAD_WIDTH, LEAST_HEAD_HEIGHT = 0.62, 2.6
HEAD_GAP = 1.2
"""From the last stage to the head, centre to centre."""
LEFT, STAGE_NAMES = -2.15, 0.55
"""Where the names of levels begin, and how high the names of stages stand."""
INCHES = 0.74
"""Inches a unit of the grid."""

INK, GREY, FAINT, PALE = "#2b2d31", "#7a7e85", "#b9bdc4", "#f1f2f4"
DIRECTIONS = MappingProxyType({"same level": "#55595f", "up": "#d1495b", "down": "#7d4fa8"})

Style = Mapping[str, Any]
BOX_STYLE: Style = MappingProxyType({"edgecolor": INK, "linewidth": 0.9, "zorder": 3})
ARROW_STYLE: Style = MappingProxyType(
    {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.0, "mutation_scale": 7, "zorder": 2}
)
TEXT_STYLE: Style = MappingProxyType({"ha": "center", "va": "center", "fontsize": 8, "color": INK})


def direction(op: Operation) -> str:
    """``same level``, ``up`` (to a higher resolution) or ``down``."""
    if op.target == op.source:
        return "same level"
    return "up" if op.target < op.source else "down"


def _ink_on(colour: str) -> str:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK


def level_colours(levels: int) -> list[str]:
    """One colour a level, the deeper the darker."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    shades = colormaps["YlGnBu"]
    return [to_hex(shades(0.3 + 0.5 * level / max(1, levels - 1))) for level in range(levels)]


@dataclass(frozen=True)
class StageGrid:
    """Places of a supernet's blocks: x to the right by stage, y up, the levels below one another.

    ``supernet`` is any architecture of the wanted widths and number of stages; ``axes`` is drawn on, in
    grid units. Every block and operation carries an id (in an SVG, too) such as ``kept-block-s3-l0`` or
    ``dropped-s3-t0-f1``: stage 3, to level 0, from level 1.
    """

    axes: Axes
    supernet: Architecture

    @property
    def levels(self) -> range:
        """The levels, 0 on top."""
        return range(len(self.supernet.widths))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of the supernet, those of the last stage included."""
        later = ((n, level) for n in range(2, self.supernet.last_stage + 1) for level in self.levels)
        return ((1, 0), *later)

    def centre(self, stage: int, level: float) -> Point:
        """The centre of a block; stage 0 is the stem's place."""
        return stage * COLUMN, -level * ROW

    def draw_frame(self) -> None:
        """Rows, names of stages and levels, image, stem, head and heatmaps: all that is not searched."""
        net = self.supernet
        last_x, middle_y = self.centre(net.last_stage, (len(net.widths) - 1) / 2)
        head_x = last_x + HEAD_GAP
        for level in self.levels:
            y = self.centre(0, level)[1]
            self.axes.plot([LEFT + 0.65, last_x], [y, y], color="0.94", linewidth=1, zorder=0)
            self._text((LEFT, y), f"H/{4 * 2**level}", color=GREY, ha="left")
        for stage in range(1, net.last_stage + 1):
            self._text((stage * COLUMN, STAGE_NAMES), str(stage), color=GREY)
        self._text((0, STAGE_NAMES), "stage", color=GREY)
        self._draw_ends(head_x, middle_y)
        height = head_height(net)
        self.axes.set_xlim(LEFT - 0.1, head_x + 1.75)
        self.axes.set_ylim(middle_y - height / 2 - 0.2, self._heading_place(0.75)[1])
        self.axes.set_aspect("equal")
        self.axes.set_axis_off()

    def draw_heading(self, title: str, caption: str) -> None:
        """``title`` in bold over ``caption``, above the frame; either may be empty."""
        style = {"ha": "left", "va": "bottom"}
        self._text(self._heading_place(0.0), caption, fontsize=9, color=GREY, **style)
        self._text(self._heading_place(0.34), title, fontsize=11, fontweight="bold", **style)

    def _heading_place(self, higher: float) -> Point:
        middle_y = self.centre(0, (len(self.levels) - 1) / 2)[1]
        return LEFT, max(STAGE_NAMES, middle_y + head_height(self.supernet) / 2) + 0.28 + higher

    def _draw_ends(self, head_x: float, middle_y: float) -> None:
        net = self.supernet
        size, heatmap = net.input_size, net.input_size // 4
        self._box((0, 0), BOX_WIDTH + 0.3, BOX_HEIGHT, f"stem {net.stem_width}", facecolor="white")
        self._text((-0.95, 0.2), f"{size}×{size}", fontsize=7)
        self._text((-0.95, -0.2), "image", fontsize=7)
        self._arrow((-1.3, 0), (-BOX_WIDTH / 2 - 0.17, 0), INK)
        self._arrow((BOX_WIDTH / 2 + 0.15, 0), (COLUMN - BOX_WIDTH / 2, 0), INK)
        self._box((head_x, middle_y), HEAD_WIDTH, head_height(net), "", facecolor="white")
        joined = sum(net.widths[level] for level in net.output_levels)
        self._text((head_x - 0.12, middle_y), "head: upsample, join", rotation=90)
        text = f"1×1: {joined} → {net.hidden_width} → {net.landmarks}"
        self._text((head_x + 0.13, middle_y), text, rotation=90, fontsize=7.5)
        self._arrow((head_x + HEAD_WIDTH / 2, middle_y), (head_x + 0.78, middle_y), INK)
        words = f"{net.landmarks}\nheatmaps\n{heatmap}×{heatmap}"
        self._text((head_x + 1.25, middle_y), words, fontsize=7.5)

    def draw_blocks(self, kept: Architecture, pale: bool = False) -> None:
        """The blocks that ``kept`` has, filled and with their widths; the rest as dashed outlines.

        Blocks of the last stage, which only aggregate, are circles, with an arrow to the head. ``pale``
        leaves the colour to the arrows.
        """
        alive = set(living_blocks(kept))
        colours = [PALE] * len(kept.widths) if pale else level_colours(len(kept.widths))
        for stage, level in self.blocks:
            centre = self.centre(stage, level)
            word = "kept" if (stage, level) in alive else "dropped"
            style: dict[str, Any] = {"gid": f"{word}-block-s{stage}-l{level}"}
            if word == "kept":
                style |= {"facecolor": colours[level], "edgecolor": GREY if pale else INK}
            else:
                style |= {"facecolor": "white", "edgecolor": FAINT, "linestyle": (0, (3, 2))}
            if stage == kept.last_stage:
                self._node(centre, style, word == "kept")
            else:
                text = str(kept.width_of(stage, level)) if word == "kept" else ""
                self._box(centre, BOX_WIDTH, BOX_HEIGHT, text, **style)

    def draw_operation(self, op: Operation, gid: str, **style: Any) -> None:
        """The arrow of ``op``; the ends fan out so that arrows into or out of one block stay apart."""
        rise = (op.target - op.source) * 0.8 * (BOX_HEIGHT / 2) / max(1, len(self.levels) - 1)
        x0, y0 = self.centre(op.stage - 1, op.source)
        x1, y1 = self.centre(op.stage, op.target)
        # The circles of the last stage are narrower than the boxes, and arrows end on their rim.
        ends_in_node = op.stage == self.supernet.last_stage
        half = (NODE_RADIUS**2 - (rise * 0.6) ** 2) ** 0.5 if ends_in_node else BOX_WIDTH / 2
        end = (x1 - half, y1 + rise * (0.6 if ends_in_node else 1.0))
        self._arrow((x0 + BOX_WIDTH / 2, y0 - rise), end, gid=gid, **style)

    def _node(self, centre: Point, style: Mapping[str, Any], feeds_head: bool) -> None:
        from matplotlib.patches import Circle

        x, y = centre
        self.axes.add_patch(Circle(centre, NODE_RADIUS, linewidth=0.9, zorder=3, **style))
        if feeds_head:
            self._text(centre, "+", color=_ink_on(style["facecolor"]), fontsize=9, zorder=4)
            self._arrow((x + NODE_RADIUS, y), (x + HEAD_GAP - HEAD_WIDTH / 2, y), INK)

    def _box(self, centre: Point, width: float, height: float, text: str, **style: Any) -> None:
        from matplotlib.patches import FancyBboxPatch

        style = dict(BOX_STYLE) | style
        corner = (centre[0] - width / 2, centre[1] - height / 2)
        box = FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", **style)
        self.axes.add_patch(box)
        if text:
            self._text(centre, text, color=_ink_on(style["facecolor"]), zorder=4)

    def _arrow(self, start: Point, end: Point, color: str, **style: Any) -> None:
        from matplotlib.patches import FancyArrowPatch

        style = dict(ARROW_STYLE, color=color) | style
        self.axes.add_patch(FancyArrowPatch(start, end, **style))

    def _text(self, place: Point, text: str, **style: Any) -> None:
        style = dict(TEXT_STYLE) | style
        self.axes.text(*place, text, parse_math=False, **style)


def grid_inches(net: Architecture) -> tuple[float, float]:
    """Width and height in inches that the grid of ``net`` fills."""
    return INCHES * (net.last_stage * COLUMN + 5.2), INCHES * (head_height(net) + 1.5)


def head_height(net: Architecture) -> float:
    """The head spans all levels, and at least its own text."""
    return max((len(net.widths) - 1) * ROW + BOX_HEIGHT, LEAST_HEAD_HEIGHT)


def living_blocks(net: Architecture) -> tuple[Block, ...]:
    """(stage, level) of the blocks that ``net`` keeps, those of the last stage included."""
    later = ((n, level) for n, stage in enumerate(net.stages, start=2) for level in sorted(stage))
    return ((1, 0), *later)


def block_legend(kept: Architecture, pale: bool = False) -> list[Patch | Line2D]:
    """What the boxes and circles stand for."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colour = PALE if pale else level_colours(len(kept.widths))[0]
    ring: dict[str, Any] = {"color": "none", "marker": "o", "markersize": 9, "markerfacecolor": colour}
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, edgecolor=INK, label="LSFF block, its width"),
        Line2D([], [], markeredgecolor=INK, label="last stage: sums only", **ring),
    ]
    everything = len(kept.widths) * (kept.last_stage - 1) + 1
    if len(living_blocks(kept)) < everything:
        handles.append(Patch(facecolor="white", edgecolor=FAINT, linestyle="--", label="discarded block"))
    return handles


def direction_counts(operations: Iterable[Operation]) -> dict[str, int]:
    """How many of ``operations`` go each way."""
    names = [direction(op) for op in operations]
    return {name: names.count(name) for name in DIRECTIONS}
