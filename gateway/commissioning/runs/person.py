"""A person at the panel, as a test sees one: is asked to do something and says when it is done."""

from __future__ import annotations

import enum
from typing import Protocol


class Answer(enum.StrEnum):
    """What the person said."""

    DONE = "done"
    SKIP = "skip"
    FAIL = "fail"
    QUIT = "quit"


class Person(Protocol):
    """Asks one thing at a time."""

    async def ask(self, what: str) -> Answer:
        """Say what to do and wait for the answer."""
        ...

    def tell(self, what: str) -> None:
        """Say what was seen."""
        ...
