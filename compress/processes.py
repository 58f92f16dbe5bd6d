"""Several processes that train together: where one fails, all do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from slimalign.runtimes.errors import UserError


@contextmanager
def failing_together(fabric: Fabric) -> Iterator[None]:
    """A body whose UserError in one process is raised in all of them, once each has left it.

    Otherwise the others would go on without it, and end with a trace of their lost connection.
    """
    error: UserError | None = None
    try:
        yield
    except UserError as raised:
        error = raised
    if fabric.world_size > 1:
        errors: list[UserError | None] = [None] * fabric.world_size
        torch.distributed.all_gather_object(errors, error)
        error = next((one for one in errors if one is not None), None)
    if error is not None:
        raise error
