"""What a test needs of the machine: without it the test is skipped here, and fails where everything must be there."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

EVERYTHING = "SLIMALIGN_CI"
"""An environment variable: .ci/run sets it, having installed all that tests need."""
ADMIN_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"
"""Not every user has them on the path."""


def needed(program: str, mend: str) -> str:
    """The path of ``program``; without it the test that asks is skipped with ``mend``, or fails in CI."""
    path = shutil.which(program) or shutil.which(program, path=ADMIN_FOLDERS)
    return path if path is not None else lacking(f"{program} is not installed; {mend}")


def lacking(reason: str) -> NoReturn:
    """Skip this test for ``reason``; in CI, where nothing may be lacking, fail it."""
    if os.environ.get(EVERYTHING):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
