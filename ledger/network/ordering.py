"""What the network needs from an ordering service, and the embedded one.

The service orders blocks and carries votes. It is trusted for nothing else: it can delay, drop
or reorder, but it can not forge a message, make an honest node settle wrongly, or make two blocks
of one height final.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Protocol

PENDING_COUNT_MAX = 512
"""Messages a proposer looks at; a block holds fewer."""


class OrderingUnavailable(Exception):  # noqa: N818 - a state of the service
    """The service did not answer in time or has no quorum; may be tried again."""


class Ordering(Protocol):
    """Create-only registers: what was written once at a place is never replaced."""

    async def submit(self, message: bytes) -> None:
        """Put a message where proposers find it; the same message twice is one message."""
        ...

    async def pending(self) -> list[bytes]:
        """Messages that are in no block yet, oldest first."""
        ...

    async def propose(self, height: int, block: bytes, taken: list[bytes]) -> bool:
        """Put a block at the next height and take its messages from the pending ones."""
        ...

    async def block(self, height: int) -> bytes | None:
        """Read the block of a height; None while there is none."""
        ...

    async def head(self) -> int:
        """Height of the newest block that was ever put; 0 when there was none."""
        ...

    async def vote(self, height: int, node: str, vote: bytes) -> None:
        """Publish a node's vote of a height, once."""
        ...

    async def votes(self, height: int) -> list[bytes]:
        """Votes of a height so far."""
        ...

    async def prune(self, height: int) -> None:
        """Forget heights below this one, if every node has countersigned it.

        The height itself stays: who countersigned it may still have to make it final.
        """
        ...

    async def wait(self, timeout_s: float) -> None:
        """Return when anything changed since the last wait, or after the time."""
        ...

    async def close(self) -> None:
        """Let go of the service."""
        ...


def message_key(message: bytes) -> str:
    """Where a message waits: a name its content decides."""
    return hashlib.sha256(message).hexdigest()


class SharedOrder:
    """The registers of an embedded service, shared by the nodes of one process."""

    def __init__(self) -> None:
        self.head = 0
        self.waiting: dict[str, bytes] = {}
        self.blocks: dict[int, bytes] = {}
        self.ballots: dict[int, dict[str, bytes]] = {}
        self.listeners: list[asyncio.Event] = []

    def notify(self) -> None:
        """Wake everybody who waits."""
        for event in self.listeners:
            event.set()


class EmbeddedOrdering:
    """Ordering inside the process: what a single gateway uses by default.

    It keeps nothing on disk. A message counts as acknowledged once its block is final, and by
    then the node's own ledger holds it.
    """

    def __init__(self, shared: SharedOrder | None = None) -> None:
        self._shared = shared or SharedOrder()
        self._changed = asyncio.Event()
        self._shared.listeners.append(self._changed)

    def start_at(self, height: int) -> None:
        """Go on after a height that the node's ledger already holds."""
        self._shared.head = height

    async def submit(self, message: bytes) -> None:
        """Put a message where proposers find it."""
        self._shared.waiting.setdefault(message_key(message), message)
        self._shared.notify()

    async def pending(self) -> list[bytes]:
        """Messages that are in no block yet, oldest first."""
        return list(self._shared.waiting.values())[:PENDING_COUNT_MAX]

    async def propose(self, height: int, block: bytes, taken: list[bytes]) -> bool:
        """Put a block at the next height unless another one is there."""
        if height != self._shared.head + 1:
            return False
        self._shared.head = height
        self._shared.blocks[height] = block
        for message in taken:
            self._shared.waiting.pop(message_key(message), None)
        self._shared.notify()
        return True

    async def block(self, height: int) -> bytes | None:
        """Read the block of a height."""
        return self._shared.blocks.get(height)

    async def head(self) -> int:
        """Height of the newest block."""
        return self._shared.head

    async def vote(self, height: int, node: str, vote: bytes) -> None:
        """Publish a node's vote of a height, once."""
        ballots = self._shared.ballots.setdefault(height, {})
        if node not in ballots:
            ballots[node] = vote
            self._shared.notify()

    async def votes(self, height: int) -> list[bytes]:
        """Votes of a height so far."""
        return list(self._shared.ballots.get(height, {}).values())

    async def prune(self, height: int) -> None:
        """Forget heights below this one; the nodes' ledgers hold them."""
        for old in [h for h in self._shared.blocks if h < height]:
            del self._shared.blocks[old]
            self._shared.ballots.pop(old, None)

    async def wait(self, timeout_s: float) -> None:
        """Return when anything changed since the last wait, or after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def close(self) -> None:
        """Stop listening."""
        self._shared.listeners.remove(self._changed)
