"""Root at work in a ledger that belongs to somebody else makes nothing he cannot replace."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = 0


def owner_of(directory: Path) -> tuple[int, int] | None:
    """Return whose a directory, or the one it is made in, is; None where that is nobody but us.

    A link on the way counts for whoever put it there: it leads nowhere he could not go himself.
    """
    if os.geteuid() != ROOT:
        return None
    way = (directory, *directory.absolute().parents)
    links = (p.lstat() for p in way if p.is_symlink())
    there = next(p for p in way if p.exists())
    for found in (*links, there.stat()):
        if found.st_uid != ROOT:
            return found.st_uid, found.st_gid
    return None


def adopt(descriptor: int, directory: Path) -> None:
    """Give a file just made in a directory to whoever owns that, where root made it.

    For files that come while other work goes on as root: the file must have been opened so that
    no link was followed.
    """
    owner = owner_of(directory)
    if owner is not None:
        os.fchown(descriptor, *owner)


@contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Work as whoever owns a directory (or the one it is made in), where we are root and he is not.

    Files that root leaves there, such as a tile or the lock, would stop the service later. It also
    means that a link somebody planted there leads root nowhere he could not go himself.
    """
    owner = owner_of(directory)
    if owner is None:
        yield
        return
    group = os.getegid()
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(group)
