"""Bundles in TensorRT, or TensorRT for RTX, on an NVIDIA GPU. Python 3.6 syntax, see session.py.

The engine is built from the bundle's ONNX on the first opening, and again where TensorRT, GPU or ONNX are others.
Bindings by index (TensorRT before 8.5) and tensors by name (from 8.5 on) are both known.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from slimalign.runtimes.cuda import CudaRuntime
from slimalign.runtimes.engine_builder import (
    EngineError,
    Library,
    Settings,
    engine_for,
    gpu,
    library_for,
)
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.session import DEFAULT_BACKEND, Backend, Float32, check_batch, joined

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from slimalign.runtimes.bundle import Bundle


class TensorRtSession:
    """The engine of a TensorRT bundle, with pinned buffers and a stream of its own.

    A call takes inputs from the host and gives the answer back there: the copies are part of it. ``threads`` is
    without meaning on a GPU and always 1. Raises UserError where there is no GPU, TensorRT or CUDA, or the engine
    cannot be built.
    """

    threads = 1

    def __init__(self, bundle: "Bundle", threads: Optional[int] = None, backend: Backend = DEFAULT_BACKEND):
        self.manifest = bundle.manifest
        self.runtime = "tensorrt-graph" if backend.cuda_graph else "tensorrt"
        self._name = str(bundle.folder)
        library, path = _built(bundle, backend)
        self.version = f"{library.name} {library.version}"
        self._with_graphs = backend.cuda_graph
        self._largest_batch = backend.batches[2]
        self._plans: "Dict[int, _Plan]" = {}
        with ExitStack() as opening:
            self._cuda = CudaRuntime()
            opening.callback(self._cuda.close)
            self._engine = _Engine(library, path)
            self._closing = opening.pop_all()

    def run(self, inputs: Float32) -> Float32:
        """Raw heatmaps of normalised ``inputs``, see Session; more than the engine's largest batch in several runs."""
        check_batch(inputs, self.manifest)
        step = self.manifest.batch or self._largest_batch
        parts = [self._run(inputs[start : start + step]) for start in range(0, len(inputs), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, inputs: Float32) -> Float32:
        batch = len(inputs)
        if batch not in self._plans:
            self._plans[batch] = self._planned(inputs.shape)
        plan = self._plans[batch]
        plan.image[...] = inputs
        if self._with_graphs:
            self._cuda.launch(self._graph(plan))
        else:
            self._queue(plan)
        self._cuda.wait()
        found = [np.array(values, dtype=np.float32) for values in plan.answers]
        return found[0] if self.manifest.output == "heatmaps" else joined(*found)

    def _planned(self, shape: Tuple[int, ...]) -> "_Plan":
        """Buffers on both sides for one batch size, kept until the session closes."""
        context = _Context(self._engine)
        image, answers = context.shapes(shape, self._name)
        ends = [self._buffers(*end) for end in (image, *answers)]
        return _Plan(context, ends[0][0], [host for host, _ in ends[1:]], [device for _, device in ends], [])

    def _buffers(self, shape: Tuple[int, ...], dtype: "np.dtype[Any]") -> "Tuple[NDArray[Any], int]":
        host = self._cuda.pinned(shape, dtype)
        self._closing.callback(self._cuda.free_pinned, host)
        device = self._cuda.device_memory(host.nbytes)
        self._closing.callback(self._cuda.free, device)
        return host, device

    def _queue(self, plan: "_Plan") -> None:
        self._cuda.to_device(plan.addresses[0], plan.image)
        plan.context.queue(plan.addresses, self._cuda.stream)
        for answer, address in zip(plan.answers, plan.addresses[1:]):
            self._cuda.to_host(answer, address)

    def _graph(self, plan: "_Plan") -> Any:
        if not plan.graphs:
            # TensorRT sets itself up in its first run of a shape, which a capture must not hold.
            self._queue(plan)
            self._cuda.wait()
            graph = self._cuda.captured(lambda: self._queue(plan))
            self._closing.callback(self._cuda.drop, graph)
            plan.graphs.append(graph)
        return plan.graphs[0]

    def __enter__(self) -> "TensorRtSession":
        return self

    def __exit__(
        self,
        kind: "Optional[type[BaseException]]",
        error: "Optional[BaseException]",
        trace: "Optional[TracebackType]",
    ) -> None:
        self._plans.clear()
        del self._engine
        self._closing.close()


class _Plan(NamedTuple):
    """What a batch size runs with: a context, arrays on the host, addresses on the GPU, a graph once it is captured.

    The context is its own: a graph must not be replayed once the context that it was captured from is changed.
    """

    context: "_Context"
    image: "NDArray[Any]"
    answers: "List[NDArray[Any]]"
    addresses: List[int]
    graphs: List[Any]


def _built(bundle: "Bundle", backend: Backend) -> Tuple[Library, str]:
    """The TensorRT to run with, and the path of the bundle's engine for it."""
    try:
        here = gpu()
        if here is None:
            raise EngineError(
                "no GPU here to run TensorRT on; run it on the device, or export the bundle for another runtime"
            )
        library = library_for(here.capability)
        if backend.cuda_graph and library.name != "tensorrt":
            raise EngineError(f"{library.name} captures graphs by itself; leave --cuda-graph out")
        return library, engine_for(str(bundle.folder), Settings(backend.batches, here.capability))
    except EngineError as error:
        raise UserError(f"{bundle.folder}: {error}") from None


_End = Tuple[Tuple[int, ...], "np.dtype[Any]"]
"""Shape and type of the input or an output."""


class _Engine:
    """A loaded engine, and how its version names inputs and outputs."""

    def __init__(self, library: Library, path: str):
        trt = library.module
        # Both must outlive what they have made.
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        with open(path, "rb") as file:
            self.loaded = self._runtime.deserialize_cuda_engine(file.read())
        if self.loaded is None:
            raise UserError(
                f"{path}: {library.name} {library.version} cannot load it, see above; free memory or delete the file"
            )
        self._path = path
        # Older versions have a table of their own, which newer NumPys break.
        self._dtypes = {trt.float32: np.float32, trt.float16: np.float16, trt.int32: np.int32}
        self.by_name = hasattr(self.loaded, "num_io_tensors")
        self.names = self._names(trt)

    def context(self) -> Any:
        """A new execution context; raises UserError where the GPU has no memory for it."""
        made = self.loaded.create_execution_context()
        if made is None:
            raise UserError(f"{self._path}: no memory on the GPU to run it; free some")
        return made

    def dtype(self, name: str) -> "np.dtype[Any]":
        """The type of the input or output ``name``."""
        found = self.loaded.get_tensor_dtype(name) if self.by_name else self.loaded.get_binding_dtype(name)
        return np.dtype(self._dtypes[found])

    def _names(self, trt: Any) -> List[str]:
        """The input's name, then those of the outputs, points before scores."""
        loaded = self.loaded
        if self.by_name:
            names = [loaded.get_tensor_name(place) for place in range(loaded.num_io_tensors)]
            inputs = [name for name in names if loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        else:
            names = [loaded.get_binding_name(place) for place in range(loaded.num_bindings)]
            inputs = [name for name in names if loaded.binding_is_input(name)]
        answers = [name for name in names if name not in inputs]
        return inputs + sorted(answers, key=lambda name: -self._rank(name))

    def _rank(self, name: str) -> int:
        loaded = self.loaded
        shape = loaded.get_tensor_shape(name) if self.by_name else loaded.get_binding_shape(name)
        return len(tuple(shape))


class _Context:
    """An execution context for inputs of one shape."""

    def __init__(self, engine: _Engine):
        self._engine = engine
        self._context = engine.context()
        # By index the buffers go in the engine's own order.
        loaded = engine.loaded
        self._indices = {} if engine.by_name else {n: loaded.get_binding_index(n) for n in engine.names}

    def shapes(self, image: Tuple[int, ...], name: str) -> "Tuple[_End, List[_End]]":
        """The input's and the outputs' shapes and types for inputs of shape ``image``, which it is set to."""
        if not self._set_shape(image):
            raise UserError(
                f"{name}: its engine is not built for batch = {image[0]}; give batches that it is built for"
            )
        first, *others = [(self._shape(one), self._engine.dtype(one)) for one in self._engine.names]
        return first, others

    def queue(self, addresses: List[int], stream: int) -> None:
        """Put one run on the stream, with the buffers at ``addresses``: the input's, then the outputs'."""
        if self._engine.by_name:
            for name, address in zip(self._engine.names, addresses):
                self._context.set_tensor_address(name, address)
            done = self._context.execute_async_v3(stream)
        else:
            places = {self._indices[name]: address for name, address in zip(self._engine.names, addresses)}
            done = self._context.execute_async_v2([places[place] for place in range(len(places))], stream)
        if not done:
            raise UserError("TensorRT could not run its engine, see above; free memory on the GPU")

    def _shape(self, name: str) -> Tuple[int, ...]:
        if self._engine.by_name:
            return tuple(self._context.get_tensor_shape(name))
        return tuple(self._context.get_binding_shape(self._indices[name]))

    def _set_shape(self, shape: Tuple[int, ...]) -> bool:
        image = self._engine.names[0]
        if self._shape(image) == shape:
            return True
        if self._engine.by_name:
            return bool(self._context.set_input_shape(image, shape))
        return bool(self._context.set_binding_shape(self._indices[image], shape))
