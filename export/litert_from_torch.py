"""LiteRT (.tflite) in float32 from a PyTorch network; run as a module it is the process that converts.

The converter brings a second machine-learning framework with it, hundreds of megabytes, loggers and
warnings. It gets a process of its own, which reads the network from files and ends with its memory.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.torch_files import read_network, write_network
from slimalign.export.decoding import Decoding, InGraphDecoder
from slimalign.export.fold import folded
from slimalign.export.litert_graph import read_litert_graph
from slimalign.runtimes.errors import UserError

KILLED = -9


def write_litert(
    network: nn.Module, input_size: int, path: Path, decoder: str | None = None, batch: int = 1
) -> None:
    """Write ``network`` as a .tflite file: (N, S, S, 3) -> (N, H, W, K), channels last, N being ``batch``.

    With the name of a ``decoder`` it gives points (N, K, 2) and scores (N, K) instead.

    Of heatmaps the file's batch is no limit: the interpreter resizes the input, and every operation follows.
    Raises UserError where the converter is missing or fails, or the file is not as it must be: a TRANSPOSE,
    or a resize without half-pixel centres.
    """
    if importlib.util.find_spec("litert_torch") is None:
        raise UserError(f"{path}: litert-torch is not installed; run pip install 'slimalign[export]'")
    with tempfile.TemporaryDirectory() as folder:
        write_network(Path(folder), network)
        _convert_apart(Path(folder), input_size, path, decoder, batch)
    if faults := read_litert_graph(path).faults():
        raise UserError(
            f"{path}: {'; '.join(faults)}; the network's operations cannot be laid out channels last"
        )


def _convert_apart(folder: Path, input_size: int, path: Path, decoder: str | None, batch: int) -> None:
    command = [sys.executable, "-m", __name__, str(folder), str(input_size), str(batch), str(path)]
    command += [] if decoder is None else [decoder]
    # The second framework needs no accelerator to trace a graph, and would search for one.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode == KILLED:
        raise UserError(
            f"{path}: the converter was killed, perhaps for want of memory; it needs about 1 GB free"
        )
    if done.returncode != 0 or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise UserError(
            f"{path}: litert-torch could not convert the network ({reason}); export it as ONNX instead"
        )


def convert(folder: Path, input_size: int, batch: int, path: Path, decoder: str | None = None) -> None:
    """Convert the network in ``folder`` in this process."""
    import litert_torch

    network = folded(read_network(folder))
    if decoder is None:
        whole = litert_torch.to_channel_last_io(network, args=[0], outputs=[0])
    else:
        inside = InGraphDecoder(decoder, input_size // STRIDE, STRIDE, channels_last=True)
        whole = litert_torch.to_channel_last_io(Decoding(network, inside), args=[0])
    litert_torch.convert(whole.eval(), (torch.zeros(batch, input_size, input_size, 3),)).export(str(path))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), *sys.argv[5:])
