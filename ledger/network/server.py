"""A node's own HTTP door: agents hand in signed messages, the gateway takes final trades.

It listens on loopback unless the node file says otherwise. Nothing here is trusted: a message
counts by its signature, an answer by the ledger it was written to.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ledger.contracts.trade_document import RESOLUTION, Parties, documents_of
from ledger.network.dsse import envelope
from ledger.network.message import MESSAGE_BYTES_MAX, MessageRefused
from ledger.network.ordering import OrderingUnavailable

if TYPE_CHECKING:
    from ledger.network.config import DeliverySite
    from ledger.network.message import Sign
    from ledger.network.node import Node

FINAL_WITHIN_S = 30.0
"""How long a sender waits for finality before it is told to ask again."""


class Door:
    """The routes of one node."""

    def __init__(
        self, node: Node, *, key: Sign, public: bytes, delivery: DeliverySite | None
    ) -> None:
        self._node = node
        self._key = key
        self._public = public
        self._delivery = delivery

    def application(self) -> web.Application:
        """All routes."""
        app = web.Application(client_max_size=2 * MESSAGE_BYTES_MAX)
        app.add_routes(
            [
                web.post("/v1/messages", self.take),
                web.get("/v1/status", self.status),
                web.get("/v1/parties/{party}", self.party),
                web.get("/v1/rounds", self.rounds),
                web.get("/v1/rounds/{round}", self.round),
                web.get("/v1/rounds/{round}/trades", self.trades),
                web.get("/v1/trades", self.coming),
            ]
        )
        return app

    async def take(self, request: web.Request) -> web.Response:
        """Hand in a signed message and wait until it is final."""
        try:
            async with asyncio.timeout(FINAL_WITHIN_S):
                answer = await self._node.submit(await request.read())
        except MessageRefused as reason:
            errors = [{"path": "$", "message": str(reason)}]
            return web.json_response({"accepted": False, "errors": errors}, status=400)
        except (OrderingUnavailable, TimeoutError):
            errors = [{"path": "$", "message": self._node.alarm or "not final in time"}]
            return web.json_response({"accepted": None, "errors": errors}, status=503)
        return web.json_response(answer.document(), status=200 if answer.accepted else 409)

    async def status(self, request: web.Request) -> web.Response:  # noqa: ARG002 - the route's form
        """Where this node stands."""
        replica = self._node.replica
        return web.json_response(
            {
                "market": replica.market.market,
                "node": replica.node,
                "height": replica.height,
                "state": replica.market.root(),
                "utc_ms": replica.market.now_ms,
                "beacon": replica.market.beacons[-1],
                "alarm": self._node.alarm,
                "halted": replica.halted,
                "evidence": [evidence.document() for evidence in self._node.evidence],
                "money_sum": replica.market.money_sum_ucur(),
            }
        )

    async def party(self, request: web.Request) -> web.Response:
        """A party's entry and the last number it used."""
        name = request.match_info["party"]
        market = self._node.replica.market
        found = market.registry.parties.get(name)
        if found is None:
            return _missing(f"no party {name!r}")
        return web.json_response({**found, "seq": market.seqs.get(name, -1)})

    async def rounds(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The rounds that are open or were settled lately."""
        found = self._node.replica.market.rounds
        return web.json_response({name: _phase(value) for name, value in sorted(found.items())})

    async def round(self, request: web.Request) -> web.Response:
        """One round; sealed offers stay sealed, revealed ones are public."""
        found = self._find(request)
        if found is None:
            return _missing("no such round")
        return web.json_response({**found, "phase": _phase(found)})

    def _find(self, request: web.Request) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._node.replica.market.rounds.get(
            request.match_info["round"]
        )
        return found

    async def trades(self, request: web.Request) -> web.Response:
        """Settled trades of a final round, signed for the gateway."""
        found = self._find(request)
        if found is None:
            return _missing("no such round")
        if found["outcome"] is None:
            return _missing("not cleared yet")
        envelopes = self._envelopes(found)
        if envelopes is None:
            return _missing(
                "this node has no delivery site, or the interval is no market time unit"
            )
        return web.json_response({"envelopes": envelopes})

    async def coming(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Trades of every final round that is not settled yet: what a gateway polls.

        The same trade gives the same bytes each time, so a gateway knows what it has. Rounds of
        terminals that are not this node's delivery site are somebody else's.
        """
        market = self._node.replica.market
        found = {
            name: round_
            for name, round_ in sorted(market.rounds.items())
            if _phase(round_) == "cleared" and self._ours(round_)
        }
        return web.json_response(
            {
                "market": market.market,
                "rounds": {name: self._envelopes(round_) or [] for name, round_ in found.items()},
                "answered": [name for name, round_ in found.items() if round_["answers"]],
            }
        )

    def _ours(self, found: dict[str, Any]) -> bool:
        delivery = self._delivery
        return delivery is None or set(found["parties"]) <= set(delivery.domains)

    def _envelopes(self, found: dict[str, Any]) -> list[dict[str, Any]] | None:
        interval_s = _interval_s(found["outcome"]["interval"])
        if self._delivery is None or interval_s not in RESOLUTION:
            return None
        parties = self._parties(found, self._delivery)
        documents = documents_of(found["outcome"], parties, interval_s=interval_s)
        return [envelope(document, self._key, self._public) for document in documents]

    def _parties(self, found: dict[str, Any], delivery: DeliverySite) -> Parties:
        created = dt.datetime.fromtimestamp(found["clear_ms"] // 1000, tz=dt.UTC)
        return Parties(
            site=delivery.site,
            sop=delivery.sop,
            created=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            sender=self._node.replica.market.market,
            receiver=delivery.receiver,
            currency=delivery.currency,
            domain={
                terminal: delivery.domains.get(terminal, terminal) for terminal in found["parties"]
            },
            party=found["parties"],
        )


def _interval_s(interval: dict[str, str]) -> int:
    start, end = (dt.datetime.fromisoformat(interval[key]) for key in ("start", "end"))
    return round((end - start).total_seconds())


def _phase(found: dict[str, Any]) -> str:
    if found.get("actuals") is not None:
        return "settled"
    return "open" if found["outcome"] is None else "cleared"


def _missing(message: str) -> web.Response:
    return web.json_response({"errors": [{"path": "$", "message": message}]}, status=404)
