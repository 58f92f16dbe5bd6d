"""The check of a model file against a target: which rules it is read by, and what they find."""

from __future__ import annotations

from pathlib import Path

from slimalign.export.lint import (
    litert_rules,
    onnxruntime_rules,
    tensorrt_pair_rules,
    tensorrt_placement_rules,
    tensorrt_rules,
)
from slimalign.export.lint.facts import litert_facts, onnx_facts
from slimalign.export.lint.findings import Facts, Finding, Report, Rule, findings
from slimalign.export.litert_model import read_litert_model
from slimalign.export.onnx_graph import OnnxGraph, read_onnx_graph
from slimalign.runtimes.bundle import is_bundle, read_bundle
from slimalign.runtimes.errors import UserError
from slimalign.targets.target import Target

RUNTIMES = {".onnx": ("tensorrt", "onnx"), ".tflite": ("litert",)}
"""What runs a file with each ending."""
DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of a file that can be parsed but whose parts do not fit, as an operator that lacks inputs."""
TENSORRT: tuple[Rule[OnnxGraph], ...] = (
    *tensorrt_rules.RULES,
    *tensorrt_pair_rules.RULES,
    *tensorrt_placement_rules.RULES,
)


def lint(path: Path, target: Target) -> Report:
    """What is in the file or the bundle at ``path``, and what is wrong with it on ``target``; nothing is run there.

    Raises UserError where it cannot be read, or is of a kind that the target does not run.
    """
    file = read_bundle(path).model_path if path.is_dir() or is_bundle(path) else path
    _check_kind(file, target)
    try:
        facts, found = _read(file, target)
    except DAMAGE as error:
        # The cause stays with it, for it may be a rule's own mistake.
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cut short or damaged ({reason}); export it again") from error
    return Report(str(path), target.told, facts, found)


def _read(file: Path, target: Target) -> tuple[Facts, tuple[Finding, ...]]:
    if file.suffix == ".tflite":
        model = read_litert_model(file)
        return litert_facts(model), findings(litert_rules.RULES, model, target)
    graph = read_onnx_graph(file)
    rules = TENSORRT if "tensorrt" in target.runtimes else onnxruntime_rules.RULES
    return onnx_facts(graph), findings(rules, graph, target)


def _check_kind(file: Path, target: Target) -> None:
    if not file.is_file():
        raise UserError(f"{file}: no such file; give an .onnx or .tflite file, or a bundle's folder")
    runtimes = RUNTIMES.get(file.suffix)
    if runtimes is None:
        raise UserError(
            f"{file}: not an {' or '.join(RUNTIMES)} file; export {_formats(target)} for {target.name}"
        )
    if not set(runtimes) & set(target.runtimes):
        raise UserError(
            f"{file}: {target.name} is known for {_formats(target)}, no {file.suffix} file; export one of them"
        )


def _formats(target: Target) -> str:
    return ", ".join(target.formats)
