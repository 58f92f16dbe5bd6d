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


def check_backend(backend: Backend, bundles: Sequence[Bundle]) -> None:
    """Raise UserError where ``backend`` chooses something that no runtime of ``bundles`` has."""
    formats = {bundle.manifest.format for bundle in bundles}
    for option, kind, chosen, usual in (
        ("provider", "onnx", backend.provider, DEFAULT_BACKEND.provider),
        ("delegate", "litert", backend.delegate, DEFAULT_BACKEND.delegate),
        ("cuda-graph", "tensorrt", backend.cuda_graph, DEFAULT_BACKEND.cuda_graph),
    ):
        if chosen != usual and kind not in formats:
            held = ", ".join(sorted(formats)) or "none"
            raise UserError(f"--{option} is for bundles of format {kind}, these are {held}; leave it out")
