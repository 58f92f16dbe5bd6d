"""The command line. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from slimalign.extras import missing_extra
from slimalign.runtimes.errors import UserError
from slimalign.showing import accuracy_lines, print_json, remark, say, shown_progress

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
ResultsArgument = Annotated[Path, typer.Argument(help="Results file of bench and eval.")]
NormaliserOption = Annotated[
    str, typer.Option("--normaliser", help="inter-ocular, inter-pupil, box or diagonal.")
]
JudgedSplitOption = Annotated[
    str, typer.Option("--split", help="Split of the NME; choices are made on val, not on test.")
]
ProtocolOption = Annotated[
    Optional[str], typer.Option("--protocol", help="Only latency by this protocol, as kernel-1-reference.")
]
TargetOption = Annotated[Optional[str], typer.Option("--target", help="Only latency on this target.")]


# Newer versions of typer carry a click of their own, which alone raises what they raise.
click_exceptions = import_module(typer.BadParameter.__module__)

PROGRAM = "slimalign"
INTERRUPTED = 130
"""The status that typer gives a command that Ctrl-C broke off."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: status 0 done, 1 a check did not hold, 2 a mistake in what the user gave,
    130 broken off with Ctrl-C.
    """
    try:
        # In its standalone mode typer would end by itself, and tell of a mistake in a box of several lines.
        status = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        if status == INTERRUPTED:
            remark(f"{PROGRAM}: broken off")
        sys.exit(status)
    except UserError as error:
        _end(error)
    except click_exceptions.UsageError as mistake:
        _end_misused(mistake)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(missing)


def _end(error: UserError) -> None:
    remark(f"{PROGRAM}: {error}")
    sys.exit(error.status)


def _end_misused(mistake: Any) -> None:
    message = mistake.format_message().rstrip(".")
    # An option without its value comes without the command it was given to.
    command = mistake.ctx.command_path if mistake.ctx else PROGRAM
    # Where there are no arguments at all typer has shown the help, and there is nothing to add.
    if message:
        remark(f"{PROGRAM}: {message}; see {command} --help")
    sys.exit(mistake.exit_code)


@app.command()
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


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; the shipped ones lie in recipes/.")],
    data: DataOption = None,
    out: Annotated[Optional[Path], typer.Option(help="Run folder; default runs/<recipe's name>.")] = None,
    skip_bad: SkipBadOption = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train stages anew whose part of the recipe has changed.")
    ] = False,
    devices: Annotated[int, typer.Option(help="Processes or GPUs of a machine to train on.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines to train on.")] = 1,
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
        return
    from slimalign.waterfall import waterfall_table

    say(waterfall_table(result.waterfall))
    if result.waterfall.baselines:
        figures = ", ".join(f"{name} {nme:.2f}" for name, nme in result.waterfall.baselines.items())
        say(f"trained alike from scratch, validation NME in %: {figures}")
    say(
        f"The files are in {result.folder}: bundles/, waterfall.json, frontier.png, architecture.png, factors.png"
    )


@app.command()
def slim(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run whose search is finished.")],
    max_gmacs: Annotated[
        Optional[float], typer.Option(help="Most multiply-adds, in 10^9, head included.")
    ] = None,
    max_params: Annotated[Optional[int], typer.Option(help="Most parameters.")] = None,
    threshold: Annotated[
        Optional[float], typer.Option(help="Least importance that is kept, as the recipe counts it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the student's bundle.")] = "slimmed-again",
    as_json: JsonOption = False,
) -> None:
    """Cut a run's supernet again, by a budget or a threshold; the student is not yet fine-tuned.

    Example: `slimalign slim runs/demo --max-gmacs 0.02`
    """
    from slimalign import api

    made = api.slim(run_folder, max_gmacs=max_gmacs, max_params=max_params, threshold=threshold, name=name)
    cost = made.bundle.manifest.cost
    if as_json:
        print_json({"bundle": str(made.bundle.folder), **cost})
        return
    say(
        f"{made.bundle.folder}: {len(made.architecture.operations)} operations, "
        f"{cost['params']:,} parameters, {cost['macs']:,} multiply-adds"
    )


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A finished run, or a PyTorch bundle.")],
    formats: Annotated[
        str, typer.Option("--formats", help="Comma-separated: onnx, litert, torch.")
    ] = "onnx,litert",
    out: Annotated[
        Optional[Path], typer.Option(help="Folder for the bundles; default exported/<name of SOURCE>.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a student to files a device can run, each checked against PyTorch.

    Example: `slimalign export runs/demo --formats onnx,litert`
    """
    from slimalign import api

    with shown_progress() as progress:
        bundles = api.export(source, [name.strip() for name in formats.split(",")], out, progress=progress)
    if as_json:
        print_json(
            [{"bundle": str(b.folder), "sha256": b.sha256, "format": b.manifest.format} for b in bundles]
        )
        return
    for bundle in bundles:
        say(f"{bundle.folder}: {bundle.model_path.stat().st_size:,} bytes")


@app.command("eval")
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the data set.")],
    split: Annotated[str, typer.Option(help="train, val, test ...")] = "test",
    data_format: FormatOption = "300w",
    normaliser: NormaliserOption = "inter-ocular",
    threshold: Annotated[
        float, typer.Option(help="NME in percent above which an image failed, and where the AUC ends.")
    ] = 10.0,
    ced: Annotated[
        Optional[Path], typer.Option(help="Write the cumulative error distribution here, as CSV.")
    ] = None,
    results: ResultsOption = Path("results.jsonl"),
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """NME, failure rate and AUC of a deployed file, whole and per subset.

    Example: `slimalign eval runs/demo/bundles/distilled-onnx --data path/to/faces300w`

    AFLW's convention: `--normaliser box --threshold 7`
    """
    from slimalign import api

    with shown_progress() as progress:
        found = api.evaluate(
            bundle,
            data,
            split,
            data_format,
            normaliser=normaliser,
            threshold=threshold,
            results=results,
            skip_bad=skip_bad,
            progress=progress,
        )
    if ced is not None:
        from slimalign.measuring import write_ced

        write_ced(ced, found[normaliser])
    if as_json:
        print_json(found[normaliser].to_dict())
        return
    for line in accuracy_lines(found):
        say(line)


@app.command()
def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    batch: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,2,4,8",
    threads: Annotated[str, typer.Option(help="Comma-separated thread counts, or all.")] = "1,all",
    reference: Annotated[bool, typer.Option(help="60 s and 1024 calls each instead of a draft.")] = False,
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of --data that the faces come from.")] = "val",
    data_format: FormatOption = "300w",
    skip_bad: SkipBadOption = False,
    results: ResultsOption = Path("results.jsonl"),
    as_json: JsonOption = False,
) -> None:
    """Latency of bundles over batch sizes and threads, all in one interleaved sweep.

    Example: `slimalign bench runs/demo/bundles/distilled-* --batch 1,8 --threads 1`
    """
    from slimalign import api

    with shown_progress() as progress:
        records = api.bench(
            bundles,
            [_whole("--batch", text) for text in batch.split(",")],
            [None if text == "all" else _whole("--threads", text) for text in threads.split(",")],
            data=data,
            split=split,
            data_format=data_format,
            skip_bad=skip_bad,
            reference=reference,
            results=results,
            progress=progress,
        )
    if as_json:
        print_json([record.summary() for record in records])
        return
    for record in records:
        figures = record.summary()
        say(
            f"{record.bundle:20} {record.runtime:12} batch {record.batch:2}  threads {record.threads}  "
            f"p50 {figures['p50_ms']:8.2f} ms  p90 {figures['p90_ms']:8.2f} ms  "
            f"{1000 * record.batch / record.p50_ms:7.1f} faces/s  ({record.protocol})"
        )


def _whole(option: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{option}: '{text}' is not a whole number above 0")
    return number


@app.command()
def pick(
    results: ResultsArgument,
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
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The most accurate point within limits, or what would have to give.

    Example: `slimalign pick runs/demo/results.jsonl --max-latency-ms 5`
    """
    from slimalign.benchmarks.pick import Limits
    from slimalign.benchmarks.pick import pick as pick_point
    from slimalign.benchmarks.report import table
    from slimalign.measuring import points

    limits = Limits(max_latency_ms, max_nme, max_size_mb, max_gmacs, max_params)
    found = points(results, split, normaliser, protocol, target)
    choice = pick_point(found, limits, batch, threads, runtime)
    if as_json:
        print_json(choice.to_dict())
        return
    if choice.point is None:
        say(f"No point fits; binding: {', '.join(choice.binding)}")
    else:
        say(table([point for point in (choice.point, choice.runner_up) if point is not None]))
    for relaxation in choice.relaxations:
        raised = ", ".join(f"{name} to {value:g}" for name, value in relaxation.limits.items())
        say(f"raise {raised}: then {relaxation.point.bundle} fits, NME {relaxation.point.nme:.2f} %")


@app.command()
def report(
    results: ResultsArgument,
    out: Annotated[Path, typer.Option(help="Picture of the frontier, .png or .svg.")] = Path("frontier.png"),
    x: Annotated[str, typer.Option(help="What goes across: params, macs, latency or size.")] = "latency",
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads.")] = 1,
    split: JudgedSplitOption = "val",
    normaliser: NormaliserOption = "inter-ocular",
    protocol: ProtocolOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The points at one batch size and thread count as a table, and a picture of the frontier.

    Example: `slimalign report runs/demo/results.jsonl --x params --out frontier.svg`
    """
    from slimalign.benchmarks.report import scatter, table
    from slimalign.measuring import points

    found = points(results, split, normaliser, protocol, target, batch, threads)
    scatter(found, out, x)
    if as_json:
        print_json([point.to_dict() for point in found])
        return
    say(table(found))
    say(f"The picture is {out}")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Option(help="Folder of a bundle.")],
    image: Annotated[Optional[Path], typer.Argument(help="A photo.")] = None,
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

    Example: `slimalign predict photo.jpg --bundle runs/demo/bundles/distilled-onnx --box 80,60,280,260 --json`
    """
    if boxes is not None:
        if image is not None or box or out is not None:
            raise UserError("--boxes FILE.json names photos and boxes: leave out the photo, --box and --out")
        _predict_many(bundle, boxes)
        return
    if image is None:
        raise UserError("give a photo, or --boxes FILE.json for many")
    from slimalign import api
    from slimalign.predicting import parse_box

    corners = [parse_box(text) for text in box or ()]
    found = api.predict(bundle, image, corners, out)
    if not corners:
        remark(f"{image}: no --box given, the whole image is taken as one face")
    if as_json:
        print_json({"faces": found})
        return
    for face in found:
        scores = face["scores"]
        say(f"face in {face['box']}: mean score {sum(scores) / len(scores):.3f}")


def _predict_many(bundle: Path, boxes: Path) -> None:
    from slimalign.predicting import predict_boxes_file
    from slimalign.runtimes.bundle import read_bundle

    for document in predict_boxes_file(read_bundle(bundle), boxes):
        print_json(document, indent=None)


@app.command()
def profile(
    network: Annotated[
        str, typer.Argument(help="hrnet-w18, hrsupernet, sd-hrnet-300w ..., a JSON, a bundle.")
    ],
    landmarks: Annotated[Optional[int], typer.Option(help="Another number of landmarks.")] = None,
    input_size: Annotated[Optional[int], typer.Option("--input", help="Another input size.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Parameters and multiply-adds of a network, whole and without the head as the papers count.

    Example: `slimalign profile sd-hrnet-300w --layers`
    """
    from slimalign import api

    found = api.profile(network, landmarks, input_size)
    if as_json:
        print_json(found.to_dict(layers))
        return
    for name, kind, params, macs in found.known_layers() if layers else ():
        say(f"{name:45} {kind:14} {params:>9,} params {macs:>13,} multiply-adds")
    totals = found.totals
    say(
        f"{found.network}, {found.landmarks} landmarks, {found.input_size}x{found.input_size}: "
        f"{totals['params'] / 1e6:.3f} M params, {totals['macs'] / 1e9:.3f} G multiply-adds; without the head "
        f"{totals['params_without_head'] / 1e6:.3f} M, {totals['macs_without_head'] / 1e9:.3f} G"
    )
