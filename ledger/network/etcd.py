"""Ordering by etcd, through its v3 JSON gateway over TLS: create-only keys, no leases, no locks.

A block is written together with the head it follows, so two proposers never both win. A message
moves from the pending ones into its block in the same transaction. Every write is create-only,
which makes a repeated attempt after an unclear answer harmless. etcd is a pipe: the archive is
each node's ledger, so heights that every node has countersigned are pruned.
"""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from ledger.network.ordering import PENDING_COUNT_MAX, OrderingUnavailable, message_key

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

REQUEST_S = 3.0
"""Longer than an election takes to notice; a request that is not answered by then is repeated."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""More than all messages that may wait, in base64: a member that sends more is ill."""
LINE_BYTES_MAX = 4 * 1024 * 1024
"""A watch answer may carry several blocks."""
REOPEN_S = 0.2
"""Rest before a broken watch is opened at the next member."""
SILENT_COUNT_MAX = 4
"""Waits without news, though other members answered with some, before a watch is given up."""
MALFORMED = (TimeoutError, ValueError, TypeError, RecursionError)
"""What reading an answer that is none leads to, beside an answer that does not come."""
HEAD_SHOWN_MAX = 32
"""Of a head that is no height; any height is shorter."""
TAKEN_COUNT_MAX = 100
"""Deletions in one transaction; etcd takes 128 operations."""


def _b64(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode()


def _after(prefix: str) -> str:
    """End of a range that holds every key with the prefix."""
    data = prefix.encode()
    return _b64(data[:-1] + bytes([data[-1] + 1]))


class EtcdOrdering:
    """One market's registers in an etcd cluster."""

    def __init__(
        self,
        endpoints: Sequence[str],
        market: str,
        *,
        voter_count: int,
        tls: ssl.SSLContext | None = None,
        request_s: float = REQUEST_S,
    ) -> None:
        self._endpoints = list(endpoints)
        self._prefix = f"/sop-ledger/{market}/"
        self._voter_count = voter_count
        self._tls = tls
        self._request_s = request_s
        self._session: aiohttp.ClientSession | None = None
        self._members = tuple(endpoints)
        self._since = 0
        """Revision of the first answer since the last wait: what came later wakes the next."""
        self._seen = 0
        """Revision up to which the watch has told."""
        self._news = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._watched = -1
        self._silent_count = 0

    def _key(self, *parts: str) -> str:
        return self._prefix + "/".join(parts)

    def _height(self, kind: str, height: int) -> str:
        return self._key(kind, f"{height:020d}")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=LINE_BYTES_MAX)
        return self._session

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the first endpoint that answers; raise OrderingUnavailable when none does."""
        last = "no endpoint"
        for _ in range(len(self._endpoints)):
            url = self._endpoints[0] + path
            try:
                async with asyncio.timeout(self._request_s):
                    async with self._client().post(url, json=body) as response:
                        answer = _object(await _bounded(response.content))
                if response.status == 200:
                    revision = int(_part(answer, "header", dict).get("revision", 0))
                    if not self._since:
                        self._since = revision
                    return answer
                last = f"{response.status} {answer.get('error', '')}"
            except (aiohttp.ClientError, *MALFORMED, OSError) as error:
                last = f"{type(error).__name__} {error}"
            self._endpoints.append(self._endpoints.pop(0))
        raise OrderingUnavailable(last)

    async def _create(self, key: str, value: bytes) -> bool:
        """Write a key unless it exists."""
        answer = await self._call(
            "/v3/kv/txn",
            {"compare": [_absent(key)], "success": [_put(key, value)]},
        )
        return bool(answer.get("succeeded"))

    async def _range(self, prefix: str, *, limit: int = 0) -> list[bytes]:
        answer = await self._call(
            "/v3/kv/range",
            {
                "key": _b64(prefix),
                "range_end": _after(prefix),
                "limit": limit,
                "sort_order": "ASCEND",
                "sort_target": "CREATE",
            },
        )
        return _values(answer)

    async def submit(self, message: bytes) -> None:
        """Put a message where proposers find it; acknowledged by a majority of the members."""
        await self._create(self._key("t", message_key(message)), message)

    async def pending(self) -> list[bytes]:
        """Messages that are in no block yet, oldest first."""
        return await self._range(self._key("t", ""), limit=PENDING_COUNT_MAX)

    async def propose(self, height: int, block: bytes, taken: list[bytes]) -> bool:
        """Put a block behind the head, in one transaction with what it takes."""
        head, key = self._key("head"), self._height("b", height)
        follows = (
            _absent(head)
            if height == 1
            else {"key": _b64(head), "target": "VALUE", "value": _b64(str(height - 1))}
        )
        deletions = [
            {"request_delete_range": {"key": _b64(self._key("t", message_key(message)))}}
            for message in taken
        ]
        answer = await self._call(
            "/v3/kv/txn",
            {
                "compare": [_absent(key), follows],
                "success": [
                    _put(key, block),
                    _put(head, str(height).encode()),
                    *deletions[:TAKEN_COUNT_MAX],
                ],
            },
        )
        done = bool(answer.get("succeeded"))
        for k in range(TAKEN_COUNT_MAX, len(deletions), TAKEN_COUNT_MAX):
            if done:
                part = deletions[k : k + TAKEN_COUNT_MAX]
                await self._call("/v3/kv/txn", {"success": part})
        return done

    async def block(self, height: int) -> bytes | None:
        """Read the block of a height."""
        answer = await self._call("/v3/kv/range", {"key": _b64(self._height("b", height))})
        found = _values(answer)
        return found[0] if found else None

    async def head(self) -> int:
        """Height of the newest block that was ever put; 0 when there was none.

        A proposal compares the bytes, so a head in another form would seem right and never be
        followed: one that people wrote with a line end, or as 0.
        """
        found = _values(await self._call("/v3/kv/range", {"key": _b64(self._key("head"))}))
        if not found:
            return 0
        with suppress(ValueError):
            height = int(found[0])
            if height > 0 and found[0] == str(height).encode():
                return height
        raise OrderingUnavailable(f"the head is no height: {found[0][:HEAD_SHOWN_MAX]!r}")

    async def vote(self, height: int, node: str, vote: bytes) -> None:
        """Publish a node's vote of a height, once."""
        await self._create(self._height("v", height) + "/" + node, vote)

    async def votes(self, height: int) -> list[bytes]:
        """Votes of a height so far."""
        return await self._range(self._height("v", height) + "/")

    async def prune(self, height: int) -> None:
        """Forget everything below a height that every node has countersigned.

        All of them have finished what lies below; the height itself one may still have to finish.
        """
        if len(await self.votes(height)) < self._voter_count:
            return
        ranges = [
            {
                "request_delete_range": {
                    "key": _b64(self._key(kind, "")),
                    "range_end": _b64(self._height(kind, height)),
                }
            }
            for kind in ("b", "v")
        ]
        answer = await self._call("/v3/kv/txn", {"success": ranges})
        revision = str(_part(answer, "header", dict).get("revision", "0"))
        with suppress(OrderingUnavailable):  # another node may have compacted further already
            await self._call("/v3/kv/compaction", {"revision": revision})

    async def wait(self, timeout_s: float) -> None:
        """Return when a key changed after the first answer since the last wait, or in time."""
        since, self._since = self._since or self._seen, 0
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(max(since, self._seen)))
        try:
            async with asyncio.timeout(timeout_s):
                while self._seen <= since:
                    self._news.clear()
                    await self._news.wait()
            self._silent_count = 0
        except TimeoutError:
            await self._doubt(since)

    async def _doubt(self, since: int) -> None:
        """Change the watched member when it has kept quiet about what others answered."""
        self._silent_count = self._silent_count + 1 if since > self._seen else 0
        if self._silent_count >= SILENT_COUNT_MAX:
            self._silent_count = 0
            await self._stop_watching()

    async def _watch(self, revision: int) -> None:
        """Follow the market's keys from a revision on; one stream, opened again when it breaks."""
        self._seen = max(self._seen, revision)
        while True:
            self._watched = (self._watched + 1) % len(self._members)
            body = {
                "create_request": {
                    "key": _b64(self._prefix),
                    "range_end": _after(self._prefix),
                    "start_revision": self._seen + 1,
                }
            }
            url = self._members[self._watched] + "/v3/watch"
            forever = aiohttp.ClientTimeout(total=None, sock_connect=self._request_s)
            with suppress(aiohttp.ClientError, *MALFORMED, OSError):
                async with self._client().post(url, json=body, timeout=forever) as response:
                    while line := await response.content.readline():
                        result = _part(_object(line), "result", dict)
                        if result.get("canceled"):
                            # Compacted: what is missed is read again from the registers.
                            self._seen = max(self._seen, int(result.get("compact_revision", 0)))
                            break
                        if result.get("events"):
                            revision = int(_part(result, "header", dict).get("revision", 0))
                            self._seen = max(self._seen, revision)
                            self._news.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(REOPEN_S):
                    await asyncio.Event().wait()

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None

    async def close(self) -> None:
        """Close the connections."""
        await self._stop_watching()
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Read an answer that has an end."""
    parts, size = [], 0
    async for part in content.iter_any():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise ValueError("an answer without an end")
        parts.append(part)
    return b"".join(parts)


def _object(data: bytes) -> dict[str, Any]:
    """Read a JSON object; whoever orders blocks is trusted for nothing, so also not for this."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise TypeError("an answer is an object")
    return found


def _part(found: dict[str, Any], key: str, kind: type) -> Any:
    """What stands at a key; empty where nothing does."""
    value = found.get(key) or kind()
    if not isinstance(value, kind):
        raise TypeError(f"{key} is {type(value).__name__}")
    return value


def _values(answer: dict[str, Any]) -> list[bytes]:
    """The values of an answer's keys."""
    try:
        pairs = _part(answer, "kvs", list)
        return [base64.b64decode(kv.get("value", ""), validate=True) for kv in pairs]
    except (*MALFORMED, AttributeError) as error:
        raise OrderingUnavailable(f"a member answers nonsense: {error}") from None


def _absent(key: str) -> dict[str, Any]:
    return {"key": _b64(key), "target": "CREATE", "create_revision": "0"}


def _put(key: str, value: bytes) -> dict[str, Any]:
    return {"request_put": {"key": _b64(key), "value": _b64(value)}}
