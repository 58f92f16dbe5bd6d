"""The command line. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from slimalign.runtimes.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Compact facial-landmark networks for a Jetson or a phone: made, exported, measured, chosen.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DataOption = Annotated[
    Optional[Path], typer.Option("--data", help="Folder of the data set.", show_default=False)
]
FormatOption = Annotated[
    str, typer.Option("--data-format", help="300w, wflw, cofw, cofw68, aflw, aflw-frontal or folder.")
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Go on without faces that cannot be used.")]
ResultsOption = Annotated[Path, typer.Option("--results", help="Results file that records are added to.")]


def main() -> None:
    """Run the command line: status 0 done, 1 a check did not hold, 2 a mistake in what the user gave."""
    try:
        app()
    except UserError as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"slimalign: {error}")
        sys.exit(error.status)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Progress with time left, on standard error so that standard output stays clean."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, soft_wrap=True)) as progress:
        yield progress


def print_json(document: Any) -> None:
    """One JSON document on standard output; a value that is not finite is an error, never printed."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("slimalign-demo"),
) -> None:
    """The whole chain on drawn faces, in minutes.

    Example: `slimalign demo`
    """
    from importlib import resources

    with resources.as_file(resources.files("slimalign.recipes") / "demo.toml") as recipe:
        _run(recipe, None, out, skip_bad=False, devices=1, as_json=False)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; the shipped ones lie in recipes/.")],
    data: DataOption = None,
    out: Annotated[Optional[Path], typer.Option(help="Run folder; default runs/<recipe's name>.")] = None,
    skip_bad: SkipBadOption = False,
    devices: Annotated[int, typer.Option(help="Processes or GPUs to train on.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train, search, slim, distil, export and measure by a recipe; run it again to go on after a break.

    Example: `slimalign run recipes/faces300w_cpu.toml --data path/to/faces300w`
    """
    _run(recipe, data, out, skip_bad, devices, as_json)


def _run(
    recipe_path: Path, data: Path | None, out: Path | None, skip_bad: bool, devices: int, as_json: bool
) -> None:
    from dataclasses import asdict

    from slimalign.compress.recipe import read_recipe
    from slimalign.making import run as run_recipe
    from slimalign.waterfall import waterfall_table

    recipe = read_recipe(recipe_path)
    folder = out or Path("runs") / recipe.name
    with shown_progress() as progress:
        result = run_recipe(recipe, folder, data, progress, skip_bad, devices)
    if as_json:
        print_json({"steps": [asdict(step) for step in result.steps], "baselines": result.baselines})
        return
    console = Console(soft_wrap=True)
    console.print(waterfall_table(result.steps))
    if result.baselines is not None:
        figures = ", ".join(f"{name} {nme:.2f}" for name, nme in result.baselines.items())
        console.print(f"trained alike from scratch, validation NME in %: {figures}")
    console.print(
        f"The files are in {folder}: bundles/, waterfall.json, frontier.png, architecture.png, factors.png"
    )


@app.command()
def slim(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run whose search is finished.")],
    max_gmacs: Annotated[
        Optional[float], typer.Option(help="Most multiply-adds, in 10^9, head included.")
    ] = None,
    max_params: Annotated[Optional[int], typer.Option(help="Most parameters.")] = None,
    threshold: Annotated[Optional[float], typer.Option(help="Least importance factor that is kept.")] = None,
    name: Annotated[str, typer.Option(help="Name of the student's bundle.")] = "slimmed-again",
    as_json: JsonOption = False,
) -> None:
    """Cut a run's supernet again, by a budget or a threshold; the student is not yet fine-tuned.

    Example: `slimalign slim runs/demo --max-gmacs 0.02`
    """
    from pydantic import ValidationError

    from slimalign.compress.recipe import SlimRecipe
    from slimalign.making import slim as slim_run

    try:
        cut = SlimRecipe(threshold=threshold, max_gmacs=max_gmacs, max_params=max_params)
    except ValidationError:
        raise UserError("give either --threshold, or --max-gmacs and/or --max-params, above 0") from None
    result = slim_run(run_folder, cut, name)
    if as_json:
        print_json({"bundle": str(result.bundle.folder), **result.cost.totals()})
        return
    Console(soft_wrap=True).print(
        f"{result.bundle.folder}: {len(result.architecture.operations)} operations, "
        f"{result.cost.params:,} parameters, {result.cost.macs:,} multiply-adds"
    )


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A finished run, or a PyTorch bundle.")],
    formats: Annotated[
        str, typer.Option("--formats", help="Comma-separated: onnx, litert, torch.")
    ] = "onnx,litert",
    out: Annotated[Path, typer.Option(help="Folder that the bundles go into.")] = Path("exported"),
    as_json: JsonOption = False,
) -> None:
    """Export a student to files a device can run, each checked against PyTorch.

    Example: `slimalign export runs/demo --formats onnx,litert`
    """
    from slimalign.making import export as export_source

    with shown_progress() as progress:
        bundles = export_source(source, formats.split(","), out, progress)
    if as_json:
        print_json(
            [{"bundle": str(b.folder), "sha256": b.sha256, "format": b.manifest.format} for b in bundles]
        )
        return
    for bundle in bundles:
        Console(soft_wrap=True).print(f"{bundle.folder}: {bundle.model_path.stat().st_size:,} bytes")


@app.command("eval")
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the data set.")],
    split: Annotated[str, typer.Option(help="train, val, test ...")] = "test",
    data_format: FormatOption = "300w",
    normaliser: Annotated[
        str, typer.Option(help="inter-ocular, inter-pupil, box, diagonal.")
    ] = "inter-ocular",
    results: ResultsOption = Path("results.jsonl"),
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """NME, failure rate and AUC of a deployed file, whole and per subset.

    Example: `slimalign eval runs/demo/bundles/student-onnx --data path/to/faces300w`
    """
    from slimalign.measuring import eval_bundle
    from slimalign.runtimes.bundle import read_bundle

    with shown_progress() as progress:
        found = eval_bundle(
            read_bundle(bundle), data, split, data_format, normaliser, progress, results, skip_bad
        )
    if as_json:
        print_json(found.to_dict())
        return
    console = Console(soft_wrap=True)
    for name, part in {"all": found.whole, **found.subsets}.items():
        console.print(
            f"{name:12} {part.images:5} images  NME {part.nme:6.3f} %  "
            f"failures {part.failure_rate:5.2f} %  AUC {part.auc:6.2f} %"
        )


@app.command()
def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    batch: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,2,4,8",
    threads: Annotated[str, typer.Option(help="Comma-separated thread counts, or all.")] = "1,all",
    reference: Annotated[bool, typer.Option(help="60 s and 1024 calls each instead of a draft.")] = False,
    data: DataOption = None,
    data_format: FormatOption = "300w",
    results: ResultsOption = Path("results.jsonl"),
    as_json: JsonOption = False,
) -> None:
    """Latency of bundles over batch sizes and threads, all in one interleaved sweep.

    Example: `slimalign bench runs/demo/bundles/student-* --batch 1,8 --threads 1`
    """
    from slimalign.faces import read_split
    from slimalign.measuring import bench as bench_bundles
    from slimalign.runtimes.bundle import read_bundle

    opened = [read_bundle(folder) for folder in bundles]
    with shown_progress() as progress:
        samples = None
        if data is not None:
            scheme = opened[0].manifest.landmark_scheme
            samples = read_split(data_format, scheme, data, "val", skip_bad=False, progress=progress)
        records = bench_bundles(
            opened,
            [_whole("--batch", text) for text in batch.split(",")],
            [None if text == "all" else _whole("--threads", text) for text in threads.split(",")],
            progress,
            samples,
            reference,
            results,
        )
    if as_json:
        print_json([record.summary() for record in records])
        return
    for record in records:
        figures = record.summary()
        Console(soft_wrap=True).print(
            f"{record.bundle:20} {record.runtime:12} batch {record.batch:2}  threads {record.threads}  "
            f"p50 {figures['p50_ms']:8.2f} ms  p90 {figures['p90_ms']:8.2f} ms  "
            f"{1000 * record.batch / record.p50_ms:7.1f} faces/s  ({record.protocol})"
        )


def _whole(option: str, text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise UserError(f"{option}: '{text}' is not a whole number above 0")
    return int(text)


@app.command()
def pick(
    results: Annotated[Path, typer.Argument(help="Results file of bench and eval.")],
    max_latency_ms: Annotated[
        Optional[float], typer.Option(help="Most milliseconds of a call, median.")
    ] = None,
    max_nme: Annotated[Optional[float], typer.Option(help="Most NME, in percent.")] = None,
    max_size_mb: Annotated[Optional[float], typer.Option(help="Largest file, in 10^6 bytes.")] = None,
    max_gmacs: Annotated[Optional[float], typer.Option(help="Most multiply-adds, in 10^9.")] = None,
    max_params: Annotated[Optional[float], typer.Option(help="Most parameters.")] = None,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads.")] = 1,
    runtime: Annotated[Optional[str], typer.Option(help="Only this runtime.")] = None,
    split: Annotated[Optional[str], typer.Option(help="Split of the NME.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The most accurate point within limits, or what would have to give.

    Example: `slimalign pick runs/demo/results.jsonl --max-latency-ms 5 --split test`
    """
    from slimalign.benchmarks.pick import Limits
    from slimalign.benchmarks.pick import pick as pick_point
    from slimalign.benchmarks.report import table
    from slimalign.measuring import points

    limits = Limits(max_latency_ms, max_nme, max_size_mb, max_gmacs, max_params)
    choice = pick_point(points(results, split), limits, batch, threads, runtime)
    if as_json:
        print_json(choice.to_dict())
        return
    console = Console(soft_wrap=True)
    if choice.point is None:
        console.print(f"No point fits; binding: {', '.join(choice.binding)}")
    else:
        console.print(table([point for point in (choice.point, choice.runner_up) if point is not None]))
    for relaxation in choice.relaxations:
        raised = ", ".join(f"{name} to {value:g}" for name, value in relaxation.limits.items())
        console.print(
            f"raise {raised}: then {relaxation.point.bundle} fits, NME {relaxation.point.nme:.2f} %"
        )


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Results file of bench and eval.")],
    out: Annotated[Path, typer.Option(help="Picture of the frontier, .png or .svg.")] = Path("frontier.png"),
    x: Annotated[str, typer.Option(help="What goes across: params, macs, latency or size.")] = "latency",
    split: Annotated[Optional[str], typer.Option(help="Split of the NME.")] = None,
) -> None:
    """All points as a table, and a picture of the frontier.

    Example: `slimalign report runs/demo/results.jsonl --split test`
    """
    from slimalign.benchmarks.report import scatter, table
    from slimalign.measuring import points

    found = points(results, split)
    scatter(found, out, x)
    console = Console(soft_wrap=True)
    console.print(table(found))
    console.print(f"The picture is {out}")


@app.command()
def predict(
    image: Annotated[Optional[Path], typer.Argument(help="A photo.")] = None,
    bundle: Annotated[Path, typer.Option(help="Folder of a bundle.")] = Path("student-onnx"),
    box: Annotated[Optional[list[str]], typer.Option(help="x0,y0,x1,y1 of a face; may be repeated.")] = None,
    boxes: Annotated[
        Optional[Path], typer.Option(help='JSON {"path": [[x0, y0, x1, y1], ...]} for many images.')
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Write the photo with the landmarks drawn here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Landmarks of the faces in a photo, in its pixels; without --box the whole image is taken as one face.

    Example: `slimalign predict photo.jpg --bundle runs/demo/bundles/student-onnx --box 80,60,280,260 --json`
    """
    from slimalign.predicting import predict_boxes_file, predict_photo

    if boxes is not None:
        for document in predict_boxes_file(bundle, boxes):
            print(json.dumps(document, allow_nan=False))  # noqa: T201
        return
    if image is None:
        raise UserError("give a photo, or --boxes FILE.json for many")
    found = predict_photo(bundle, image, box or [], out)
    if as_json:
        print_json({"faces": found})
        return
    for face in found:
        Console(soft_wrap=True).print(f"face in {face['box']}: mean score {_mean(face['scores']):.3f}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@app.command()
def profile(
    network: Annotated[
        str, typer.Argument(help="hrnet-w18, hrsupernet, sd-hrnet-300w ..., a JSON, a bundle.")
    ],
    landmarks: Annotated[Optional[int], typer.Option(help="Another number of landmarks.")] = None,
    input_size: Annotated[Optional[int], typer.Option("--input", help="Another input size.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Parameters and multiply-adds of a network, whole and without the head as the papers count.

    Example: `slimalign profile sd-hrnet-300w --layers`
    """
    from slimalign.measuring import profile as profile_network

    found = profile_network(network, landmarks, input_size)
    if as_json:
        print_json(found.to_dict())
        return
    console = Console(soft_wrap=True)
    if layers:
        for name, kind, params, macs in found.layers:
            console.print(f"{name:45} {kind:14} {params:>9,} params {macs:>13,} multiply-adds")
    totals = found.totals
    console.print(
        f"{found.network}, {found.landmarks} landmarks, {found.input_size}x{found.input_size}: "
        f"{totals['params'] / 1e6:.3f} M params, {totals['macs'] / 1e9:.3f} G multiply-adds; without the head "
        f"{totals['params_without_head'] / 1e6:.3f} M, {totals['macs_without_head'] / 1e9:.3f} G"
    )
