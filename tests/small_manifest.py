"""The manifest of a small AFLW network's files."""

from __future__ import annotations

from pathlib import Path

from slimalign.runtimes.bundle import Manifest, file_sha256


def small_manifest(folder: Path, files: tuple[str, ...], kind: str, input_size: int) -> Manifest:
    """For the ``files`` in ``folder``, the model first, of format ``kind``."""
    return Manifest(
        name="small",
        model=files[0],
        format=kind,
        precision="fp32",
        input_size=input_size,
        box_scale=1.25,
        layout="NCHW",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scheme="aflw-19",
        decoder="local-softmax",
        stride=4,
        batch=None,
        files={name: file_sha256(folder / name) for name in files},
    )
