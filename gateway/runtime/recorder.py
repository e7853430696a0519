"""Writes entries and folds them, in the order of their indices, into the one state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.state import State
from gateway.ports import Journal


class Recorder:
    """The only way the running gateway changes its state."""

    def __init__(self, journal: Journal, state: State) -> None:
        self.state = state
        self.listeners: list[Callable[[int, Mapping[str, Any]], None]] = []
        self._journal = journal
        self._early: dict[int, Mapping[str, Any]] = {}
        self._writing: set[asyncio.Future[int]] = set()
        self._folded = asyncio.Condition()

    async def record(self, kind: str, **fields: Any) -> int:
        """Append one entry; return its index once it is durable and folded.

        A caller that is cancelled meanwhile does not take the entry with it: what may be on disk
        is folded, or the state would wait for ever for the index that is missing.
        """
        writing = asyncio.ensure_future(self._write(kind, fields))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return await asyncio.shield(writing)

    async def settled(self) -> None:
        """Return once every entry under way is folded, those of cancelled callers included."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write(self, kind: str, fields: Mapping[str, Any]) -> int:
        index, entry = await self._journal.append(kind, fields)
        async with self._folded:
            self._early[index] = entry
            while self.state.size in self._early:
                size = self.state.size
                folded = self._early.pop(size)
                self.state.fold(size, folded)
                for listener in self.listeners:
                    listener(size, folded)
            self._folded.notify_all()
            await self._folded.wait_for(lambda: self.state.size > index)
        return index
