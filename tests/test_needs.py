"""Tests that need a program of the machine: skipped without it, and failed in CI, where it must be there."""

from __future__ import annotations

import pytest
from needs import EVERYTHING, needed


def test_a_program_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVERYTHING, "1")
    assert needed("sh", "").endswith("/sh")


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_program_the_test_is_skipped_and_in_ci_failed(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv(EVERYTHING, ci)
    with pytest.raises(outcome, match="^no-such-program is not installed; apt-get install it$"):
        needed("no-such-program", "apt-get install it")
