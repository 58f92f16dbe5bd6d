"""How the programs of this folder end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from slimalign.runtimes.errors import UserError


def run_main(main: Callable[[], int | None]) -> None:
    """Run ``main`` and exit with its status; a mistake in what the user gave ends with one line and its own."""
    try:
        status = main()
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        status = error.status
    sys.exit(status)
