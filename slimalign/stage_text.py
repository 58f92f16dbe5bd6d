"""What the stages of a cascade are worth, as people read it."""

from __future__ import annotations

from rich.table import Table

from slimalign.benchmarks.report import narrow_table, short_count
from slimalign.stage_cutting import StageCut


def stages_table(made: StageCut) -> Table:
    """A row for each number of stages, the one that was kept marked."""
    timed = {"p50\nms": False} if made.ms else {}
    table = narrow_table(
        "NME on validation faces after each stage, and its gain over the last sure one, with the 95 % interval",
        {
            "stages": True,
            "loss": False,
            "NME\n%": False,
            "gain": False,
            "params": False,
            "mult-\nadds": False,
            **timed,
        },
    )
    if made.ms:
        table.caption = f"p50 in {made.runtime}, batch 1 on one thread"
    for one in made.figures:
        low, high = one.gain_interval
        gain = f"{one.gain:+.3f} ({low:+.3f} to {high:+.3f})" if one.stages else ""
        ms = [f"{made.ms[one.stages]:.2f}"] if made.ms else []
        name = "heatmaps" if one.stages == 0 else str(one.stages)
        name += " <- kept" if one.stages == made.kept else ""
        table.add_row(
            name,
            f"{one.loss:.3f}",
            f"{one.nme:.3f}",
            gain,
            short_count(one.params),
            short_count(one.macs),
            *ms,
        )
    return table
