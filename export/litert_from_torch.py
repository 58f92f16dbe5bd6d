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
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from slimalign.compress.networks.architecture import STRIDE
from slimalign.compress.networks.cascade import Cascade
from slimalign.compress.networks.decoding import Decoding, InGraphDecoder
from slimalign.compress.torch_files import read_network, write_network
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
    write_litert_files({path: network}, input_size, decoder, batch)


def write_litert_files(
    networks: Mapping[Path, nn.Module], input_size: int, decoder: str | None = None, batch: int = 1
) -> None:
    """Write each of ``networks`` to its path, as ``write_litert`` does, all by one process."""
    first = next(iter(networks))
    if importlib.util.find_spec("litert_torch") is None:
        raise UserError(f"{first}: litert-torch is not installed; run pip install 'slimalign[export]'")
    with tempfile.TemporaryDirectory() as folder:
        folders = {path: Path(folder) / str(place) for place, path in enumerate(networks)}
        for path, network in networks.items():
            folders[path].mkdir()
            write_network(folders[path], network)
        _convert_apart(folders, input_size, decoder, batch)
    for path, network in networks.items():
        region = network.shape.regression.side if isinstance(network, Cascade) else None
        if faults := read_litert_graph(path).faults(region):
            raise UserError(
                f"{path}: {'; '.join(faults)}; the network's operations cannot be laid out channels last"
            )


def _convert_apart(folders: Mapping[Path, Path], input_size: int, decoder: str | None, batch: int) -> None:
    """Convert the networks in ``folders``, which are by the paths of their files."""
    command = [sys.executable, "-m", __name__, str(input_size), str(batch), decoder or ""]
    command += [str(place) for path, folder in folders.items() for place in (folder, path)]
    # The second framework needs no accelerator to trace a graph, and would search for one.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    unmade = next((path for path in folders if not path.is_file()), next(iter(folders)))
    if done.returncode == KILLED:
        raise UserError(
            f"{unmade}: the converter was killed, perhaps for want of memory; it needs about 1 GB free"
        )
    if done.returncode != 0 or not unmade.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise UserError(
            f"{unmade}: litert-torch could not convert the network ({reason}); export it as ONNX instead"
        )


def convert(folder: Path, input_size: int, batch: int, path: Path, decoder: str | None = None) -> None:
    """Convert the network in ``folder`` in this process."""
    import litert_torch

    network = folded(read_network(folder))
    if isinstance(network, Cascade):
        network.decoder = network.decoder_of(channels_last=True)
        whole = litert_torch.to_channel_last_io(network, args=[0])
    elif decoder is None:
        whole = litert_torch.to_channel_last_io(network, args=[0], outputs=[0])
    else:
        inside = InGraphDecoder(decoder, input_size // STRIDE, STRIDE, channels_last=True)
        whole = litert_torch.to_channel_last_io(Decoding(network, inside), args=[0])
    litert_torch.convert(whole.eval(), (torch.zeros(batch, input_size, input_size, 3),)).export(str(path))


def main(arguments: Sequence[str]) -> None:
    """Convert networks: ``arguments`` are input size, batch and decoder, then a folder and a path of each."""
    input_size, batch, decoder, *places = arguments
    for folder, path in zip(places[::2], places[1::2], strict=True):
        convert(Path(folder), int(input_size), int(batch), Path(path), decoder or None)


if __name__ == "__main__":
    main(sys.argv[1:])
