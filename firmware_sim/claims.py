"""Which orders hold a fault in force: the latest that still lasts decides, then the one before it.

A short fault must never end a longer one, and what was there before comes back only when nobody
holds the fault any more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

Undo = Callable[[], None]


class Claims:
    """What is held on a device, by key; each key stands for one thing that can be changed."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held] = {}

    def hold(self, key: Hashable, value: Any, *, rest: Any, put: Callable[[Any], object]) -> Undo:
        """Put a value in force and return what takes this one order back.

        ``rest`` is what comes back when no order holds the key; only the first order's counts.
        """
        held = self._held.setdefault(key, _Held(rest, put))
        claim = (value,)
        held.claims.append(claim)
        put(value)

        def undo() -> None:
            before = len(held.claims)
            held.claims[:] = [c for c in held.claims if c is not claim]
            if len(held.claims) == before:
                return  # taken back already
            if held.claims:
                put(held.claims[-1][0])
            else:
                del self._held[key]
                put(held.rest)

        return undo

    def release(self) -> None:
        """Take everything back, the latest first; orders still to be taken back do nothing."""
        for key, held in reversed(list(self._held.items())):
            held.claims.clear()
            del self._held[key]
            held.put(held.rest)


class _Held:
    """One key: the orders that hold it, oldest first."""

    __slots__ = ("claims", "put", "rest")

    def __init__(self, rest: Any, put: Callable[[Any], object]) -> None:
        self.rest, self.put = rest, put
        self.claims: list[tuple[Any]] = []


def together(*undos: Undo) -> Undo:
    """One way back for several."""

    def undo() -> None:
        for each in undos:
            each()

    return undo
