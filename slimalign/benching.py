"""What is asked of bench, and what its records say of the faces."""

from __future__ import annotations

from collections.abc import Sequence

from slimalign.compress.data.sample import Sample, fingerprint_of
from slimalign.runtimes.errors import UserError
from slimalign.runtimes.sweep import FACES
from slimalign.runtimes.timing import DRAFT, REFERENCE, Protocol, sustained

DRAWN = "drawn"
"""What records say of faces that are no user's."""


def inputs_told(data_format: str, split: str, samples: Sequence[Sample]) -> str:
    """What records say of the faces that come from a split."""
    return f"{data_format} {split}, {min(len(samples), FACES)} faces, {fingerprint_of(samples)[:12]}"


def protocol_of(reference: bool, minutes: float | None) -> Protocol:
    """The protocol that is asked for: a sustained one where there are ``minutes``."""
    if minutes is None:
        return REFERENCE if reference else DRAFT
    if reference:
        raise UserError("--sustained and --reference are two protocols; give one of them")
    return sustained(minutes)
