"""Who takes part: identities, keys, terminals and deposits, changed only by signed entries.

Deposits cover every open commitment: what a party may have to pay is reserved before its offer
counts and released when it is settled. Balances collect what was settled, less what was paid, and
sum to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.contracts.actuals import LOSS_SUPPLIER, SOP_OWNER
from ledger.contracts.document import AMOUNT_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ledger.contracts.document import Node

ROLES = ("operator", "gateway", "region")
KEY_LENGTH = 64
"""Hex digits of a raw Ed25519 public key."""
PARTIES_MAX = 10_000
RETIRED_MAX = 256
"""Keys a party may have had before its present one."""
PAYMENTS = "payments"
"""Account of the money that parties paid to the operator for their debts, or it to them."""


class Registry:
    """The parties of a market; a plain table so that its bytes are the same everywhere."""

    def __init__(self, table: Mapping[str, Any] | None = None) -> None:
        self.parties: dict[str, dict[str, Any]] = {k: dict(v) for k, v in (table or {}).items()}

    def key_of(self, party: str) -> str | None:
        """Current key of a party that has not left."""
        found = self.parties.get(party)
        return None if found is None or found["left"] else found["key"]

    def role_of(self, party: str) -> str | None:
        """Role of a party that has not left."""
        found = self.parties.get(party)
        return None if found is None or found["left"] else found["role"]

    def at_terminal(self, terminal: str) -> str | None:
        """Party that trades at a terminal."""
        for name in sorted(self.parties):
            found = self.parties[name]
            if found["terminal"] == terminal and not found["left"]:
                return name
        return None

    def free_ucur(self, party: str) -> int:
        """What a party can still commit: deposit less debts less reservations."""
        found = self.parties[party]
        reserved = sum(found["reserved"].values())
        free: int = found["deposit"] + min(0, found["balance"]) - reserved
        return free

    def reserve(self, party: str, round_id: str, amount_ucur: int) -> bool:
        """Reserve for a round, in place of what was reserved for it; False when not covered."""
        found = self.parties[party]
        before = found["reserved"].pop(round_id, 0)
        if amount_ucur > self.free_ucur(party):
            if before:
                found["reserved"][round_id] = before
            return False
        if amount_ucur:
            found["reserved"][round_id] = amount_ucur
        return True

    def release(self, round_id: str) -> None:
        """Give back every reservation of a round."""
        for found in self.parties.values():
            found["reserved"].pop(round_id, None)

    def post(self, party: str, amount_ucur: int) -> None:
        """Add to a balance: positive is what the party is owed."""
        self.parties[party]["balance"] += amount_ucur

    def join(self, node: Node) -> None:
        """A new party, confirmed by the operator; mistakes are noted, nothing changes then."""
        party = _party_from(node)
        name, key = node.at("id").name(), party["key"]
        if name in self.parties:
            node.at("id").wrong(f"the identity {name!r} is or was in use")
        if self._known(key):
            node.at("key").wrong("this key is or was in use")
        if party["terminal"] and self.at_terminal(party["terminal"]):
            node.at("terminal").wrong(f"{party['terminal']!r} already has its party")
        if len(self.parties) >= PARTIES_MAX:
            node.wrong(f"at most {PARTIES_MAX} parties")
        if not node.mistakes:
            self.parties[name] = party

    def leave(self, name: str, offered: Collection[str], node: Node) -> None:
        """A party leaves; only without an open commitment or debt, and its name is not reused.

        ``offered`` are the unsettled rounds with an offer of it: one that can cost it nothing
        reserves nothing, and money will yet be posted to it.
        """
        found = self.parties[name]
        waiting = sorted({*found["reserved"], *offered})
        if waiting:
            node.wrong(f"{name!r} still has commitments in {', '.join(waiting)}")
        if found["balance"] < 0:
            node.wrong(f"{name!r} still owes {-found['balance']}")
        if not node.mistakes:
            found["left"] = True

    def rotate(self, name: str, node: Node) -> None:
        """A new key, announced under the old one."""
        key = _key(node.at("new_key"))
        found = self.parties[name]
        if self._known(key):
            node.at("new_key").wrong("this key is or was in use")
        if len(found.get("retired", ())) >= RETIRED_MAX:
            node.wrong(f"{name!r} has had {RETIRED_MAX} keys before")
        if not node.mistakes:
            found["retired"] = [*found.get("retired", ()), found["key"]]
            found["key"] = key

    def _known(self, key: str) -> bool:
        """Tell whether a key is anybody's or was: an old one may be in the wrong hands by now."""
        return any(
            key == found["key"] or key in found.get("retired", ())
            for found in self.parties.values()
        )

    def deposit(self, node: Node) -> None:
        """The operator confirms money paid in (positive) or out; never below what is committed."""
        name = node.at("id").name()
        amount = node.at("amount").integer()
        found = self._find(name, node)
        if found is None:
            return
        if found["left"] and amount > 0:
            node.at("amount").wrong(f"{name!r} has left: money only goes out")
        if found["deposit"] + amount > AMOUNT_MAX:
            node.at("amount").wrong(f"a deposit is at most {AMOUNT_MAX}")
        if self.free_ucur(name) + min(0, amount) < 0:
            node.at("amount").wrong(f"only {self.free_ucur(name)} of the deposit is free")
        if not node.mistakes:
            found["deposit"] += amount

    def payment(self, node: Node, services: dict[str, int]) -> None:
        """The operator confirms that a party paid what it owed (positive) or was paid its due.

        A balance only ever moves towards zero so; the other side is the operator's account of
        payments, and the sum stays zero.
        """
        name = node.at("id").name()
        amount = node.at("amount").integer()
        found = self._find(name, node)
        if found is None:
            return
        owed = found["balance"]
        if owed < 0 and not 0 < amount <= -owed:
            node.at("amount").wrong(f"{name!r} owes {-owed}: from 1 to {-owed} can be paid")
        elif owed > 0 and not -owed <= amount < 0:
            node.at("amount").wrong(f"{name!r} is owed {owed}: from {-owed} to -1 can be paid out")
        elif owed == 0:
            node.at("id").wrong(f"{name!r} owes nothing and is owed nothing")
        if not node.mistakes:
            found["balance"] += amount
            services[PAYMENTS] = services.get(PAYMENTS, 0) - amount

    def _find(self, name: str, node: Node) -> dict[str, Any] | None:
        """Find a party, also one that has left."""
        found = self.parties.get(name)
        if found is None:
            node.at("id").wrong(f"{name!r} is not a party")
        return found


def _party_from(node: Node) -> dict[str, Any]:
    terminal = node.at("terminal").name() if node.has("terminal") else ""
    if terminal in (SOP_OWNER, LOSS_SUPPLIER):
        # Money goes by the terminal's name, and these are where the fees go.
        node.at("terminal").wrong(f"{terminal!r} is the account of a service")
    role = node.at("role").choice(*ROLES)
    if role == "region" and not terminal:
        node.wrong("a region trades at a terminal")
    return {
        "key": _key(node.at("key")),
        "role": role,
        "terminal": terminal,
        "technology": node.at("technology").text() if node.has("technology") else "",
        "storage_wh": node.at("storage_wh").integer(low=0) if node.has("storage_wh") else 0,
        "deposit": node.at("deposit").integer(low=0) if node.has("deposit") else 0,
        "balance": 0,
        "reserved": {},
        "left": False,
    }


def _key(node: Node) -> str:
    text = node.text()
    if len(text) != KEY_LENGTH or any(c not in "0123456789abcdef" for c in text):
        node.wrong(f"must be {KEY_LENGTH} lower-case hex digits: a raw Ed25519 public key")
    return text
