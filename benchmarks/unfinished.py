"""A sweep on this machine that goes on after a break: what it has found is in a file until it is in a safe place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

from slimalign.runtimes.errors import UserError
from slimalign.runtimes.files import cannot_be_written
from slimalign.runtimes.journal import END, Entry, Journal, ended

if sys.platform != "win32":
    import fcntl

VISIT = "visit"
Entries = Callable[[Sequence[Entry]], Iterator[Entry]]
"""Gives the entries that are not yet among those that are kept."""


@contextmanager
def gone_on_with(
    path: Path | None, note: Callable[[str], None], entries: Entries
) -> Iterator[tuple[Sequence[Entry], Iterator[Entry]]]:
    """The entries in the file ``path``, and then all others, each kept there as soon as it comes.

    The file, which may be missing, is removed when the body has ended without an error, or with a UserError before
    there was a visit to be kept. With ``path`` None nothing is kept. Raises UserError where another process is at the
    same, or the file cannot be written.
    """
    if path is None:
        yield (), entries(())
        return
    with closing(_held(path)) as journal:
        kept, told = journal.take_up()
        if told is not None:
            note(told)
        try:
            yield kept, _keeping(journal, kept, entries, path)
        except UserError:
            if not any(entry["kind"] == VISIT for entry in journal.entries()):
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


def _keeping(journal: Journal, kept: Sequence[Entry], entries: Entries, path: Path) -> Iterator[Entry]:
    if ended(kept):
        return
    for entry in chain(entries(kept), [END]):
        try:
            journal.keep(entry)
        except OSError as error:
            raise UserError(f"{path}: {cannot_be_written(error)}; the same command goes on") from None
        yield entry


def _held(path: Path) -> Journal:
    try:
        journal = Journal(str(path))
    except OSError as error:
        raise UserError(f"{path}: {cannot_be_written(error)}") from None
    if sys.platform != "win32":
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.close()
            raise UserError(f"{path}: another process measures the same now; wait for its end") from None
        except OSError:  # a file system that knows no locks
            return journal
    return journal
