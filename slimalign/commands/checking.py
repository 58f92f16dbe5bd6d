"""Commands that make and measure nothing: targets, lint, doctor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from slimalign.commands.options import JsonOption, PythonOption
from slimalign.runtimes.device_state import UNKNOWN
from slimalign.runtimes.errors import CheckError
from slimalign.showing import print_json, say

if TYPE_CHECKING:
    from slimalign.doctor import Diagnosis, Machine
    from slimalign.export.lint.findings import Report

SHOWN_NODES = 3
"""Of the operators that a finding is about, those that are named."""


def targets(as_json: JsonOption = False) -> None:
    """The devices that files can be made and checked for.

    Example: `slimalign targets`
    """
    from slimalign import api

    found = api.targets()
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    table = Table("target", "device", "formats, best first", "TensorRT, opset", "GB", "power modes", box=None)
    for one in found:
        releases = "\n".join(release.told for release in one.jetpacks)
        memory = ", ".join(f"{size:g}" for size in one.memory_gb)
        modes = ", ".join(one.power_modes)
        table.add_row(one.name, one.title, ", ".join(one.formats), releases, memory, modes)
    say(table)


def lint(
    file: Annotated[Path, typer.Argument(help="An .onnx or .tflite file, a bundle, or a TOML of a model.")],
    target: Annotated[str, typer.Option(help="A name of 'slimalign targets', or a device profile's file.")],
    jetpack: Annotated[Optional[str], typer.Option(help="JetPack of a Jetson; default its newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What in a file does not run on a device, or slowly, or computes something else; exit status 1 if it does not run.

    Example: `slimalign lint slimalign-demo/bundles/distilled-onnx --target jetson-orin-nano --jetpack 5.1`
    """
    from slimalign import api

    report = api.lint(file, target, jetpack)
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if report.errors:
        raise typer.Exit(CheckError.status)


def doctor(
    target: Annotated[
        Optional[str],
        typer.Option(
            help="A device: ssh://user@host, adb:SERIAL, or a target or profile that has an address."
        ),
    ] = None,
    python: PythonOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is installed here and on a device, what can be done with it, and how to mend the rest.

    Exit status 1 if nothing that the target's formats need can run on it.

    Example: `slimalign doctor --target ssh://me@10.0.0.7`
    """
    from slimalign import api

    found = api.doctor(target, python)
    if as_json:
        print_json(found.to_dict())
    else:
        _show_diagnosis(found)
    if found.runs_nothing:
        raise typer.Exit(CheckError.status)


def _show_diagnosis(found: Diagnosis) -> None:
    _show_machine("this machine", found.here)
    if found.device is not None:
        say("")
        _show_machine(found.device.address, found.device)
    elif found.target is not None:
        say(f'\n{found.target} has no address; copy its profile and add one, as address = "ssh://user@host"')


def _show_machine(title: str, machine: Machine) -> None:
    say(f"{title}: {', '.join(_facts_of(machine.installed, machine.state))}")
    table = Table("", "what", "missing", "how to mend it", box=None)
    for check in machine.checks:
        table.add_row(
            "yes" if check.possible else "no", check.what, ", ".join(check.missing), check.mend or ""
        )
    say(table)


def _facts_of(installed: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[str]:
    """What is there, and of its state what bears most on figures; what is unknown is left out."""
    for name, value in (("Python", installed.get("python")), ("CUDA", installed.get("cuda"))):
        if value:
            yield f"{name} {value}"
    if installed["gpu"]:
        yield f"{installed['gpu']['name']} ({installed['gpu']['compute_capability']})"
    yield from (f"{name} {version}" for name, version in installed["packages"].items())
    named = {
        "": "cpu",
        "JetPack ": "jetpack",
        "Android ": "android",
        "power mode ": "power_mode",
        "throttling ": "thermal_status",
    }
    for words, entry in named.items():
        value = installed.get(entry) or state.get(entry)
        if value not in (None, UNKNOWN):
            yield f"{words}{value}"


def _show(report: Report) -> None:
    say(f"{report.file} for {report.target}")
    for line in _fact_lines(report):
        say(line)
    if not report.findings:
        say("Nothing found.")
        return
    table = Table("level", "rule", "where", "what", "how to mend it", box=None)
    for found in report.findings:
        table.add_row(found.level, found.rule, _shortened(found.nodes), found.message, found.mend)
    say(table)


def _fact_lines(report: Report) -> Iterator[str]:
    facts = report.facts
    yield f"{facts.version}; {sum(facts.operators.values())} operators: {_counted(facts.operators)}"
    sizes = {dtype: f"{size / 1e6:.2f}" for dtype, size in facts.weight_bytes.items()}
    yield f"tensors: {_counted(facts.tensors)}; MB of weights: {_counted(sizes)}"
    resizes = f"{sum(facts.resizes.values())} resizes" + (
        f" ({_counted(facts.resizes)})" if facts.resizes else ""
    )
    share = facts.int8_share
    int8 = "" if share is None else f"; {100 * share:.1f} % of multiply-adds outside the head in int8"
    yield f"{facts.transposes} transposes, {resizes}{int8}"


def _counted(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _shortened(nodes: tuple[str, ...]) -> str:
    more = len(nodes) - SHOWN_NODES
    return ", ".join(nodes[:SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")
