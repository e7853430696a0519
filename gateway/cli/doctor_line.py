"""One line of ``sopgw doctor``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing looked at."""

    id: str  # ``host.disk``: usable alone on the command line
    status: str
    text: str
    fix: str = ""  # what to type, or do; empty when there is nothing to mend
    mend: Callable[[], None] | None = None  # what --fix does, where that is safe

    @property
    def group(self) -> str:
        """The part before the dot."""
        return self.id.partition(".")[0]
