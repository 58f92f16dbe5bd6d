"""Small ONNX graphs: one or two convolutions, plain or with Q and DQ, and what a test puts around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 16, 8
IMAGE = ("n", CHANNELS, SIDE, SIDE)


@dataclass
class Graph:
    """Operators and constants as they come; ``image`` (n, 16, 8, 8) goes in, ``out`` comes out."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, kind: str, taken: Sequence[str], given: str, name: str, **attributes: Any) -> Graph:
        """One operator more."""
        self.nodes.append(helper.make_node(kind, list(taken), [given], name=name, **attributes))
        return self

    def hold(self, **constants: Any) -> Graph:
        """Constants more, by name."""
        self.constants |= {name: np.asarray(values) for name, values in constants.items()}
        return self

    def convolve(self, taken: str, given: str, name: str, weights: str = "", **attributes: Any) -> Graph:
        """A 3x3 convolution from 16 to 16 channels with a bias, its weights its own unless ``weights`` are named."""
        if not weights:
            weights = f"{name}.w"
            shape = (CHANNELS, CHANNELS // attributes.get("group", 1), 3, 3)
            self.hold(**{weights: np.ones(shape, dtype=np.float32)})
        self.hold(**{f"{name}.b": np.zeros(CHANNELS, dtype=np.float32)})
        return self.add("Conv", [taken, weights, f"{name}.b"], given, name, pads=[1, 1, 1, 1], **attributes)

    def pair(
        self,
        taken: str,
        given: str,
        name: str,
        scale: Any = 0.1,
        zero: Any = 0,
        dtype: Any = np.int8,
        **attributes: Any,
    ) -> Graph:
        """A Q and a DQ, ``<name>.Q`` and ``<name>.DQ``."""
        scales = np.asarray(scale, dtype=np.float32)
        zeros = np.broadcast_to(np.asarray(zero, dtype=dtype), scales.shape)
        self.hold(**{f"{name}.s": scales, f"{name}.z": zeros})
        parts = [f"{name}.s", f"{name}.z"]
        self.add("QuantizeLinear", [taken, *parts], f"{name}.q", f"{name}.Q", **attributes)
        return self.add("DequantizeLinear", [f"{name}.q", *parts], given, f"{name}.DQ", **attributes)

    def quantised(
        self, taken: str, given: str, name: str, shape: Sequence[int] = (), **attributes: Any
    ) -> Graph:
        """A convolution that takes its input and its weights, of ``shape``, quantised by the rules."""
        size = tuple(shape) or (CHANNELS, CHANNELS // attributes.get("group", 1), 3, 3)
        self.hold(**{f"{name}.w": np.ones(size, dtype=np.float32)})
        self.pair(taken, f"{name}.x", f"{name}.in")
        self.pair(f"{name}.w", f"{name}.wdq", f"{name}.weights", scale=np.full(size[0], 0.1), axis=0)
        self.hold(**{f"{name}.b": np.zeros(size[0], dtype=np.float32)})
        pads = [side // 2 for side in size[2:]] * 2
        taken_ones = [f"{name}.x", f"{name}.wdq", f"{name}.b"]
        return self.add("Conv", taken_ones, given, name, pads=pads, **attributes)

    def model(
        self,
        opset: int = 17,
        out: str = "out",
        image: Sequence[Any] = IMAGE,
        more: Mapping[str, Any] | None = None,
        given: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """The whole model; ``more`` are inputs beside the image, as name and value info."""
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image)), *(more or {}).values()],
            [helper.make_tensor_value_info(out, given, None)],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        domains = {node.domain for node in self.nodes} | {""}
        opsets = [helper.make_opsetid(domain, opset if domain == "" else 1) for domain in sorted(domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)
