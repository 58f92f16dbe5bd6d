"""Opening a bundle in the runtime that its format asks for. Python 3.6 syntax, see session.py."""

import sys
from typing import TYPE_CHECKING, Mapping, Optional

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Session
from slimalign.runtimes.tensorrt_session import TensorRtSession

if sys.version_info >= (3, 8):
    from typing import Protocol
else:
    Protocol = object

if TYPE_CHECKING:
    from slimalign.runtimes.bundle import Bundle


class SessionOpener(Protocol):
    """Opens a bundle of one format; ``threads`` None means all cores."""

    def __call__(
        self, bundle: "Bundle", threads: Optional[int] = None, backend: Backend = DEFAULT_BACKEND
    ) -> Session:
        """The open session; raises UserError where its library is missing, or cannot open the file."""
        ...


OPENERS: "Mapping[str, SessionOpener]" = {
    "onnx": OnnxRuntimeSession,
    "litert": LiteRtSession,
    "tensorrt": TensorRtSession,
}
"""How each format that a device can run is opened."""


def open_session(
    bundle: "Bundle",
    threads: Optional[int] = None,
    backend: Backend = DEFAULT_BACKEND,
    openers: Mapping[str, SessionOpener] = OPENERS,
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
    return opener(bundle, threads, backend)
