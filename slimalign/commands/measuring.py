"""Commands that measure: profile, eval, parity, bench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from slimalign.commands.options import (
    BenchmarkModelOption,
    CudaGraphOption,
    DataOption,
    DelegateOption,
    FormatOption,
    JsonOption,
    NormaliserOption,
    PlaceOption,
    ProviderOption,
    PythonOption,
    ResultsOption,
    SkipBadOption,
)
from slimalign.runtimes.errors import CheckError, UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend
from slimalign.showing import accuracy_lines, print_json, say, shown_progress
from slimalign.targets.address import LOCAL


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
        f"{_mega(totals['params'])} params, {_giga(totals['macs'])} multiply-adds; without the head "
        f"{_mega(totals['params_without_head'])}, {_giga(totals['macs_without_head'])}"
    )


def _mega(count: int) -> str:
    return f"{count / 1e6:#.4g} M"


def _giga(count: int) -> str:
    return f"{count / 1e9:#.4g} G"


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip of a bundle.")],
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
    bundle: Annotated[Path, typer.Argument(help="Folder or zip of a bundle.")],
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
    bundles: Annotated[list[Path], typer.Argument(help="Folders or zips of bundles.")],
    batch: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,2,4,8",
    threads: Annotated[str, typer.Option(help="Comma-separated thread counts, or all.")] = "1,all",
    reference: Annotated[bool, typer.Option(help="60 s and 1024 calls each instead of a draft.")] = False,
    timed: Annotated[
        str, typer.Option(help="kernel, the inference alone; end-to-end, from images to landmarks; or both.")
    ] = "kernel",
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Split of --data that the faces come from.")] = "val",
    data_format: FormatOption = "300w",
    skip_bad: SkipBadOption = False,
    results: ResultsOption = Path("results.jsonl"),
    target: PlaceOption = LOCAL,
    python: PythonOption = None,
    benchmark_model: BenchmarkModelOption = None,
    provider: ProviderOption = DEFAULT_BACKEND.provider,
    delegate: DelegateOption = DEFAULT_BACKEND.delegate,
    cuda_graph: CudaGraphOption = False,
    as_json: JsonOption = False,
) -> None:
    """Latency of bundles over batch sizes and threads, all in one interleaved sweep.

    Example: `slimalign bench slimalign-demo/bundles/distilled-* --batch 1,8 --threads 1`

    On a device: `--target ssh://pi@raspberrypi`; where the line drops, the same command goes on.
    """
    from slimalign import api

    with shown_progress() as progress:
        records = api.bench(
            bundles,
            [_whole("--batch", text) for text in _parts(batch)],
            [None if text == "all" else _whole("--threads", text) for text in _parts(threads)],
            data=data,
            split=split,
            data_format=data_format,
            skip_bad=skip_bad,
            reference=reference,
            timed=_parts(timed),
            results=results,
            target=target,
            python=python,
            benchmark_model=benchmark_model,
            backend=Backend(provider, delegate, cuda_graph),
            progress=progress,
        )
    if as_json:
        print_json([record.summary() for record in records])
        return
    for record in records:
        say(_latency_line(record.summary()))


def _latency_line(figures: Mapping[str, Any]) -> str:
    """One setting's figures; of what a phone's program does not tell there is none."""
    what = (
        f"{figures['bundle']:20} {figures['runtime']:12} {figures['precision']:13} batch {figures['batch']:2}  "
        f"threads {figures['threads']}"
    )
    told = "  ".join(
        f"{name} {figures[f'{name}_ms']:8.2f} ms"
        for name in ("p50", "p90", "mean")
        if figures.get(f"{name}_ms") is not None
    )
    typical = figures["p50_ms"] or figures["mean_ms"]
    return f"{what}  {told}  {1000 * figures['batch'] / typical:7.1f} faces/s  ({figures['protocol']})"


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
