"""Bundles of untrained networks, for latency alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimalign.export.untrained import write_untrained
from slimalign.runtimes.errors import UserError


def test_an_untrained_bundle_is_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    (bundle,) = write_untrained(tmp_path, "sd-hrnet-300w", 64, ["onnx"])
    assert (bundle.folder.name, bundle.manifest.input_size) == ("untrained-onnx", 64)
    assert bundle.manifest.landmark_scheme.count == 68


def test_a_network_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="network 'hrnet-w18': give the supernet, a student"):
        write_untrained(tmp_path, "hrnet-w18", 64, ["onnx"])
