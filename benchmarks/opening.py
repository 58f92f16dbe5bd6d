"""Opening a bundle of any format: what a device can run, and PyTorch beside it."""

from __future__ import annotations

import importlib.util

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
