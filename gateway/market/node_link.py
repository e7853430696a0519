"""The link to the gateway's own market node: final trades in, signed answers and deliveries out.

The node lists every final round that is not settled yet, always as the same bytes, so nothing has
to be remembered beside the gateway's ledger: what has a ``trade.received`` entry is not taken
again, and what the node still lists without our word is said again, until the node has it final.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import canonical, dsse, schedule_document
from gateway.market.papers import Papers
from gateway.market.topics import NODE_DOOR
from gateway.model.message import Inbound

log = logging.getLogger(__name__)

POLL_S = 1.0
REQUEST_TIMEOUT_S = 40.0  # the node answers within 30 s whether a message is final
AGAIN_S = 1.0  # after a message that is not final yet
REFUSED_AGAIN_S = 30.0  # a refusal may pass: a block's time lies behind ours, a party joins late
ANSWER_BYTES_MAX = 32 * 1024 * 1024
KEPT_MAX = 10_000  # trades whose outcome is remembered: of ten times the rounds that may wait


class NodeAway(Exception):  # noqa: N818 - says what is the case
    """The node does not answer, or not as a node does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a trade got, as the ``delivery`` entry says."""

    energy_wh: int
    reasons: tuple[str, ...]


class Outcomes:
    """What the gateway decided about trades and what they got; the oldest give way."""

    def __init__(self) -> None:
        self._taken: dict[str, None] = {}
        self._accepted: dict[str, None] = {}
        self._refused: dict[tuple[str, str | None], tuple[str, ...]] = {}
        self._delivered: dict[str, Delivered] = {}

    def take(self, sha256: str) -> None:
        """Note that a message has its entry, or soon will."""
        _keep(self._taken, sha256, None)

    def taken(self, sha256: str) -> bool:
        """Tell whether a message was taken in, by whichever door."""
        return sha256 in self._taken

    def decide(
        self, sha256: str, trade_id: str | None, *, accepted: bool, reasons: Sequence[str]
    ) -> None:
        """Note a verdict; a message whose signatures do not count has no trade ids."""
        self.take(sha256)
        if accepted and trade_id is not None:
            _keep(self._accepted, trade_id, None)
        elif not accepted:
            _keep(self._refused, (sha256, trade_id), tuple(reasons))

    def deliver(self, trade_id: str, energy_wh: int, reasons: Sequence[str]) -> None:
        """Note what a trade got."""
        _keep(self._delivered, trade_id, Delivered(energy_wh=energy_wh, reasons=tuple(reasons)))

    def refusal(self, sha256: str, trade_id: str) -> tuple[str, ...] | None:
        """Return why a message's trade is not carried out; None when it is, or is not decided.

        A refusal counts only with the very message it answered: anybody may send rubbish under
        somebody's trade id. An acceptance counts by whichever door it came.
        """
        if trade_id in self._accepted:
            return None
        by_trade = self._refused.get((sha256, trade_id))
        return by_trade if by_trade is not None else self._refused.get((sha256, None))

    def answer(self, sha256: str, trade_id: str) -> dict[str, Any] | None:
        """Write the verdict on a trade for the node; None while there is none."""
        if trade_id in self._accepted:
            return {"trade_id": trade_id, "accepted": True, "reasons": []}
        reasons = self.refusal(sha256, trade_id)
        if reasons is None:
            return None
        return {"trade_id": trade_id, "accepted": False, "reasons": list(reasons)}

    def report(self, sha256: str, trade_id: str) -> dict[str, Any] | None:
        """Write what a trade got for the node; None while that is not known."""
        found = self._delivered.get(trade_id)
        if found is None:
            reasons = self.refusal(sha256, trade_id)
            if reasons is None:
                return None
            found = Delivered(energy_wh=0, reasons=reasons)
        return {
            "trade_id": trade_id,
            "delivered_wh": found.energy_wh,
            "reasons": list(found.reasons),
        }


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > KEPT_MAX:
        del kept[next(iter(kept))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A final round as the node lists it: the message and id of each of its trades."""

    trades: tuple[tuple[str, str], ...]
    answered: bool


class NodeLink:
    """Polls one node; ``run`` it in a task group until cancelled."""

    def __init__(
        self,
        *,
        url: str,
        party: str,
        key: Ed25519PrivateKey,
        inbox: asyncio.Queue[Inbound],
        poll_s: float = POLL_S,
        papers: Papers | None = None,
    ) -> None:
        """Prepare the link; nothing is asked before ``run``.

        Args:
            url: the node's door, such as ``http://127.0.0.1:8470``.
            party: the gateway's name in the market.
            key: signs answers and deliveries; the market knows its public half.
            inbox: where trades go, the same for every door.
            poll_s: real seconds between two looks.
            papers: of an https door.
        """
        self.outcomes = Outcomes()
        self.online = asyncio.Event()
        self._url = url.rstrip("/")
        self._party = party
        self._key = key
        self._inbox = inbox
        self._poll_s = poll_s
        self._papers = papers
        self._market = ""
        self._rounds: dict[str, Round] = {}
        self._news = asyncio.Event()
        self._unsure: tuple[str, str, bytes] | None = None  # sent, not yet said to be final
        self._away = ""  # what was last logged
        self._not_before_s: dict[str, float] = {}  # round -> when to try again after a refusal

    def recall(self, entries: Iterable[Mapping[str, Any]], undecided: Iterable[str]) -> None:
        """Know again, after a start, what the ledger says about trades.

        Args:
            entries: verdicts and deliveries, oldest first.
            undecided: hashes of messages that have an entry and no verdict yet.
        """
        for entry in entries:
            self._recall(entry)
        for sha256 in undecided:
            self.outcomes.take(sha256)

    def _recall(self, entry: Mapping[str, Any]) -> None:
        kind = entry["kind"]
        if kind in ("trade.accepted", "trade.refused"):
            self.decided(
                sha256=entry["sha256"],
                trade_id=entry["trade_id"],
                accepted=kind == "trade.accepted",
                reasons=[r["code"] for r in entry.get("reasons", ())],
            )
        elif kind == "delivery":
            for trade in entry["trades"]:
                self.delivered(trade["trade_id"], trade["delivered_wh"], trade["reasons"])

    def decided(
        self, *, sha256: str, trade_id: str | None, accepted: bool, reasons: Sequence[str]
    ) -> None:
        """Note a verdict that is durable; the node hears of it."""
        self.outcomes.decide(sha256, trade_id, accepted=accepted, reasons=reasons)
        self._news.set()

    def delivered(self, trade_id: str, energy_wh: int, reasons: Sequence[str]) -> None:
        """Note a delivery that is durable; the node hears of it."""
        self.outcomes.deliver(trade_id, energy_wh, reasons)
        self._news.set()

    async def run(self) -> None:
        """Poll and post until cancelled; a node that is away is waited for."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=self._connector()) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._poll_forever(session))
            group.create_task(self._post_forever(session))

    def _connector(self) -> aiohttp.TCPConnector | None:
        tls = self._papers.context() if self._papers is not None else None
        return aiohttp.TCPConnector(ssl=tls) if tls is not None else None

    async def _poll_forever(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                await self._poll(session)
                self._away = ""
                self.online.set()
            except NodeAway as error:
                if self._away != str(error):
                    log.warning("node away: %s", error)
                self._away = str(error)
                self.online.clear()
            await _pause(self._poll_s)

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        status, found = await self._ask(session, "GET", "/v1/trades")
        try:
            if status != 200:
                raise NodeAway(f"/v1/trades answers {status}")
            market = str(found["market"])
            "".join((market, *found["rounds"])).encode()  # half a character goes into no message
            answered = set(found["answered"])
            messages = {
                str(name): [canonical.encode(envelope) for envelope in envelopes]
                for name, envelopes in found["rounds"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise NodeAway(f"/v1/trades is not what a node answers: {error!r}") from None
        self._market = market
        self._rounds = {
            name: Round(
                trades=tuple(trade for raw in raws for trade in _trades(raw)),
                answered=name in answered,
            )
            for name, raws in messages.items()
        }
        self._news.set()
        for raw in (raw for raws in messages.values() for raw in raws):
            await self._take(raw)

    async def _take(self, raw: bytes) -> None:
        sha256 = hashlib.sha256(raw).hexdigest()
        if self.outcomes.taken(sha256):
            return
        await self._inbox.put(
            Inbound(
                topic=NODE_DOOR,
                payload=raw,
                retain=False,
                qos_level=0,
                connection_seq=0,
                mid_number=0,
            )
        )
        self.outcomes.take(sha256)

    async def _post_forever(self, session: aiohttp.ClientSession) -> None:
        while True:
            self._news.clear()
            try:
                posted = await self._post_next(session)
            except NodeAway:
                posted = False
                await _pause(AGAIN_S)
            if not posted:
                await self._news.wait()

    async def _post_next(self, session: aiohttp.ClientSession) -> bool:
        """Send the next thing the node lacks; False when there is none."""
        due = self._due()
        if due is None:
            return False
        name, body = due
        if self._unsure is None or self._unsure[:2] != (name, body["kind"]):
            self._unsure = name, body["kind"], await self._signed(session, body)
        # The same bytes again are harmless and give the same answer.
        status, answer = await self._ask(session, "POST", "/v1/messages", self._unsure[2])
        if status not in (200, 400, 409):
            raise NodeAway(f"not final yet: {answer.get('errors')}")
        self._unsure = None
        if status == 200:
            log.info("round=%s %s final at height %s", name, body["kind"], answer.get("height"))
            listed = self._rounds.get(name)
            if listed is not None and body["kind"] == "answer":
                self._rounds[name] = Round(trades=listed.trades, answered=True)
            elif listed is not None:
                del self._rounds[name]
        else:
            log.warning("round=%s %s refused: %s", name, body["kind"], answer.get("errors"))
            loop = asyncio.get_running_loop()
            self._not_before_s[name] = loop.time() + REFUSED_AGAIN_S
        return True

    def _due(self) -> tuple[str, dict[str, Any]] | None:
        """Return the first round the node still lists without our word, and that word."""
        now_s = asyncio.get_running_loop().time()
        waiting = {n: s for n, s in self._not_before_s.items() if s > now_s and n in self._rounds}
        self._not_before_s = waiting
        for name, listed in self._rounds.items():
            if name in waiting or not listed.trades:
                continue
            kind = "delivery" if listed.answered else "answer"
            say = self.outcomes.report if listed.answered else self.outcomes.answer
            words = [say(sha256, trade_id) for sha256, trade_id in listed.trades]
            if None not in words:
                return name, {"kind": kind, "round": name, "trades": words}
        return None

    async def _signed(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> bytes:
        """Sign a message with the number after the party's last."""
        status, found = await self._ask(session, "GET", f"/v1/parties/{self._party}")
        try:
            seq = int(found["seq"]) + 1
        except (KeyError, TypeError, ValueError):
            raise NodeAway(f"no party {self._party!r} in the market ({status})") from None
        public = self._key.public_key().public_bytes_raw().hex()
        signed = {"party": self._party, "seq": seq, "body": dict(body), "key": public}
        purpose = f"sop-ledger/v1 message {self._market}\n".encode()
        signature = self._key.sign(purpose + canonical.encode(signed))
        return canonical.encode({**signed, "sig": signature.hex()})

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with session.request(method, self._url + path, data=body) as response:
                raw = await response.content.read(ANSWER_BYTES_MAX)
                while not response.content.at_eof() and len(raw) < ANSWER_BYTES_MAX:
                    raw += await response.content.read(ANSWER_BYTES_MAX - len(raw))
                found = json.loads(raw)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise NodeAway(f"{self._url}: {type(error).__name__} {error}") from None
        if not isinstance(found, dict):
            raise NodeAway(f"{self._url}{path}: no object")
        return response.status, found


def _trades(raw: bytes) -> list[tuple[str, str]]:
    """Name the trades of a message by its hash and their ids."""
    body = dsse.peek(raw)
    ids = () if body is None else schedule_document.claimed(body)[0]
    sha256 = hashlib.sha256(raw).hexdigest()
    return [(sha256, trade_id) for trade_id in ids]


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
