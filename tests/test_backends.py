"""What of a runtime computes: ONNX Runtime's providers, LiteRT's delegates."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cells import SIZE, onnx_bundle, write_manifest
from needs import needed
from small_litert import Tensor, litert_file

from slimalign.runtimes.bundle import Bundle
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.litert_session import LiteRtSession
from slimalign.runtimes.onnxruntime_session import OnnxRuntimeSession
from slimalign.runtimes.session import Backend

SHAPE = (1, SIZE, SIZE, 3)
IMAGE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def absolute(tmp_path: Path) -> Bundle:
    """A .tflite file that gives the size of each value."""
    (tmp_path / "model.tflite").write_bytes(litert_file("ABS", [Tensor(SHAPE)], [Tensor(SHAPE)]))
    return write_manifest(tmp_path, "model.tflite", format="litert", layout="NHWC")


def operators(session: LiteRtSession) -> list[str]:
    return [detail["op_name"] for detail in session._interpreter._get_ops_details()]


def test_litert_runs_in_plain_kernels_where_that_is_asked_for(absolute: Bundle) -> None:
    with LiteRtSession(absolute, 1, Backend(delegate="none")) as session:
        assert np.array_equal(session.run(IMAGE), np.abs(IMAGE))
        assert operators(session) == ["ABS"]
        assert session.runtime == "litert-none"
    with LiteRtSession(absolute, 1) as session:
        session.run(IMAGE)
        assert "DELEGATE" in operators(session)
        assert (session.runtime, session.version.split()[0]) == ("litert", "ai_edge_litert")


@pytest.fixture(scope="module")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = needed("gcc", "apt-get install gcc")
    library = tmp_path_factory.mktemp("delegate") / "libstandin.so"
    source = Path(__file__).with_name("stand_in_delegate.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
    return library


def test_litert_takes_an_external_delegate_with_its_options(absolute: Bundle, delegate: Path) -> None:
    before = ctypes.CDLL(str(delegate)).standInPrepared()
    with LiteRtSession(absolute, 1, Backend(delegate=f"{delegate},backend=htp")) as session:
        assert np.array_equal(session.run(IMAGE), np.abs(IMAGE))
        assert session.runtime == "litert-libstandin,backend=htp"
    assert ctypes.CDLL(str(delegate)).standInPrepared() > before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ",backend=gpu",
            "libstandin.so cannot be loaded .*no such backend.*; give the path of a LiteRT delegate",
        ),
        (",htp", "give its options as name=value, as in libdelegate.so,backend=htp"),
    ],
)
def test_an_external_delegate_that_refuses_is_told(
    absolute: Bundle, delegate: Path, given: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        LiteRtSession(absolute, 1, Backend(delegate=f"{delegate}{given}"))


@pytest.mark.parametrize("name", ["gpu", "nowhere/libdelegate.so"])
def test_a_delegate_that_is_not_here_is_named(absolute: Bundle, name: str) -> None:
    with pytest.raises(UserError, match=f"delegate {name}: .*delegate.so cannot be loaded"):
        LiteRtSession(absolute, 1, Backend(delegate=name))


def test_onnx_runtime_names_the_providers_that_it_has(tmp_path: Path) -> None:
    made = onnx_bundle(tmp_path)
    with pytest.raises(UserError, match=r"provider rocket: ONNX Runtime .* here has .*cpu.*; choose one of"):
        OnnxRuntimeSession(made, 1, Backend(provider="rocket"))
    with OnnxRuntimeSession(made, 1, Backend(provider="CPU")) as session:
        assert session.runtime == "onnxruntime"
