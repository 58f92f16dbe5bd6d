"""Whole numbers as records hold them: what msgspec lets pass where it reads them back."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

LARGEST = 2**63 - 1
"""What NumPy and other readers of JSON take."""
Count = Annotated[int, Meta(ge=0, le=LARGEST)]
OneOrMore = Annotated[int, Meta(ge=1, le=LARGEST)]
