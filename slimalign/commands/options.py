"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DataOption = Annotated[
    Optional[Path], typer.Option("--data", help="Folder of the data set.", show_default=False)
]
FormatOption = Annotated[
    str, typer.Option("--data-format", help="300w, wflw, cofw, cofw68, aflw, aflw-frontal or folder.")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Go on without bad faces, and with an incomplete split as it is.")
]
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
PlaceOption = Annotated[
    str,
    typer.Option("--target", help="local, ssh://user@host, adb:SERIAL, or a device profile with an address."),
]
PlacesOption = Annotated[
    str,
    typer.Option("--target", help="Comma-separated: local, ssh://user@host, adb:SERIAL, a device profile."),
]
PythonOption = Annotated[
    Optional[str], typer.Option("--python", help="The device's Python, with NumPy and a runtime.")
]
BenchmarkModelOption = Annotated[
    Optional[Path], typer.Option("--benchmark-model", help="LiteRT's benchmark_model for a phone.")
]
ProviderOption = Annotated[str, typer.Option(help="ONNX Runtime's provider: cpu, cuda, xnnpack ...")]
DelegateOption = Annotated[
    str, typer.Option(help="LiteRT's delegate: xnnpack, none, gpu, or a library's path[,name=value ...].")
]
ProvidersOption = Annotated[
    str, typer.Option("--provider", help="Comma-separated, ONNX Runtime's: cpu, cuda, xnnpack ...")
]
DelegatesOption = Annotated[
    str,
    typer.Option(
        "--delegate", help="Comma-separated, LiteRT's: xnnpack, none, gpu, a library's path[,name=value ...]."
    ),
]
CudaGraphOption = Annotated[bool, typer.Option("--cuda-graph", help="Replay TensorRT's work as one graph.")]
