"""Opening a bundle in the runtime that its format asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Session

SessionOpener = Callable[[Bundle, int | None], Session]

OPENERS: Mapping[str, SessionOpener] = MappingProxyType({"onnx": OnnxRuntimeSession, "litert": LiteRtSession})
"""How each format that a device can run is opened, given the bundle and the number of threads."""


def open_session(
    bundle: Bundle, threads: int | None = None, openers: Mapping[str, SessionOpener] = OPENERS
) -> Session:
    """Open ``bundle`` in the runtime of its format; ``threads`` None means all cores.

    A floor above that knows another runtime passes its own table: ``{**OPENERS, "torch": ...}``.
    Raises UserError where the format has no runtime here, its library is missing, or it cannot open the file.
    """
    opener = openers.get(bundle.manifest.format)
    if opener is None:
        raise UserError(
            f"{bundle.folder}: format = '{bundle.manifest.format}' has no runtime here;"
            f" export it as one of {', '.join(openers)}"
        )
    return opener(bundle, threads)
