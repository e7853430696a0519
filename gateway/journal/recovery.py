"""The start after any end: the state is the fold of the ledger, behind a snapshot if one holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from gateway.core.state import Site, State
from gateway.journal.snapshot import Indexed, Memory, Shelf, Snapshot
from gateway.model.reason import ReasonCode

log = logging.getLogger(__name__)


class Entries(Protocol):
    """A ledger that can be read from any entry on; learns the number of this start."""

    boot_number: int

    def entries(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the durable entries from ``start`` on."""
        ...


def recover(
    journal: Entries, core: Site, shelf: Shelf | None = None
) -> tuple[State, list[Indexed]]:
    """Fold the ledger; return the state and the newest entries that others look back at."""
    for snapshot in shelf.newest_first() if shelf else ():
        tail = _Tail(snapshot.state, snapshot.remembered, snapshot)
        if shelf and tail.fold(journal.entries(snapshot.size)):
            shelf.used_size = snapshot.size
            break
        log.warning("snapshot of %d entries is not vouched for and not used", snapshot.size)
    else:
        tail = _Tail(State(core, bounds=core.sop), (), None)
        tail.fold(journal.entries())
    state = tail.state
    journal.boot_number = state.boot_number + 1
    state.clean = tail.last is None or _was_stopped(tail.last)
    log.info("recovered %d entries, %d of them folded now", state.size, tail.folded_count)
    return state, tail.memory.entries()


def _was_stopped(last: Mapping[str, Any]) -> bool:
    """Tell whether the last entry is the goodbye of a gateway that was asked to stop."""
    if (last["kind"], last.get("state")) != ("mode", "OFF"):
        return False
    return all(reason["code"] == ReasonCode.OPERATOR for reason in last["reasons"])


class _Tail:
    """What is folded now, behind a snapshot or from the first entry on."""

    def __init__(
        self, state: State, remembered: Iterable[Indexed], snapshot: Snapshot | None
    ) -> None:
        self.state = state
        self.memory = Memory(remembered)
        self.folded_count = 0
        self.last: dict[str, Any] | None = None
        self._snapshot = snapshot

    def fold(self, entries: Iterable[tuple[int, dict[str, Any]]]) -> bool:
        """Fold all; tell whether the ledger vouches for the snapshot they come after."""
        vouched = self._snapshot is None
        for index, entry in entries:
            # Between them entries whose bodies were removed after export: readings of long ago.
            self.state.size = max(self.state.size, index)
            self.state.fold(index, entry)
            self.folded_count += 1
            self.last = entry
            self.memory.take(index, entry)
            if entry["kind"] == "snapshot" and self._snapshot is not None:
                named = (entry["size"], entry["sha256"])
                vouched = vouched or named == (self._snapshot.size, self._snapshot.sha256)
        return vouched
