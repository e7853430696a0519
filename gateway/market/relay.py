"""Messages of region agents from a broker to a market node's door, and the answers back.

The broker is told that a message is ours only after the node has it final in its ledger, or has
refused it: what was under way when this process, the node or the broker died is sent again, and a
message that comes twice gives the same answer. A message counts by its own signature, so neither
the broker nor this relay has to be trusted with more than passing things on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections import deque
from typing import Any

import aiohttp

from gateway.market import canonical
from gateway.market.mqtt import Broker, MarketLink
from gateway.model.message import Inbound

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 48_000  # as the node's: a larger one it never takes
UNDER_WAY_MAX = 16  # mosquitto stops at 20 unacknowledged
REQUEST_TIMEOUT_S = 40.0  # the node answers within 30 s
AGAIN_S = 0.5
ANSWER_BYTES_MAX = 4 << 20  # ten times what a node says of one message
ERRORS_MAX = 64  # of an answer that is passed on: twice what a node gives
ERROR_LENGTH_MAX = 500  # of a path or a reason, which may quote what a party sent
FINAL = (200, 400, 409, 413)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*", re.ASCII)


class RelayTopics:
    """The topic names of one market."""

    __slots__ = ("_root",)

    def __init__(self, market: str) -> None:
        if not _NAME.fullmatch(market):
            raise ValueError(f"{market!r} cannot be part of a topic")
        self._root = f"sopl/v1/{market}"

    @property
    def messages(self) -> str:
        """Filter over the messages of all parties; each sends under a name of its own."""
        return f"{self._root}/message/+"

    def message(self, party: str) -> str:
        """Where a party sends."""
        return f"{self._root}/message/{party}"

    def answer(self, party: str, sha256: str) -> str:
        """Where the answer to a message comes; ``sha256`` is of the message's bytes."""
        return f"{self._root}/answer/{party}/{sha256}"

    @property
    def availability(self) -> str:
        """Retained ``online`` or ``offline``."""
        return f"{self._root}/relay"


class Relay:
    """Carries messages of one market; ``run`` it until cancelled."""

    def __init__(self, *, broker: Broker, market: str, url: str) -> None:
        """Prepare the relay between a broker and the node at ``url``."""
        self._topics = RelayTopics(market)
        self._url = url.rstrip("/") + "/v1/messages"
        self._node_away = False
        self.link = MarketLink(
            broker=broker,
            identifier=f"sopl-relay-{market}",
            subscriptions=[self._topics.messages],
            availability=self._topics.availability,
        )

    async def run(self) -> None:
        """Carry until cancelled; a node or a broker that is away is waited for."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self.link.run())
            group.create_task(self._carry(session, group))

    async def _carry(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """Hand several in at once, one a party; acknowledge in the order they came."""
        under_way: deque[tuple[Inbound, asyncio.Task[dict[str, Any]]]] = deque()
        while True:
            while len(under_way) < UNDER_WAY_MAX and not (under_way and self.link.inbox.empty()):
                inbound = await self.link.inbox.get()
                # A party's numbers grow: a later message that overtook would refuse the earlier.
                before = [task for other, task in under_way if other.topic == inbound.topic]
                work = self._hand_in(session, inbound, before[-1] if before else None)
                under_way.append((inbound, group.create_task(work)))
            inbound, task = under_way.popleft()
            answer = await task
            party = inbound.topic.rsplit("/", 1)[1]
            if _NAME.fullmatch(party):
                topic = self._topics.answer(party, answer["message_sha256"])
                await self.link.publish(topic, canonical.encode(answer))
            await self.link.acknowledge(inbound)

    async def _hand_in(
        self,
        session: aiohttp.ClientSession,
        inbound: Inbound,
        before: asyncio.Task[dict[str, Any]] | None,
    ) -> dict[str, Any]:
        """Post until the node says what became of it; after the party's message before."""
        if len(inbound.payload) > MESSAGE_BYTES_MAX:
            what = f"{len(inbound.payload)} bytes, at most {MESSAGE_BYTES_MAX}"
            return _answer(inbound, 413, _refusal(what))
        if before is not None:
            await asyncio.wait([before])
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with session.post(self._url, data=inbound.payload) as response:
                    found = await _document(response)
                if response.status in FINAL:
                    if found is None and response.status != 200:
                        # A refusal stays one when its reasons cannot be read: what is asked for
                        # again holds up everybody's later messages.
                        found = _refusal(f"refused with status {response.status}")
                    if found is not None:
                        self._node_away = False
                        return _answer(inbound, response.status, found)
            if not self._node_away:
                log.warning("the node at %s has it not final: trying again", self._url)
                self._node_away = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await asyncio.Event().wait()


async def _document(response: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """Read the whole answer, which comes in pieces; None when it is no object or too large."""
    raw = bytearray()
    while more := await response.content.read(ANSWER_BYTES_MAX + 1 - len(raw)):
        raw += more
    if len(raw) > ANSWER_BYTES_MAX:
        return None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refusal(what: str) -> dict[str, Any]:
    return {"errors": [{"path": "$", "message": what}]}


def _answer(inbound: Inbound, status: int, found: dict[str, Any]) -> dict[str, Any]:
    """What the party hears: whether it counts, since which height, or every reason why not."""
    errors = found.get("errors")
    height = found.get("height")
    return {
        "schema": "sopl/v1/answer",
        "message_sha256": hashlib.sha256(inbound.payload).hexdigest(),
        "accepted": status == 200,
        "height": height if isinstance(height, int) else -1,
        "errors": [
            {"path": _text(e.get("path", "$")), "message": _text(e.get("message", ""))}
            for e in (errors if isinstance(errors, list) else ())[:ERRORS_MAX]
            if isinstance(e, dict)
        ],
    }


def _text(value: object) -> str:
    """Shorten a text; half a character, which nobody could write down, becomes a question mark."""
    return str(value)[:ERROR_LENGTH_MAX].encode("utf-8", "replace").decode()
