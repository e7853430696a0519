"""Counts starts that were not followed by an orderly end, in a file of the state folder.

A gateway that keeps dying may be dying of what it commands. After ``most`` such starts within ten
minutes it observes only, however often it is started again, until somebody arms.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.model.reason import Reason, ReasonCode
from gateway.ports import Clock

log = logging.getLogger(__name__)

FILE = "starts.json"
WITHIN_US = 600_000_000
KEPT_MAX = 1000  # instants in the file: more than any setting counts


class Starts:
    """The starts of one gateway, this one included once ``began`` was called."""

    def __init__(self, path: Path, *, most: int, clock: Clock) -> None:
        self.looping = False
        self._path = path
        self._most_count = most
        self._clock = clock
        self._instants: list[int] = []

    def began(self) -> None:
        """Note this start; find out whether there were too many."""
        now_us = self._clock.utc_us()
        kept, was_looping = self._read()
        within_us = max(WITHIN_US, self._clock.at_least(WITHIN_US))
        self._instants = [u for u in kept if 0 <= now_us - u < within_us]
        self._instants = [*self._instants, now_us][-KEPT_MAX:]
        self.looping = was_looping or len(self._instants) > self._most_count
        self._write()
        if self.looping:
            log.error("crash loop: %d starts, observing until armed", len(self._instants))

    def ended(self) -> None:
        """Note an orderly end: this start does not count."""
        self._instants = self._instants[:-1]
        self._write()

    def forgive(self) -> None:
        """Begin to count anew: somebody looked at it and armed."""
        self.looping = False
        self._instants = self._instants[-1:]
        self._write()

    def take(self, _index: int, entry: Mapping[str, Any]) -> None:
        """Listen to the ledger for the arming."""
        if self.looping and entry["kind"] == "operator" and entry["verb"] == "arm":
            self.forgive()

    def reasons(self) -> tuple[Reason, ...]:
        """Why no power may be commanded, if it may not."""
        if not self.looping:
            return ()
        detail = f"{len(self._instants)} starts without an orderly end; sopgw arm"
        return (Reason(code=ReasonCode.CRASH_LOOP, detail=detail),)

    def _read(self) -> tuple[list[int], bool]:
        """Read the file; one that is damaged counts for nothing but its own loss."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return [int(u) for u in found["starts_utc_us"]], bool(found["looping"])
        except FileNotFoundError:
            return [], False
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: %s; counting anew", self._path, error)
            return [], False

    def _write(self) -> None:
        """Replace the file; a disk that refuses costs the count, nothing else."""
        fields = {"starts_utc_us": self._instants, "looping": self.looping}
        beside = self._path.with_name(self._path.name + ".new")
        try:
            with beside.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(fields) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s: %s", self._path, error)
