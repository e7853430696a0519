"""Root at work in a ledger that belongs to somebody else makes nothing he cannot replace."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = 0


@contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Work as whoever owns a directory (or the one it is made in), where we are root and he is not.

    Files that root leaves there, such as a tile or the lock, would stop the service later. It also
    means that a link somebody planted there leads root nowhere he could not go himself.
    """
    there = [p for p in (directory, *directory.absolute().parents) if p.exists()]
    found = there[0].stat()
    if os.geteuid() != ROOT or found.st_uid == ROOT:
        yield
        return
    group = os.getegid()
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(group)
