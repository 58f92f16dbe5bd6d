"""The few calls of the CUDA runtime that TensorRT needs, by ctypes: JetPack brings no other binding.

Python 3.6 syntax, see session.py.
"""

import ctypes
import glob
import importlib.util
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, List, Tuple

import numpy as np

from slimalign.runtimes.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSIONS = ("13", "12", "11.0", "10.2", "10.0")
FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib")
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
CAPTURE_OF_THIS_THREAD = 1
"""cudaStreamCaptureModeThreadLocal: what other threads do meanwhile does not break the capture."""


class CudaRuntime:
    """libcudart: memory, one stream, copies on it, and graphs of what is on it.

    Raises UserError where the library is not found or the GPU does not answer, and for every call that fails.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(self._stream))

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return self._stream.value or 0

    def device_memory(self, size: int) -> int:
        """The address of ``size`` bytes on the GPU."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value or 0

    def pinned(self, shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> "NDArray[Any]":
        """An array on pages that stay in memory: only those are copied beside other work, and at full speed."""
        count = int(np.prod(shape))
        address = ctypes.c_void_p()
        self._call(
            "cudaHostAlloc", ctypes.byref(address), ctypes.c_size_t(count * dtype.itemsize), ctypes.c_uint(0)
        )
        block = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address.value or 0)
        return np.frombuffer(memoryview(block), dtype=dtype).reshape(shape)

    def free(self, address: int) -> None:
        """Give back what ``device_memory`` gave."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def free_pinned(self, array: "NDArray[Any]") -> None:
        """Give back what ``pinned`` gave; the array must not be used any more."""
        self._call("cudaFreeHost", ctypes.c_void_p(array.ctypes.data))

    def to_device(self, address: int, array: "NDArray[Any]") -> None:
        """Queue the copy of the pinned ``array`` to ``address`` on the stream."""
        self._copy(address, array.ctypes.data, array.nbytes, HOST_TO_DEVICE)

    def to_host(self, array: "NDArray[Any]", address: int) -> None:
        """Queue the copy of what lies at ``address`` to the pinned ``array`` on the stream."""
        self._copy(array.ctypes.data, address, array.nbytes, DEVICE_TO_HOST)

    def wait(self) -> None:
        """Until all that is queued on the stream is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def captured(self, queue: Callable[[], None]) -> "ctypes.c_void_p":
        """What ``queue`` puts on the stream, as a graph that ``launch`` queues again; nothing of it is done yet."""
        graph, runnable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", self._stream, ctypes.c_int(CAPTURE_OF_THIS_THREAD))
        try:
            queue()
        except UserError:
            self._library.cudaStreamEndCapture(self._stream, ctypes.byref(graph))
            raise
        self._call("cudaStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._instantiate(runnable, graph)
        finally:
            self._call("cudaGraphDestroy", graph)
        return runnable

    def _instantiate(self, runnable: "ctypes.c_void_p", graph: "ctypes.c_void_p") -> None:
        # The one with flags has had the same arguments since CUDA 11.4; the other took more of them before CUDA 12.
        if hasattr(self._library, "cudaGraphInstantiateWithFlags"):
            self._call("cudaGraphInstantiateWithFlags", ctypes.byref(runnable), graph, ctypes.c_ulonglong(0))
        else:
            nothing = ctypes.c_void_p(None)
            rest = (nothing, nothing, ctypes.c_size_t(0))
            self._call("cudaGraphInstantiate", ctypes.byref(runnable), graph, *rest)

    def launch(self, graph: "ctypes.c_void_p") -> None:
        """Queue a captured graph on the stream."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def drop(self, graph: "ctypes.c_void_p") -> None:
        """Give back a captured graph."""
        self._call("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Give back the stream."""
        self._call("cudaStreamDestroy", self._stream)

    def _copy(self, to: int, start: int, size: int, direction: int) -> None:
        parts = (ctypes.c_void_p(to), ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(direction))
        self._call("cudaMemcpyAsync", *parts, self._stream)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            tell = self._library.cudaGetErrorString
            tell.restype = ctypes.c_char_p
            said = (tell(status) or b"").decode("utf-8", "replace")
            raise UserError(
                f"CUDA: {name} failed ({status}, {said}); see that nvidia-smi or tegrastats shows the GPU, and that its"
                " driver suits CUDA"
            )


def _library() -> Any:
    for place in _places():
        with suppress(OSError):
            return ctypes.CDLL(place)
    raise UserError(
        "CUDA's runtime libcudart is not found; it comes with JetPack, and elsewhere with CUDA or"
        " pip install nvidia-cuda-runtime"
    )


def _places() -> List[str]:
    """Where the library may lie: known to the loader, in CUDA's folder, or in a package of pip's."""
    names = ["libcudart.so"] + ["libcudart.so." + version for version in VERSIONS]
    if sys.platform == "win32":
        names = ["cudart64_%s.dll" % version.replace(".", "") for version in VERSIONS]
    folders = [found for folder in FOLDERS for found in sorted(glob.glob(folder))]
    package = importlib.util.find_spec("nvidia")
    for root in package.submodule_search_locations or [] if package is not None else []:
        folders += sorted(glob.glob(os.path.join(root, "cu*", "lib")), reverse=True)
    return names + [os.path.join(folder, name) for folder in folders for name in names]
