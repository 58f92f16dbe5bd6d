"""Writing files so that a kill or a full disk leaves the old ones whole."""

from __future__ import annotations

import os
from pathlib import Path

from slimalign.runtimes.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` beside ``path``, then rename it there; raises UserError where that cannot be done."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some space or mend its rights"
        ) from None
