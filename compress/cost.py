"""What a network costs: parameters and multiply-adds, whole and without its head, layer by layer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slimalign.runtimes.errors import UserError

HEAD = "head"
"""Layers below an attribute of this name are the head, which the papers leave out of their counts."""


@dataclass(frozen=True)
class LayerCost:
    """One layer: its name in the network, its kind, parameters and multiply-adds for one image."""

    name: str
    kind: str
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """A network's cost for one image; ``macs`` are multiply-adds, which the papers call FLOPs."""

    params: int
    macs: int
    params_without_head: int
    macs_without_head: int
    layers: tuple[LayerCost, ...]

    def totals(self) -> dict[str, int]:
        """The four counts by name, as bundles and ``profile`` give them."""
        return {
            "params": self.params,
            "macs": self.macs,
            "params_without_head": self.params_without_head,
            "macs_without_head": self.macs_without_head,
        }


def count(network: nn.Module, input_size: int) -> Cost:
    """Count ``network`` on one (3, input_size, input_size) image, by running it on the meta device.

    Multiply-adds are those of convolutions and matrix products. An operation that is neither known to be
    countable nor known to multiply nothing raises UserError with its name: it is never taken for zero.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    counter = _MacCounter()
    with torch.no_grad(), _names_told_to(counter, shadow), counter:
        shadow(torch.zeros(1, 3, input_size, input_size, device="meta"))
    if counter.unknown:
        raise UserError(
            f"operations whose multiply-adds are not known: {', '.join(sorted(counter.unknown))}; "
            "add a rule for each in compress/cost.py"
        )
    params = {
        name: sum(p.numel() for p in module.parameters(recurse=False)) for name, module in _modules(shadow)
    }
    layers = tuple(
        LayerCost(name, type(module).__name__, params[name], counter.macs[name])
        for name, module in _modules(shadow)
        if params[name] or counter.macs[name]
    )
    body = [layer for layer in layers if HEAD not in layer.name.split(".")]
    return Cost(
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        params_without_head=sum(layer.params for layer in body),
        macs_without_head=sum(layer.macs for layer in body),
        layers=layers,
    )


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name or "(network)", module) for name, module in network.named_modules())


@contextmanager
def _names_told_to(counter: _MacCounter, network: nn.Module) -> Iterator[None]:
    """While this lasts, the counter knows which module of the network is running."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: counter.running.append(name)

    def leave(*_: object) -> None:
        counter.running.pop()

    handles = []
    for name, module in _modules(network):
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    transposed = rest[4]
    return (x if transposed else out).numel() * weight[0].numel()


def _matrix_product(_: Tensor, a: Tensor, b: Tensor, *__: Any) -> int:
    return a.numel() * b.shape[-1]


def _biased_matrix_product(out: Tensor, _: Tensor, a: Tensor, b: Tensor, *__: Any) -> int:
    return _matrix_product(out, a, b)


aten = torch.ops.aten
RULES: dict[Any, Callable[..., int]] = {
    aten.convolution: _convolution,
    aten.mm: _matrix_product,
    aten.bmm: _matrix_product,
    aten.addmm: _biased_matrix_product,
}
"""Multiply-adds of an operation, from its output and its arguments."""

FREE = {
    aten.empty,
    aten.zeros,
    aten.add,
    aten.add_,
    aten.mul,
    aten.div,
    aten.sub,
    aten.rsub,
    aten.abs,
    aten.exp,
    aten.floor,
    aten.clamp,
    aten.maximum,
    aten.amax,
    aten.amin,
    aten.arange,
    aten.alias,
    aten.transpose,
    aten.relu,
    aten.relu_,
    aten.hardtanh,
    aten.hardtanh_,
    aten.sigmoid,
    aten._softmax,
    aten.cat,
    aten.stack,
    aten.select,
    aten.slice,
    aten.view,
    aten._unsafe_view,
    aten.t,
    aten.permute,
    aten.expand,
    aten.unsqueeze,
    aten.squeeze,
    aten.clone,
    aten.detach,
    aten.native_batch_norm,
    aten._native_batch_norm_legit_no_training,
    aten.upsample_bilinear2d,
    aten.upsample_nearest2d,
    aten.max_pool2d_with_indices,
    aten.avg_pool2d,
    aten.mean,
    aten.sum,
}
"""Elementwise work, normalisation, resampling, pooling and moves: counted as zero, as the papers do."""


class _MacCounter(TorchDispatchMode):
    """Adds up multiply-adds under the name of the module that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.running: list[str] = []
        self.macs: defaultdict[str, int] = defaultdict(int)
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in RULES:
            self.macs[self.running[-1]] += RULES[packet](out, *args)
        elif packet not in FREE:
            self.unknown.add(str(packet))
        return out
