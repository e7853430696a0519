"""Topics on the broker: one way in for trades and limits, one tree out for answers and states."""

from __future__ import annotations

import re

NODE_DOOR = "/v1/trades"
"""Stands for the topic of trades that came from the gateway's own node; no broker can name it."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@\-]*", re.ASCII)


class Topics:
    """The topic names of one SOP."""

    __slots__ = ("_in", "_out")

    def __init__(self, *, site: str, sop: str) -> None:
        for part in (site, sop):
            if not _PART.fullmatch(part):
                raise ValueError(f"{part!r} cannot be part of a topic")
        self._in = f"p2p/v1/{site}/{sop}"
        self._out = f"sopgw/v1/{site}/{sop}"

    @property
    def trades(self) -> str:
        """Where the market puts settled trades."""
        return f"{self._in}/trades"

    @property
    def limits(self) -> str:
        """Where the system operator puts signed feeder limits."""
        return f"{self._out}/limits"

    @property
    def availability(self) -> str:
        """Retained ``online`` or ``offline``; the broker writes the latter when the link dies."""
        return f"{self._out}/availability"

    @property
    def state(self) -> str:
        """Retained state of the gateway."""
        return f"{self._out}/state"

    @property
    def telemetry(self) -> str:
        """Retained last telemetry."""
        return f"{self._out}/telemetry"

    @property
    def checkpoint(self) -> str:
        """Retained last checkpoint of the ledger."""
        return f"{self._out}/checkpoint"

    @property
    def acknowledgements(self) -> str:
        """Filter over the acknowledgements of all trades."""
        return f"{self._out}/trade/+/acknowledgement"

    def acknowledgement(self, name: str) -> str:
        """Answer to a message: ``name`` is the trade id, or the message hash where none counts."""
        return f"{self._out}/trade/{_checked(name)}/acknowledgement"

    def delivery(self, trade_id: str) -> str:
        """Delivery reports of one trade."""
        return f"{self._out}/trade/{_checked(trade_id)}/delivery"

    def alarm(self, code: str) -> str:
        """Retained state of one alarm."""
        return f"{self._out}/alarm/{_checked(code)}"

    def value(self, what: str) -> str:
        """Retained value by its path, such as ``state`` or ``alarm/<code>``."""
        return "/".join([self._out, *map(_checked, what.split("/"))])


def _checked(part: str) -> str:
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} cannot be part of a topic")
    return part
