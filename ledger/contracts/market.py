"""The market as a replicated state machine: blocks of signed messages in, one state on every node.

``apply_block`` is the whole contract: it reads nothing but the state, the block's time and its
messages, whose signatures were checked before. A refused message changes nothing but the list of
refusals, so every node can say why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ledger.contracts import rounds, slots
from ledger.contracts.actuals import Terms, delivered_from, settle_actuals
from ledger.contracts.document import Mistake, Node, canonical
from ledger.contracts.hco_document import instant_ms
from ledger.contracts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = "market-1"
MEMBERS_ONLY = {
    "join": ("operator",),
    "deposit": ("operator",),
    "payment": ("operator",),
    "open": ("operator",),
    "slot": ("operator",),
    "leave": ("operator", "gateway", "region"),
    "rotate": ("operator", "gateway", "region"),
    "commit": ("region",),
    "reveal": ("region",),
    "answer": ("gateway",),
    "delivery": ("gateway",),
}
"""Which role may send what."""
KEEP_SETTLED_MS = 86_400_000
"""A settled round stays in the state for a day, so that late questions find it."""
UNREPORTED_AFTER_MS = 7 * 86_400_000
"""Without a delivery report after a week a round settles as undelivered, at nobody's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message whose signature was checked against the key it names."""

    id: str
    """SHA-256 of its signed bytes."""
    party: str
    key: str
    seq: int
    """Grows with each message of a party; nothing is taken twice."""
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that changed nothing, and every reason why."""

    message: str
    party: str
    mistakes: tuple[Mistake, ...]


@dataclass(slots=True, kw_only=True)
class Effects:
    """What a block did, for the people and programs that wait for it."""

    accepted: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)


class Market:
    """State of the market; ``snapshot`` is what every node countersigns the hash of."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.market: str = snapshot["market"]
        self.now_ms: int = snapshot["now_ms"]
        self.registry = Registry(snapshot["parties"])
        self.rounds: dict[str, Any] = {k: dict(v) for k, v in snapshot["rounds"].items()}
        self.services: dict[str, int] = dict(snapshot["services"])
        self.seqs: dict[str, int] = dict(snapshot["seqs"])
        self.slots: dict[str, Any] = dict(snapshot["slots"])
        self.slot_order: list[str] = list(snapshot["slot_order"])
        self.beacons: list[str] = list(snapshot["beacons"])

    @classmethod
    def genesis(cls, market: str, operator: str, operator_key: str) -> Market:
        """A market with nobody in it but its operator."""
        party = {
            "key": operator_key,
            "role": "operator",
            "terminal": "",
            "technology": "",
            "storage_wh": 0,
            "deposit": 0,
            "balance": 0,
            "reserved": {},
            "left": False,
        }
        return cls(
            {
                "market": market,
                "now_ms": 0,
                "parties": {operator: party},
                "rounds": {},
                "services": {},
                "seqs": {},
                "slots": {},
                "slot_order": [],
                "beacons": [slots.next_beacon(market, 0, ())],
            }
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything the future depends on."""
        return {
            "version": VERSION,
            "market": self.market,
            "now_ms": self.now_ms,
            "parties": self.registry.parties,
            "rounds": self.rounds,
            "services": self.services,
            "seqs": self.seqs,
            "slots": self.slots,
            "slot_order": self.slot_order,
            "beacons": self.beacons,
        }

    def root(self) -> str:
        """Hash of the state."""
        return hashlib.sha256(canonical(self.snapshot())).hexdigest()

    def due_ms(self) -> int | None:
        """When a block is wanted even without any message; None for never.

        At the gate of a round, so that offers are opened only once no block can be older than the
        gate any more, and at its clearing.
        """
        waiting = [
            found["commit_until_ms"]
            if self.now_ms < found["commit_until_ms"]
            else found["clear_ms"]
            for found in self.rounds.values()
            if found["outcome"] is None
        ]
        return min(waiting, default=None)

    def gate_ms(self, name: object) -> int | None:
        """When a round's gate closes; None while there is no such round to wait for."""
        found = self.rounds.get(name) if isinstance(name, str) else None
        return None if found is None else found["commit_until_ms"]

    def apply_block(self, utc_ms: int, messages: Sequence[Message]) -> Effects:
        """Apply a block: its time first (clearing what is due), then its messages in order."""
        assert utc_ms >= self.now_ms, "blocks do not go back in time"
        self.now_ms = utc_ms
        effects = Effects()
        self._clear_due(effects)
        for message in messages:
            mistakes = self._apply(message, effects)
            if mistakes:
                effects.refused.append(
                    Refusal(message=message.id, party=message.party, mistakes=tuple(mistakes))
                )
            else:
                effects.accepted.append(message.id)
        beacon = slots.next_beacon(self.beacons[-1], utc_ms, effects.accepted)
        self.beacons = [*self.beacons, beacon][-slots.BEACONS_KEPT_MAX :]
        return effects

    def _clear_due(self, effects: Effects) -> None:
        for name in sorted(self.rounds):
            found = self.rounds[name]
            if found["outcome"] is None and self.now_ms >= found["clear_ms"]:
                trades = rounds.clear(name, found, self.registry)["trades"]
                effects.cleared.append(name)
                if not trades:
                    self._settle(name, {}, effects)
            if found.get("actuals") is not None:
                # A kept state may be of a program that counted the day from the start instead.
                if self.now_ms >= found.get("settled_ms", found["start_ms"]) + KEEP_SETTLED_MS:
                    del self.rounds[name]
            elif self.now_ms >= found["start_ms"] + UNREPORTED_AFTER_MS:
                silent = {trade["id"]: (0, ("unreported",)) for trade in found["outcome"]["trades"]}
                self._settle(name, silent, effects)

    def _apply(self, message: Message, effects: Effects) -> list[Mistake]:
        mistakes: list[Mistake] = []
        node = Node(dict(message.body), mistakes)
        kind = node.at("kind").choice(*MEMBERS_ONLY) if node.has("kind") else ""
        if not kind:
            node.wrong("lacks 'kind'")
        role = self.registry.role_of(message.party)
        if role is None:
            node.wrong(f"{message.party!r} is not a party")
        elif self.registry.key_of(message.party) != message.key:
            node.wrong(f"not signed with the key of {message.party!r}")
        elif kind and role not in MEMBERS_ONLY[kind]:
            node.wrong(f"a {role} may not send {kind!r}")
        if message.seq <= self.seqs.get(message.party, -1):
            node.wrong(f"seq {message.seq} was used before")
        if mistakes:
            return mistakes
        self.seqs[message.party] = message.seq
        self._dispatch(kind, node, message, effects)
        return mistakes

    def _dispatch(self, kind: str, node: Node, message: Message, effects: Effects) -> None:
        match kind:
            case "join":
                node.fields(
                    required={"kind", "id", "key", "role"},
                    optional={"terminal", "technology", "storage_wh", "deposit"},
                )
                self.registry.join(node)
            case "deposit":
                node.fields(required={"kind", "id", "amount"})
                self.registry.deposit(node)
            case "payment":
                node.fields(required={"kind", "id", "amount"})
                self.registry.payment(node, self.services)
            case "leave":
                node.fields(required={"kind"})
                offered = rounds.offered_in(self.rounds, message.party)
                self.registry.leave(message.party, offered, node)
            case "rotate":
                node.fields(required={"kind", "new_key"})
                self.registry.rotate(message.party, node)
            case "open":
                rounds.open_round(node, self.rounds, self.registry, self.now_ms)
            case "slot":
                slots.take(node, self.slots, self.slot_order, self.beacons)
            case "commit":
                rounds.commit(node, self.rounds, message.party, self.now_ms)
            case "reveal":
                rounds.reveal(node, self.rounds, self.registry, message.party, self.now_ms)
            case "answer":
                rounds.answer(node, self.rounds, message.party)
            case _:
                self._delivery(node, message.party, effects)

    def _delivery(self, node: Node, party: str, effects: Effects) -> None:
        node.fields(required={"kind", "round", "trades"})
        found = rounds.for_gateway(node, self.rounds, party)
        if found is None:
            return
        words = found["answers"].values()
        none_taken = bool(words) and not any(word["accepted"] for word in words)
        if self.now_ms < instant_ms(found["outcome"]["interval"]["end"]) and not none_taken:
            node.wrong("the interval has not ended: more can still be delivered")
        delivered = delivered_from(node.at("trades"), found["outcome"])
        for trade, word in found["answers"].items():
            if not word["accepted"] and trade in delivered:
                delivered_wh, reasons = delivered[trade]
                delivered[trade] = delivered_wh, (*reasons, "refused")
        if not node.mistakes:
            self._settle(node.at("round").value, delivered, effects)

    def _settle(self, name: str, delivered: Any, effects: Effects) -> None:
        """Move the money of a round and give its reservations back."""
        found = self.rounds[name]
        terms = Terms(tolerance_permille=found["tolerance"], penalty_ucur_per_kwh=found["penalty"])
        settled = settle_actuals(found["outcome"], delivered, terms)
        for account, amount in settled["accounts"].items():
            party = found["parties"].get(account)
            if party is None:
                self.services[account] = self.services.get(account, 0) + amount
            else:
                self.registry.post(party, amount)
        self.registry.release(name)
        found["settled_ms"] = self.now_ms
        found["actuals"] = {
            "digest": settled["digest"],
            "accounts": settled["accounts"],
            "rows": settled["rows"],
        }
        effects.settled.append(name)

    def money_sum_ucur(self) -> int:
        """Sum of all balances: zero at every height."""
        owed: int = sum(party["balance"] for party in self.registry.parties.values())
        return owed + sum(self.services.values())


def message_id(signed: bytes) -> str:
    """Name a message by its signed bytes."""
    return hashlib.sha256(signed).hexdigest()
