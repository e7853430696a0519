"""Room on the disk: allocated before anything is written, a reserve kept for a safe stop."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ledger.log.owner import adopt

RESERVE = "reserve"
RESERVE_BYTES = 8 << 20
"""Released for entries marked urgent when the disk is full: room for thousands of them."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class LedgerFull(Exception):  # noqa: N818 - a state of the ledger, in its own word
    """Not taken, nothing written: the queue or the disk is full. May be tried again later."""


def allocate(directory: Path, work: Callable[[], None], *, urgent: bool) -> None:
    """Do what allocates; when the disk is full, let urgent entries have the reserve."""
    try:
        work()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        if not urgent:
            raise LedgerFull(f"no room on disk: {error.strerror}") from error
    else:
        return
    (directory / RESERVE).unlink(missing_ok=True)
    try:
        work()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise LedgerFull(f"no room on disk, reserve used: {error.strerror}") from error


def keep(directory: Path) -> None:
    """Hold the reserve again as soon as the disk allows it."""
    path = directory / RESERVE
    if path.exists():
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            adopt(descriptor, directory)
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
