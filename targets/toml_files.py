"""Reading TOML files, with mistakes in them told in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from slimalign.runtimes.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path, what: str = "a device profile") -> dict[str, Any]:
    """The entries of the file ``path``, ``what`` is wanted; raises UserError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give {what}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give {what}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
