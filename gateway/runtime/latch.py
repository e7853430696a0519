"""A stop that found no gateway to tell: it waits as a file in the state folder until one takes it.

``sopgw stop`` leaves it once it has told the station itself, for the station alone keeps nothing:
whoever starts next, or runs already behind a socket that did not answer, would command again. The
gateway takes it at its start and once a second as a stop by that person: an entry of the ledger,
zero, and no power until somebody arms. Then the file goes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.model.errors import JournalError
from gateway.ports import Clock

log = logging.getLogger(__name__)

FILE = "stopped.json"
LOOK_US = 1_000_000  # real time between two looks: a scan's usual pace
CONTENT_BYTES_MAX = 4096  # one line is under 100
_USER = re.compile(r"uid:\d{1,10}")


def leave(path: Path, *, user: str) -> None:
    """Leave a stop at ``path``, durably; OSError where one may not write there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps({"user": user, "what": "sopgw stop"}) + "\n")
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)  # the gateway may run as somebody else
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class StopLatch:
    """Takes a stop that was left, as often as one is left."""

    def __init__(
        self, path: Path, *, stop: Callable[[str], Awaitable[object]], clock: Clock
    ) -> None:
        """Look at ``path``; ``stop`` carries out and records the stop of a person."""
        self._path = path
        self._stop = stop
        self._clock = clock
        self._taken: tuple[int, int] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.take()
            await self._clock.sleep_until(self._clock.mono_us() + self._clock.at_least(LOOK_US))

    async def take(self) -> None:
        """Carry out the stop that waits, if one does; its file goes once the entry is durable."""
        found = self._there()
        if found is None or found == self._taken:
            return
        user = self._user()
        log.warning("a stop was left while no gateway answered: taken, power again once armed")
        try:
            await self._stop(user)
        except JournalError:
            raise  # it may not stand in the ledger: it is taken again at the next start
        except Exception:  # a driver's defect: it is in the ledger, and again would be without end
            self._gone(found)
            raise
        self._gone(found)

    def _gone(self, found: tuple[int, int]) -> None:
        """Take the file away that was carried out."""
        self._taken = found
        if self._there() != found:  # another one meanwhile, after which somebody may have armed
            return
        try:
            self._path.unlink()
        except OSError as error:
            log.warning("%s: %s; the next start is stopped again", self._path, error)

    def _there(self) -> tuple[int, int] | None:
        """Tell one file from another that replaced it; None where none is."""
        try:
            status = self._path.lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _user(self) -> str:
        """Name who stopped; where the file does not say it, whose file it is."""
        try:
            with self._path.open("rb") as stream:
                said = json.loads(stream.read(CONTENT_BYTES_MAX))["user"]
            if isinstance(said, str) and _USER.fullmatch(said):
                return said
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s: %s", self._path, error)
        try:
            return f"uid:{self._path.lstat().st_uid}"
        except OSError:
            return f"uid:{os.getuid()}"
