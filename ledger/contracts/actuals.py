"""Settlement of actuals: what was delivered is paid, and the money sums to zero exactly.

Every amount is a posting from one account to another, so nothing can appear or vanish. A round
delivered in full moves exactly what it settled; a part moves its share, rounded down, and nobody
ever pays more than its transfer and the penalties of what it sold. A seller pays a penalty for
what is missing beyond the tolerance, unless the reason lies with the soft open point, its
operator, the gateway or the feeder: curtailment costs nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import digest
from ledger.contracts.rounding import matrix_with_margins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ledger.contracts.document import Node

CONTRACT = "actuals-1"
SOP_OWNER = "sop-owner"
LOSS_SUPPLIER = "loss-supplier"

EXEMPT_WORDS = """
rating capability guard_p below_band throughput ramp feeder_voltage feeder_limit feeder_mask
master_headroom derated limits_expired mode_blocked test_mode not_armed local estop fault lockout
maintenance breaker_open state lease foreign_write time_quality stale ledger disk crash_loop
operator link_lost broker_lost watchdog device_rejected device_unknown readback_differs
effect_missing select_failed expired terminal_lost gateway_restart cancelled refused unreported
"""
EXEMPT_REASONS = frozenset(EXEMPT_WORDS.split())
"""Words of the gateway's delivery report under which nobody who trades is at fault.

Two are the contract's own: the gateway refused the trade, or never reported on it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the market agreed about short delivery."""

    tolerance_permille: int = 5
    penalty_ucur_per_kwh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Money from one account to another; never negative."""

    debtor: str
    creditor: str
    amount_ucur: int
    trade: str
    """Empty where the money is not between two that trade with each other."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What one account owes another when everything is delivered; always positive."""

    debtor: str
    creditor: str
    amount_ucur: int


def agreed(outcome: Mapping[str, Any]) -> tuple[Edge, ...]:
    """Spread the round's transfers: who pays, pays everybody who is paid, pro rata.

    Each edge has one direction, so whatever part of the round is delivered, nobody pays more
    than its transfer: the deposit that covers the transfer covers every outcome.
    """
    transfers, fees = outcome["transfers"], outcome["fee_parts"]
    payers = [(name, amount) for name, amount in sorted(transfers.items()) if amount > 0]
    paid = [(name, -amount) for name, amount in sorted(transfers.items()) if amount < 0]
    paid += [(SOP_OWNER, fees["wheeling"]), (LOSS_SUPPLIER, fees["losses"])]
    matrix = matrix_with_margins(
        rows=[amount for _, amount in payers], columns=[amount for _, amount in paid]
    )
    return tuple(
        Edge(debtor=debtor, creditor=creditor, amount_ucur=amount)
        for (debtor, _), row in zip(payers, matrix, strict=True)
        for (creditor, _), amount in zip(paid, row, strict=True)
        if amount
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A delivered part of something contracted."""

    delivered_wh: int
    contracted_wh: int

    def of(self, amount_ucur: int) -> int:
        """The same part of an amount, rounded down."""
        return amount_ucur * self.delivered_wh // self.contracted_wh

    def smaller(self, other: Part) -> Part:
        """The smaller of two parts; this one when they are equal."""
        mine = self.delivered_wh * other.contracted_wh
        return other if other.delivered_wh * self.contracted_wh < mine else self


def _parts(
    trades: Sequence[Mapping[str, Any]], delivered_wh: Mapping[str, int]
) -> tuple[dict[frozenset[str], tuple[str, Part]], dict[str, Part]]:
    """What was delivered of the trade of each pair, and of everything each terminal traded."""
    pairs: dict[frozenset[str], tuple[str, Part]] = {}
    sums: dict[str, list[int]] = {}
    for trade in trades:
        ends = (trade["out_terminal"], trade["in_terminal"])
        part = Part(delivered_wh=delivered_wh[trade["id"]], contracted_wh=trade["wh"])
        pairs[frozenset(ends)] = (trade["id"], part)
        for end in ends:
            total = sums.setdefault(end, [0, 0])
            total[0] += part.delivered_wh
            total[1] += part.contracted_wh
    whole = {end: Part(delivered_wh=d, contracted_wh=c) for end, (d, c) in sums.items()}
    return pairs, whole


def settle_actuals(
    outcome: Mapping[str, Any], delivered: Mapping[str, tuple[int, Sequence[str]]], terms: Terms
) -> dict[str, Any]:
    """Settle a round by its delivery report: trade id to (delivered Wh, reasons).

    Between two that trade the part of their trade counts; between two that do not, the smaller
    of what either delivered and took of all its trades; towards fees and terminals that trade
    nothing, the payer's own part.
    """
    trades = outcome["trades"]
    taken_wh = {
        trade["id"]: max(0, min(delivered.get(trade["id"], (0, ()))[0], trade["wh"]))
        for trade in trades
    }
    pairs, whole = _parts(trades, taken_wh)
    postings: list[Posting] = []
    paid = dict.fromkeys(taken_wh, 0)
    for edge in agreed(outcome):
        name, part = pairs.get(frozenset((edge.debtor, edge.creditor)), ("", None))
        if part is None:
            # Who pays trades something: a terminal at level 0 only ever receives a share.
            part = whole[edge.debtor]
            if edge.creditor in whole:
                part = part.smaller(whole[edge.creditor])
        amount = part.of(edge.amount_ucur)
        _post(postings, edge.debtor, edge.creditor, amount, name, "energy" if name else "service")
        if name:
            paid[name] += amount if _buys(trades, name, edge.debtor) else -amount
    rows = []
    for trade in sorted(trades, key=lambda one: str(one["id"])):
        name, reasons = trade["id"], delivered.get(trade["id"], (0, ()))[1]
        exempt = sorted(EXEMPT_REASONS & set(reasons))
        short_wh = trade["wh"] * (1000 - terms.tolerance_permille) // 1000 - taken_wh[name]
        deficiency_wh = 0 if exempt else max(0, short_wh)
        penalty = deficiency_wh * terms.penalty_ucur_per_kwh // 1000
        _post(postings, trade["out_terminal"], trade["in_terminal"], penalty, name, "penalty")
        rows.append(
            {
                "trade": name,
                "contracted_wh": trade["wh"],
                "delivered_wh": taken_wh[name],
                "deficiency_wh": deficiency_wh,
                "paid": paid[name],
                "penalty": penalty,
                "curtailed": exempt,
            }
        )
    return _result(outcome, postings, rows)


def _buys(trades: Sequence[Mapping[str, Any]], name: str, terminal: str) -> bool:
    return any(trade["id"] == name and trade["in_terminal"] == terminal for trade in trades)


def _result(
    outcome: Mapping[str, Any], postings: Sequence[Posting], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    names = {*outcome["transfers"], SOP_OWNER, LOSS_SUPPLIER}
    accounts = dict.fromkeys(sorted(names), 0)
    for posting in postings:
        accounts[posting.debtor] -= posting.amount_ucur
        accounts[posting.creditor] += posting.amount_ucur
    assert sum(accounts.values()) == 0, "money does not balance"
    result: dict[str, Any] = {
        "contract": CONTRACT,
        "round": outcome["digest"],
        "rows": list(rows),
        "postings": [
            {
                "from": posting.debtor,
                "to": posting.creditor,
                "amount": posting.amount_ucur,
                "trade": posting.trade,
                "why": posting.why,
            }
            for posting in postings
        ],
        "accounts": accounts,
    }
    result["digest"] = digest(result)
    return result


def _post(
    postings: list[Posting], debtor: str, creditor: str, amount: int, trade: str, why: str
) -> None:
    if amount:
        postings.append(
            Posting(debtor=debtor, creditor=creditor, amount_ucur=amount, trade=trade, why=why)
        )


def delivered_from(
    node: Node, outcome: Mapping[str, Any]
) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Read a delivery report; every trade of the round must be in it, once, and no other."""
    wanted = {trade["id"] for trade in outcome["trades"]}
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for entry in node.items():
        entry.fields(required={"trade_id", "delivered_wh"}, optional={"reasons", "status"})
        name = entry.at("trade_id").text()
        energy_wh = entry.at("delivered_wh").integer(low=0)
        reasons = entry.at("reasons").items(high=64) if entry.has("reasons") else []
        if name not in wanted:
            entry.at("trade_id").wrong(f"{name!r} is no trade of this round")
        elif name in found:
            entry.at("trade_id").wrong(f"{name!r} was already reported")
        found[name] = (energy_wh, tuple(reason.text() for reason in reasons))
    for name in sorted(wanted - set(found)):
        node.wrong(f"lacks the trade {name!r}")
    return found
