"""Stands in for TensorRT where there is no GPU: its engines are the ONNX, computed by ONNX Runtime in CUDA's turn.

What can be seen with it is that a session calls TensorRT and CUDA rightly, in both ways of naming inputs and outputs;
not that an engine computes what it should.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

LARGEST = 8
FLOAT = "FLOAT"


def tensorrt(cuda: ctypes.CDLL, by_name: bool) -> SimpleNamespace:
    """A module as ``tensorrt`` is, of version 10 where tensors go ``by_name``, or else 8.2."""
    named = (NamedContext, NamedEngine) if by_name else (IndexedContext, IndexedEngine)
    flags = {"FP16": 0, "INT8": 1, "OBEY_PRECISION_CONSTRAINTS": 2}
    module = SimpleNamespace(
        __version__="10.3.0" if by_name else "8.2.1",
        BuilderFlag=SimpleNamespace(**flags),
        Builder=Builder,
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0),
        OnnxParser=OnnxParser,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        float32=FLOAT,
        float16="HALF",
        int32="INT32",
    )
    module.Runtime = lambda logger: SimpleNamespace(
        deserialize_cuda_engine=lambda data: named[1](cuda, data, named[0]) if data else None
    )
    return module


class OnnxParser:
    """Hands the ONNX on to the network."""

    def __init__(self, network: SimpleNamespace, logger: Any):
        self.network = network

    def parse(self, data: bytes) -> bool:
        self.network.onnx = data
        return True


class Builder:
    """Builds an engine that is the ONNX."""

    def __init__(self, logger: Any):
        pass

    def create_network(self, flags: int) -> SimpleNamespace:
        return SimpleNamespace(onnx=b"", num_layers=0)

    def create_builder_config(self) -> SimpleNamespace:
        return SimpleNamespace(
            set_flag=lambda flag: None,
            set_memory_pool_limit=lambda pool, size: None,
            add_optimization_profile=lambda profile: None,
            create_timing_cache=lambda data: SimpleNamespace(serialize=lambda: b"timings"),
            set_timing_cache=lambda cache, ignore: True,
        )

    def create_optimization_profile(self) -> SimpleNamespace:
        return SimpleNamespace(set_shape=lambda name, *shapes: None)

    def build_serialized_network(self, network: SimpleNamespace, config: Any) -> bytes:
        return bytes(network.onnx)


class _Engine:
    def __init__(self, cuda: ctypes.CDLL, data: bytes, context: Callable[[_Engine], _Context]):
        self.cuda, self._context = cuda, context
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        ends = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.names = [end.name for end in ends]
        self.shapes = {end.name: tuple(n if isinstance(n, int) else -1 for n in end.shape) for end in ends}

    def create_execution_context(self) -> _Context:
        return self._context(self)


class _Context:
    def __init__(self, engine: _Engine):
        self.engine = engine
        fixed = engine.shapes[engine.names[0]]
        self.image: tuple[int, ...] | None = None if -1 in fixed else fixed
        self._runs: list[Any] = []  # what the stream may still call

    def shape_of(self, name: str) -> tuple[int, ...]:
        if name == self.engine.names[0]:
            return self.image or self.engine.shapes[name]
        assert self.image is not None
        return (self.image[0], *self.engine.shapes[name][1:])

    def set_image(self, shape: Sequence[int]) -> bool:
        fits = 1 <= shape[0] <= LARGEST
        self.image = tuple(shape) if fits else self.image
        return fits

    def queue(self, addresses: Sequence[int], stream: int) -> bool:
        """Compute from and to ``addresses``, in the order of the names, when the stream comes to it."""
        arrays = [
            np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)
            for address, shape in zip(addresses, map(self.shape_of, self.engine.names), strict=True)
        ]

        def compute(ticket: int) -> None:
            found = self.engine.session.run(None, {self.engine.names[0]: arrays[0]})
            for array, values in zip(arrays[1:], found, strict=True):
                array[...] = values

        call = ctypes.CFUNCTYPE(None, ctypes.c_long)(compute)
        self._runs.append(call)
        return bool(self.engine.cuda.standInRun(ctypes.c_void_p(stream), call, ctypes.c_long(0)) == 0)


class NamedEngine(_Engine):
    """As from TensorRT 8.5 on."""

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, place: int) -> str:
        return self.names[place]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == self.names[0] else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return FLOAT


class NamedContext(_Context):
    """As from TensorRT 8.5 on."""

    addresses: dict[str, int]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape_of(name)

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        return self.set_image(shape)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses = {**getattr(self, "addresses", {}), name: address}

    def execute_async_v3(self, stream: int) -> bool:
        return self.queue([self.addresses[name] for name in self.engine.names], stream)


class IndexedEngine(_Engine):
    """As up to TensorRT 8.4."""

    @property
    def num_bindings(self) -> int:
        return len(self.names)

    def get_binding_name(self, place: int) -> str:
        return self.names[place]

    def get_binding_index(self, name: str) -> int:
        return self.names.index(name)

    def binding_is_input(self, name: str) -> bool:
        return name == self.names[0]

    def get_binding_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_binding_dtype(self, name: str) -> str:
        return FLOAT


class IndexedContext(_Context):
    """As up to TensorRT 8.4."""

    def get_binding_shape(self, place: int) -> tuple[int, ...]:
        return self.shape_of(self.engine.names[place])

    def set_binding_shape(self, place: int, shape: Sequence[int]) -> bool:
        assert place == 0
        return self.set_image(shape)

    def execute_async_v2(self, bindings: Sequence[int], stream: int) -> bool:
        return self.queue(bindings, stream)
