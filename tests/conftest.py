"""Small networks and faces that several test files share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sshd import Sshd, running_sshd

from slimalign.compress.networks.architecture import Architecture, full_architecture
from slimalign.compress.networks.supernet import HRSuperNet

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, of a copy of what git knows: setuptools packs what earlier builds have left in build/."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    source = folder / "source"
    for name in listed.stdout.rstrip("\0").split("\0"):
        if os.path.lexists(ROOT / name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A machine to reach by ssh, which slimalign's own ssh knows."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    with running_sshd(folder) as running:
        monkeypatch.setenv("SLIMALIGN_SSH_CONFIG", str(running.config))
        yield running


@pytest.fixture
def small_architecture() -> Architecture:
    """A supernet of three levels and four stages for 19 points, quick to run."""
    return full_architecture(19, input_size=64, stem_width=12, widths=(6, 10, 14), stage_count=4, encoders=1)


@pytest.fixture
def lively_supernet(small_architecture: Architecture) -> HRSuperNet:
    """Its network with factors, biases and batch statistics as after a training, in eval mode."""
    return enlivened(HRSuperNet(small_architecture))


def enlivened(network: HRSuperNet) -> HRSuperNet:
    """Random batch statistics, affine parameters and factors, so that nothing cancels by chance.

    The heatmaps' convolution, which starts near zero, is drawn anew, or any tolerance would be wide.
    """
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=rng))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=rng))
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=rng))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=rng))
        network.factors.copy_(0.2 + torch.rand(len(network.factors), generator=rng))
        network.head.heatmaps.weight.normal_(0, 0.3, generator=rng)
    return network.eval()
