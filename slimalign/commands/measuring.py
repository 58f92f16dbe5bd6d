"""Commands that measure: profile, eval, parity, bench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from slimalign.commands.options import (
    BenchmarkModelOption,
    CudaGraphOption,
    DataOption,
    DelegateOption,
    DelegatesOption,
    FormatOption,
    JsonOption,
    NormaliserOption,
    PlaceOption,
    PlacesOption,
    ProviderOption,
    ProvidersOption,
    PythonOption,
    ResultsOption,
    SkipBadOption,
)
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.showing import accuracy_lines, print_json, say, shown_progress
from slimalign.targets.address import LOCAL

if TYPE_CHECKING:
    from slimalign.benchmarks.layers import Layer
    from slimalign.benchmarks.told_latency import ToldLatency
    from slimalign.profiling import Profile
    from slimalign.runtimes.timing import Record


def profile(
    network: Annotated[
        str,
        typer.Argument(
            help="hrnet-w18, hrsupernet, sd-hrnet-300w ..., a JSON, a bundle, an .onnx or .tflite file."
        ),
    ],
    landmarks: Annotated[Optional[int], typer.Option(help="Another number of landmarks.")] = None,
    input_size: Annotated[Optional[int], typer.Option("--input", help="Another input size.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer too.")] = False,
    timed: Annotated[
        bool, typer.Option("--timed", help="Also how long a bundle's runtime takes for each layer.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of --timed.")] = 1,
    results: Annotated[
        Optional[Path], typer.Option("--results", help="Results file that a bundle's layers are added to.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters and multiply-adds of a network, whole and without the head as the papers count, and of files.

    Exit status 1 if a file has operators that cannot be counted: they are listed.

    Example: `slimalign profile sd-hrnet-300w --layers`

    Slow layers first: `slimalign profile slimalign-demo/bundles/distilled-onnx --layers --timed`
    """
    from slimalign import api

    found = api.profile(network, landmarks, input_size, timed=timed, threads=threads, results=results)
    if as_json:
        print_json(found.to_dict(layers))
        return
    for layer in found.known_layers() if layers else ():
        say(_layer_line(layer, found.layers_ms))
    for line in profile_lines(found):
        say(line)


def _layer_line(layer: Layer, all_ms: float) -> str:
    """One layer; of what is not known there is a dash."""
    moved = None if layer.bytes_moved is None else layer.bytes_moved / 1e3
    line = (
        f"{layer.name:45} {layer.kind:14} {_known(layer.params):>9} params {_known(layer.macs):>13} multiply-adds"
        f" {_known(moved):>8} kB"
    )
    if layer.ms is None:
        return line
    speed = f"{1e9 * layer.ms / layer.macs:8.1f} ms/G" if layer.macs else ""
    return f"{line} {layer.ms:8.3f} ms {100 * layer.ms / all_ms if all_ms else 0:5.1f} %{speed}"


def _known(count: float | None) -> str:
    return "-" if count is None else f"{count:,.0f}"


def profile_lines(found: Profile) -> Iterator[str]:
    """The totals, and what was timed."""
    totals = found.totals
    points = "" if found.landmarks is None else f", {found.landmarks} landmarks"
    size = "" if found.input_size is None else f", {found.input_size}x{found.input_size}"
    line = f"{found.network}{points}{size}: {_mega(totals['params'])} params, {_giga(totals['macs'])} multiply-adds"
    if totals["params_without_head"] is not None:
        line += (
            f"; without the head {_mega(totals['params_without_head'])}, {_giga(totals['macs_without_head'])}"
        )
    if totals["bytes_moved"] is not None:
        line += f"; {totals['bytes_moved'] / 1e6:.1f} MB moved"
    yield line
    if found.times is not None:
        times = found.times
        yield (
            f"{times.runtime} ({times.version}), {times.threads} threads: the layers' medians over {times.runs} calls"
            f" add up to {found.layers_ms:.2f} ms; a whole call takes {times.p50_ms:.2f} ms (p50, profiler off)"
        )


def _mega(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:#.4g} M"


def _giga(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:#.4g} G"


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip of a bundle, or a model's TOML.")],
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
    target: PlaceOption = LOCAL,
    python: PythonOption = None,
    benchmark_model: BenchmarkModelOption = None,
    provider: ProviderOption = DEFAULT_BACKEND.provider,
    delegate: DelegateOption = DEFAULT_BACKEND.delegate,
    cuda_graph: CudaGraphOption = False,
    as_json: JsonOption = False,
) -> None:
    """NME, failure rate and AUC of a deployed file, whole and per subset.

    Example: `slimalign eval slimalign-demo/bundles/distilled-onnx --data path/to/faces300w`

    AFLW's convention: `--normaliser box --threshold 7`
    """
    from slimalign import api
    from slimalign.measuring import write_ced
    from slimalign.runtimes.files import check_replaceable

    if ced is not None:
        check_replaceable(ced)
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
            target=target,
            python=python,
            benchmark_model=benchmark_model,
            backend=Backend(provider, delegate, cuda_graph),
            progress=progress,
        )
    if ced is not None:
        write_ced(ced, found[normaliser])
    if as_json:
        print_json(found[normaliser].to_dict())
        return
    for line in accuracy_lines(found):
        say(line)


def parity(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip of a bundle, or a model's TOML.")],
    target: Annotated[
        Optional[str], typer.Option(help="ssh://user@host, adb:SERIAL, or a device profile with an address.")
    ] = None,
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of --data that the faces come from.")] = "val",
    data_format: FormatOption = "300w",
    skip_bad: SkipBadOption = False,
    faces: Annotated[int, typer.Option(help="With --target, the first so many faces.")] = 32,
    python: PythonOption = None,
    benchmark_model: BenchmarkModelOption = None,
    provider: ProviderOption = DEFAULT_BACKEND.provider,
    delegate: DelegateOption = DEFAULT_BACKEND.delegate,
    cuda_graph: CudaGraphOption = False,
    as_json: JsonOption = False,
) -> None:
    """Whether a device finds the landmarks that this machine finds with the same file; exit status 1 if it does not.

    They may lie 0.05 pixels of the crop apart, and 0.25 for files of fewer bits than float32. Without --data the faces
    are drawn. Without --target: whether this machine finds on the bundle's golden face what was found at its export.

    Example: `slimalign parity slimalign-demo/bundles/distilled-litert --target ssh://pi@raspberrypi`
    """
    from slimalign import api

    with shown_progress() as progress:
        found = api.parity(
            bundle,
            target,
            data=data,
            split=split,
            data_format=data_format,
            skip_bad=skip_bad,
            faces=faces,
            python=python,
            benchmark_model=benchmark_model,
            backend=Backend(provider, delegate, cuda_graph),
            progress=progress,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        say(found.told)
    if not found.holds:
        raise typer.Exit(CheckError.status)


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Folders or zips of bundles, or TOMLs of models.")],
    batch: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,2,4,8",
    threads: Annotated[str, typer.Option(help="Comma-separated thread counts, or all.")] = "1,all",
    reference: Annotated[bool, typer.Option(help="60 s and 1024 calls each instead of a draft.")] = False,
    sustained: Annotated[
        Optional[float],
        typer.Option(help="So many minutes of calls each, one setting after another: slope and throttling."),
    ] = None,
    timed: Annotated[
        str, typer.Option(help="kernel, the inference alone; end-to-end, from images to landmarks; or both.")
    ] = "kernel",
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of --data that the faces come from.")] = "val",
    data_format: FormatOption = "300w",
    skip_bad: SkipBadOption = False,
    results: ResultsOption = Path("results.jsonl"),
    target: PlacesOption = LOCAL,
    python: PythonOption = None,
    benchmark_model: BenchmarkModelOption = None,
    provider: ProvidersOption = DEFAULT_BACKEND.provider,
    delegate: DelegatesOption = DEFAULT_BACKEND.delegate,
    cuda_graph: CudaGraphOption = False,
    as_json: JsonOption = False,
) -> None:
    """Latency of bundles over batch sizes, threads and runtimes, all in one interleaved sweep.

    Example: `slimalign bench slimalign-demo/bundles/distilled-* --batch 1,8 --threads 1`

    On devices: `--target local,ssh://pi@raspberrypi`, one after another. After a break the same command goes on.
    """
    from slimalign import api
    from slimalign.bench_lines import bench_lines, documents
    from slimalign.places import Where, each_where

    wheres = each_where([Where(one, python, benchmark_model) for one in _parts(target)])
    opened = [api.read_bundle(bundle) for bundle in bundles]
    failures: list[UserError] = []
    with shown_progress() as progress:

        def measured(where: Where) -> Sequence[Record | ToldLatency]:
            """What was measured on a target; where that fails, the others are still measured."""
            try:
                return api.bench(
                    opened,
                    [_whole("--batch", text) for text in _parts(batch)],
                    [None if text == "all" else _whole("--threads", text) for text in _parts(threads)],
                    data=data,
                    split=split,
                    data_format=data_format,
                    skip_bad=skip_bad,
                    reference=reference,
                    sustained=sustained,
                    timed=_parts(timed),
                    results=results,
                    target=where.target,
                    python=where.python,
                    benchmark_model=where.benchmark_model,
                    backends=_backends(provider, delegate, cuda_graph),
                    progress=progress,
                )
            except UserError as error:
                failures.append(error)
                return []

        records = [record for where in wheres for record in measured(where)]
    if records and as_json:
        print_json(documents(records))
    elif records:
        for line in bench_lines(records, opened):
            say(line)
    if failures:
        raise UserError("; ".join(dict.fromkeys(str(failure) for failure in failures)))


def _backends(providers: str, delegates: str, cuda_graph: bool) -> list[Backend]:
    """Every combination; the options of a delegate, as in ``libdelegate.so,backend=htp``, stay with it."""
    named: list[str] = []
    for part in _parts(delegates):
        if "=" in part and named:
            named[-1] += f",{part}"
        else:
            named.append(part)
    return [Backend(one, other, cuda_graph) for one in _parts(providers) for other in named]


def _parts(listed: str) -> list[str]:
    return [part.strip() for part in listed.split(",")]


def _whole(option: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{option}: '{text}' is not a whole number above 0")
    return number
