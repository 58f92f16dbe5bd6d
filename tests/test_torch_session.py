"""Networks as files, and bundles of format torch in PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_manifest import small_manifest
from torch import nn

from slimalign.benchmarks.opening import open_bundle
from slimalign.compress.networks.hrnet import HRNet
from slimalign.compress.networks.supernet import HRSuperNet
from slimalign.compress.torch_files import read_network, write_network
from slimalign.compress.torch_session import TorchSession
from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError

SIZE = 64


def bundle_of(folder: Path, network: nn.Module) -> Bundle:
    files = write_network(folder, network)
    return Bundle(folder, small_manifest(folder, files, "torch", SIZE))


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_session_gives_the_networks_heatmaps(
    batch: int, lively_supernet: HRSuperNet, tmp_path: Path
) -> None:
    with torch.inference_mode():
        expected = lively_supernet(images(batch)).numpy()
    with open_bundle(bundle_of(tmp_path, lively_supernet), threads=1) as session:
        assert (session.runtime, session.threads) == ("pytorch", 1)
        found = session.run(images(batch).numpy())
        session.run(np.zeros((batch, 3, SIZE, SIZE), dtype=np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_the_session_takes_arrays_that_must_not_be_written_to(
    lively_supernet: HRSuperNet, tmp_path: Path
) -> None:
    inputs = images(1).numpy()
    inputs.flags.writeable = False
    with TorchSession(bundle_of(tmp_path, lively_supernet), threads=1) as session:
        assert session.run(inputs).shape == (1, 19, 16, 16)


def test_sessions_take_turns_with_their_own_threads(lively_supernet: HRSuperNet, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, lively_supernet)
    with TorchSession(bundle, threads=1) as one, TorchSession(bundle, threads=2) as two:
        for session in (two, one, two):
            session.run(images(1).numpy())
            assert torch.get_num_threads() == session.threads
    assert torch.get_num_threads() == 1


def test_a_network_comes_back_from_its_files(lively_supernet: HRSuperNet, tmp_path: Path) -> None:
    teacher = HRNet(19, width=2)
    for name, network, beside in (
        ("student", lively_supernet, "architecture.json"),
        ("teacher", teacher, "hrnet.json"),
    ):
        assert write_network(tmp_path / name, network.train()) == ("weights.safetensors", beside)
        again = read_network(tmp_path / name)
        assert type(again) is type(network)
        assert not again.training
        with torch.inference_mode():
            assert torch.equal(again(images(1)), network.eval()(images(1)))


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="class Conv2d cannot be written as files"):
        write_network(tmp_path, nn.Conv2d(3, 19, 1))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_missing_or_do_not_fit_are_named(lively_supernet: HRSuperNet, tmp_path: Path) -> None:
    write_network(tmp_path / "student", lively_supernet)
    write_network(tmp_path / "teacher", HRNet(19, width=2))
    with pytest.raises(UserError, match=r"holds none of architecture\.json, cascade\.json and hrnet\.json"):
        read_network(tmp_path)
    (tmp_path / "teacher" / "hrnet.json").write_text('{"landmarks": 19, "width": -1}')
    with pytest.raises(UserError, match=r"hrnet\.json: .*greater than 0"):
        read_network(tmp_path / "teacher")
    (tmp_path / "teacher" / "hrnet.json").write_text('{"landmarks": 19, "width": 3}')
    with pytest.raises(UserError, match=r"weights\.safetensors: not the weights of this network"):
        read_network(tmp_path / "teacher")
    (tmp_path / "student" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: no such file"):
        read_network(tmp_path / "student")


def test_opening_needs_no_pytorch_until_a_torch_bundle_is_opened() -> None:
    script = "import sys, slimalign.benchmarks.opening; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
