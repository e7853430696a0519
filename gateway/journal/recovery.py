"""The start after any end: the state is the fold of the ledger, behind a snapshot if one holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from gateway.core.kept_mode import was_stopped
from gateway.core.state import Site, State
from gateway.journal.snapshot import Indexed, Memory, Shelf, Snapshot
from gateway.model.errors import ConfigError
from gateway.model.terminal import Terminal

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
    state.clean = tail.last is None or was_stopped(tail.last)
    log.info("recovered %d entries, %d of them folded now", state.size, tail.folded_count)
    return state, tail.memory.entries()


def check_open_work(state: State, remembered: Iterable[Indexed]) -> None:
    """Refuse a ledger with open work of another site, SOP or region: it would be done here.

    Raises:
        ConfigError: the last run was another's, or a terminal was of another region or at another
            place of the station, and not all intervals are reported.
    """
    here = (state.site.site, state.site.sop.id)
    last = [(e["site"], e["sop"]) for _, e in remembered if e["kind"] == "boot"]
    held_w = state.active.setpoints if state.active else {}
    moves = state.active is not None and state.active.moves_power
    if last and last[-1] != here and (state.schedule or state.plans or state.open_intents or moves):
        was, now = (f"{sop} of site {site}" for site, sop in (last[-1], here))
        raise ConfigError(
            f"the ledger has open intervals or instructions of {was}: run that until all are "
            f"reported, or give {now} a ledger of its own"
        )
    legs = [leg for row in state.schedule.values() for leg in row.values()]
    legs += [p.leg for plan in state.plans.values() for p in plan.planned]
    ends = {t for leg in legs for t in (leg.out_terminal, leg.in_terminal)}
    ends |= {t for t, p_w in held_w.items() if p_w}
    for t in state.site.sop.terminals:
        if t.id in ends and t.id in state.places:
            _check_place(t, *state.places[t.id], separate=state.site.separate)


def _check_place(terminal: Terminal, domain: str, index: int, *, separate: bool) -> None:
    """Refuse a terminal with open work that was another one when that was taken on."""
    if terminal.domain != domain:
        raise ConfigError(
            f"{terminal.id} is {terminal.domain} and was {domain}, for which trades are open in "
            "the ledger: they would run between other regions; change it when they are over"
        )
    if terminal.index != index and not separate:
        raise ConfigError(
            f"{terminal.id} is number {terminal.index} at the station and was {index}, and work is "
            f"open for it in the ledger: give it `index: {index}`, or change it when that is over"
        )


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
