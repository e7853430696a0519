"""Callers that wait for the disk: what they gave, and how they get their answer.

Whatever will be written together waits together, so that neither the event loop nor the writer
spends time on regrouping. Answers are given in the callers' own event loop, a batch at a time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that one event loop waits for.

    ``answers`` runs beside ``leaves``: who waits stands at the first entry that he gave. No more
    than ``count_max`` and ``bytes_max`` may join before somebody looks at what waits altogether.
    """

    loop: asyncio.AbstractEventLoop
    urgent: bool
    count_max: int = 0
    bytes_max: int = 0
    leaves: list[bytes] = field(default_factory=list)
    answers: list[asyncio.Future[int] | None] = field(default_factory=list)
    held_bytes: int = 0

    def settle(self, index: int) -> None:
        """Tell the callers of a durable batch their indexes; the first entry got ``index``."""
        with suppress(RuntimeError):  # the loop of callers that have gone
            self.loop.call_soon_threadsafe(self._resolve, index)

    def refuse(self, error: Exception) -> None:
        """Tell the callers that their entries are not in the ledger."""
        with suppress(RuntimeError):  # the loop of callers that have gone
            self.loop.call_soon_threadsafe(self._fail, error)

    def _resolve(self, first: int) -> None:
        for index, answer in enumerate(self.answers, first):
            if answer is not None and not answer.done():
                answer.set_result(index)

    def _fail(self, error: Exception) -> None:
        for answer in self.answers:
            if answer is not None and not answer.done():
                answer.set_exception(error)
