"""Opening a bundle of any format: what a device can run, and PyTorch beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.opening import OPENERS, open_session
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Session


def open_bundle(bundle: Bundle, threads: int | None = None, backend: Backend = DEFAULT_BACKEND) -> Session:
    """Open ``bundle`` in the runtime of its format; ``threads`` None means all cores.

    Raises UserError where the runtime is not installed or cannot open the file.
    """
    return open_session(bundle, threads, backend, {**OPENERS, "torch": _open_torch})


def _open_torch(bundle: Bundle, threads: int | None = None, backend: Backend = DEFAULT_BACKEND) -> Session:
    # PyTorch is heavy and a machine that only measures need not have it.
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"{bundle.model_path}: PyTorch is not installed; run pip install 'slimalign[train]'")
    from slimalign.compress.torch_session import TorchSession

    return TorchSession(bundle, threads, backend)


_CHOICES = (("provider", "onnx"), ("delegate", "litert"), ("cuda_graph", "tensorrt"))
"""Entries of a Backend, each with the one format whose runtime looks at it."""


def used_by(kind: str, backend: Backend) -> object:
    """What the runtime of format ``kind`` looks at in ``backend``; None where it is nothing."""
    return next((getattr(backend, entry) for entry, format_name in _CHOICES if format_name == kind), None)


def check_backend(backend: Backend, bundles: Sequence[Bundle]) -> None:
    """Raise UserError where ``backend`` chooses something that no runtime of ``bundles`` has."""
    formats = {bundle.manifest.format for bundle in bundles}
    for entry, kind in _CHOICES:
        if getattr(backend, entry) != getattr(DEFAULT_BACKEND, entry) and kind not in formats:
            held = ", ".join(sorted(formats)) or "none"
            option = entry.replace("_", "-")
            raise UserError(f"--{option} is for bundles of format {kind}, these are {held}; leave it out")


def check_names(bundles: Sequence[Bundle]) -> None:
    """Raise UserError where two of ``bundles`` are not the same, yet records could not tell them apart."""
    seen: dict[tuple[str, str, str], Bundle] = {}
    for bundle in bundles:
        manifest = bundle.manifest
        first = seen.setdefault((manifest.name, manifest.format, manifest.precision), bundle)
        if first.sha256 != bundle.sha256:
            raise UserError(
                f"{first.folder} and {bundle.folder}: two bundles called '{manifest.name}', both {manifest.format} in"
                f" {manifest.precision}; export one of them under another name, slimalign export ... --name NAME"
            )
