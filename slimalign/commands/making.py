"""Commands that make networks and files: demo, run, slim, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from slimalign.commands.options import (
    DataOption,
    FormatOption,
    JsonOption,
    NormaliserOption,
    SkipBadOption,
)
from slimalign.runtimes.errors import UserError
from slimalign.showing import print_json, say, shown_progress

if TYPE_CHECKING:
    from slimalign.making import RunResult
    from slimalign.stage_cutting import StageCut


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("slimalign-demo"),
    as_json: JsonOption = False,
) -> None:
    """The whole chain on drawn faces, in minutes.

    Example: `slimalign demo`
    """
    from importlib import resources

    with resources.as_file(resources.files("slimalign.recipes") / "demo.toml") as recipe:
        run(recipe, None, out, retrain=True, as_json=as_json)


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; the shipped ones lie in recipes/.")],
    data: DataOption = None,
    out: Annotated[Optional[Path], typer.Option(help="Run folder; default runs/<recipe's name>.")] = None,
    skip_bad: SkipBadOption = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train stages anew whose part of the recipe has changed.")
    ] = False,
    devices: Annotated[int, typer.Option(help="Processes or GPUs of a machine to train on.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines to train on; they share the run folder.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train, search, slim, distil, export and measure by a recipe; run it again to go on after a break.

    Example: `slimalign run recipes/faces300w_cpu.toml --data path/to/faces300w`
    """
    from dataclasses import asdict

    from slimalign import api

    with shown_progress() as progress:
        result = api.run(
            recipe,
            out,
            data,
            skip_bad=skip_bad,
            retrain=retrain,
            devices=devices,
            nodes=nodes,
            progress=progress,
        )
    if result is None:  # another process of this run shows its outcome
        return
    if as_json:
        print_json(asdict(result.waterfall))
    else:
        _show(result)
    from slimalign.export_jobs import raise_all

    raise_all(result.failures)


def _show(result: RunResult) -> None:
    from slimalign.run_names import STAGES_NAME
    from slimalign.waterfall import waterfall_table

    waterfall = result.waterfall
    say(waterfall_table(waterfall))
    if waterfall.baselines:
        split = "test" if waterfall.steps[0].val_nme is None else "val"
        figures = ", ".join(f"{name} {nme:.2f}" for name, nme in waterfall.baselines.items())
        say(f"trained alike from scratch, NME on {split} in %: {figures}")
    stages = (result.folder / STAGES_NAME).is_file()
    more = "stages.json, stages.png" if stages else "architecture.png, factors.png"
    say(
        f"The files are in {result.folder}: bundles/, waterfall.json, results.jsonl, frontier.png, {more}, "
        "predictions.jpg"
    )


def slim(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run whose search, or cascade, is trained.")
    ],
    max_gmacs: Annotated[
        Optional[float], typer.Option(help="Most multiply-adds, in 10^9, head included.")
    ] = None,
    max_params: Annotated[Optional[int], typer.Option(help="Most parameters.")] = None,
    threshold: Annotated[
        Optional[float], typer.Option(help="Least importance that is kept, as in importances.json.")
    ] = None,
    max_ms: Annotated[
        Optional[float],
        typer.Option(help="Most milliseconds, by --latency-table; a cascade's its run has measured."),
    ] = None,
    latency_table: Annotated[
        Optional[Path], typer.Option(help="What 'slimalign latency-table' measured on the device.")
    ] = None,
    keep_stages: Annotated[
        Optional[int], typer.Option(help="Stages of a cascade that stay; default those that earn their cost.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the student's bundle.")] = "slimmed-again",
    as_json: JsonOption = False,
) -> None:
    """Cut a run's network again: a supernet by a budget or a threshold, to a student that is not yet fine-tuned, or a
    cascade to its first stages.

    Example: `slimalign slim slimalign-demo --max-gmacs 0.014`
    """
    from slimalign import api
    from slimalign.stage_cutting import StageCut

    with shown_progress() as progress:
        made = api.slim(
            run_folder,
            max_gmacs=max_gmacs,
            max_params=max_params,
            threshold=threshold,
            max_ms=max_ms,
            latency_table=latency_table,
            keep_stages=keep_stages,
            name=name,
            progress=progress,
        )
    cost = made.bundle.manifest.cost
    if isinstance(made, StageCut):
        _show_stages(made, as_json)
        return
    if as_json:
        print_json({"bundle": str(made.bundle.folder), **cost, "predicted_ms": made.predicted_ms})
        return
    told = ""
    if made.table is not None:
        told = f", {made.predicted_ms:.2f} ms, {made.table.told_percentile}, by {latency_table}"
    say(
        f"{made.bundle.folder}: {len(made.architecture.operations)} operations, "
        f"{cost['params']:,} parameters, {cost['macs']:,} multiply-adds{told}; to train a student of this size put the "
        "budget into the recipe and run it again with --retrain"
    )


def _show_stages(made: StageCut, as_json: bool) -> None:
    from dataclasses import asdict

    from slimalign.stage_text import stages_table

    cost = made.bundle.manifest.cost
    if as_json:
        rows = [{**asdict(one), "ms": made.ms.get(one.stages)} for one in made.figures]
        print_json(
            {
                "bundle": str(made.bundle.folder),
                **cost,
                "kept_stages": made.kept,
                "runtime": made.runtime,
                "stages": rows,
            }
        )
        return
    say(stages_table(made))
    say(
        f"{made.bundle.folder}: {made.kept} of {len(made.figures) - 1} stages, {cost['params']:,} parameters, "
        f"{cost['macs']:,} multiply-adds; export it with 'slimalign export {made.bundle.folder}'"
    )


def export(
    source: Annotated[Path, typer.Argument(help="A finished run, or a PyTorch bundle.")],
    formats: Annotated[
        Optional[str],
        typer.Option(
            "--formats",
            help="Comma-separated: onnx, onnx-fp16, onnx-int8 (for ONNX Runtime on CPUs), onnx-int8-tensorrt (by "
            "TensorRT's rules), litert, litert-fp16, litert-dynamic, litert-int8, litert-int8-io (int8 at the "
            "interface too), litert-int16x8, tensorrt-fp16, tensorrt-int8, torch. Default those worth having on "
            "--target, or onnx,litert.",
        ),
    ] = None,
    target: Annotated[
        Optional[str], typer.Option(help="A name of 'slimalign targets', or a device profile's file.")
    ] = None,
    jetpack: Annotated[Optional[str], typer.Option(help="JetPack of a Jetson; default its newest.")] = None,
    data: DataOption = None,
    data_format: FormatOption = "300w",
    normaliser: NormaliserOption = "inter-ocular",
    skip_bad: SkipBadOption = False,
    decode_inside: Annotated[
        bool, typer.Option("--decode-inside", help="Files give points and scores, not heatmaps.")
    ] = False,
    opset: Annotated[
        Optional[int], typer.Option(help="Of ONNX files, 13 or 17; default the target's, or 17.")
    ] = None,
    batch: Annotated[Optional[int], typer.Option(help="Files take batches of this size alone.")] = None,
    compute_capability: Annotated[
        Optional[str],
        typer.Option(help="Build TensorRT engines ahead of time for GPUs of this one, as in 8.6."),
    ] = None,
    batches: Annotated[str, typer.Option(help="Least, best and largest batch of those engines.")] = "1,1,8",
    rescue: Annotated[
        bool, typer.Option("--rescue", help="Of int8 files that fail keep the worst blocks in float.")
    ] = False,
    qat: Annotated[
        bool, typer.Option("--qat", help="Train the network for int8 where files fail, after --rescue.")
    ] = False,
    zipped: Annotated[
        bool, typer.Option("--zip", help="Put each bundle into one file too, <name>.zip beside its folder.")
    ] = False,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder for the bundles; default exported/<name of SOURCE>.")
    ] = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the bundles; default the student's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a student to files a device can run, each checked.

    Files of fewer bits than float32 are calibrated on training faces and judged on validation faces: a run's own, with
    its recipe's settings, or of --data where SOURCE is a bundle. They pass with an NME at most 1 % above PyTorch's, 2 %
    in any subset.

    Example: `slimalign export slimalign-demo --target android`
    """
    from slimalign import api

    with shown_progress() as progress:
        bundles = api.export(
            source,
            None if formats is None else [name.strip() for name in formats.split(",")],
            out,
            name=name,
            target=target,
            jetpack=jetpack,
            data=data,
            data_format=data_format,
            normaliser=normaliser,
            skip_bad=skip_bad,
            decode_inside=decode_inside,
            opset=opset,
            batch=batch,
            compute_capability=compute_capability,
            batches=_batches(batches),
            rescue=rescue,
            qat=qat,
            zipped=zipped,
            progress=progress,
        )
    if as_json:
        print_json(
            [{"bundle": str(b.folder), "sha256": b.sha256, "format": b.manifest.format} for b in bundles]
        )
        return
    for bundle in bundles:
        say(f"{bundle.folder}: {bundle.model_path.stat().st_size:,} bytes")


def _batches(text: str) -> tuple[int, int, int]:
    from slimalign.runtimes.engine_builder import EngineError, parse_batches

    try:
        return parse_batches(text)
    except EngineError as error:
        raise UserError(str(error)) from None
