"""Callers that wait for the disk: what they gave, and how they get their answer.

Whatever will be written together waits together, so that neither the event loop nor the writer
spends time on regrouping. Answers are given in the callers' own event loop, a batch at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that one event loop waits for.

    ``answers`` runs beside ``leaves``: who waits stands at the first entry that he gave. No more
    than ``count_max`` and ``bytes_max`` may join before somebody looks at what waits altogether.
    """

    bell: Bell
    loop: asyncio.AbstractEventLoop
    urgent: bool
    count_max: int = 0
    bytes_max: int = 0
    leaves: list[bytes] = field(default_factory=list)
    answers: list[asyncio.Future[int] | None] = field(default_factory=list)
    held_bytes: int = 0

    def resolve(self, first: int) -> None:
        """In the loop: tell the callers their indexes; the first entry got ``first``."""
        for index, answer in enumerate(self.answers, first):
            if answer is not None and not answer.done():
                answer.set_result(index)

    def fail(self, error: Exception) -> None:
        """In the loop: tell the callers that their entries are not in the ledger."""
        for answer in self.answers:
            if answer is not None and not answer.done():
                answer.set_exception(error)


class Bell:
    """Calls one event loop to the batches that are decided; lives in the loop's own thread.

    A descriptor of its own instead of ``call_soon_threadsafe``: a sleeping loop is woken with one
    call and reads it with one, where its common pipe costs it three and an exception.
    """

    __slots__ = ("_decided", "_descriptor", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._decided: deque[tuple[Batch, int | Exception]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._descriptor, self._answer)

    def ring(self, batch: Batch, outcome: int | Exception) -> None:
        """From any thread: the batch has its first index, or was refused."""
        self._decided.append((batch, outcome))
        os.eventfd_write(self._descriptor, 1)

    def _answer(self) -> None:
        os.eventfd_read(self._descriptor)
        self._tell()

    def _tell(self) -> None:
        decided = self._decided
        while decided:
            batch, outcome = decided.popleft()
            if isinstance(outcome, int):
                batch.resolve(outcome)
            else:
                batch.fail(outcome)

    def put_away(self) -> None:
        """From any thread, after the last ring: answer what is left and let go of the loop."""
        try:
            self._loop.call_soon_threadsafe(self._let_go)
        except RuntimeError:  # the loop is closed, nobody waits there any more
            os.close(self._descriptor)

    def _let_go(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._tell()
        os.close(self._descriptor)
