"""Settlement of actuals: what was delivered is paid, and the money sums to zero exactly.

Every amount is a posting from one account to another, so nothing can appear or vanish. A trade
delivered in full moves exactly what the round settled; a part moves its share, rounded towards
zero. A seller pays a penalty for what is missing beyond the tolerance, unless the reason lies
with the soft open point, its operator or the feeder: curtailment costs nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import digest
from ledger.contracts.rounding import share_pro_rata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ledger.contracts.document import Node

CONTRACT = "actuals-1"
SOP_OWNER = "sop-owner"
LOSS_SUPPLIER = "loss-supplier"

EXEMPT_WORDS = """
rating capability guard_p below_band throughput ramp feeder_voltage feeder_limit feeder_mask
master_headroom derated limits_expired mode_blocked test_mode not_armed local estop fault lockout
maintenance breaker_open state lease foreign_write time_quality stale ledger operator link_lost
broker_lost watchdog device_rejected device_unknown readback_differs effect_missing select_failed
expired terminal_lost gateway_restart cancelled refused unreported
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
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """One trade with the money that full delivery moves; amounts may be negative."""

    id: str
    seller: str
    buyer: str
    energy_wh: int
    """0 where rounding left a pair less than a Wh: its money moves in any case."""
    to_seller_ucur: int
    services_ucur: tuple[tuple[str, int], ...]
    """Account and amount: fees, and shares of terminals that trade nothing."""


def agreed(outcome: Mapping[str, Any]) -> tuple[Agreed, ...]:
    """Spread the round's transfers over its trades, so that full delivery adds up to them.

    The trades' energies are (near) proportional to what each side trades, so the money between
    seller i and buyer j is R_i·E_j/E + C_j·E_i/E − M·E_i·E_j/E² with margins R and C; what
    rounding leaves over goes to the last trade of the seller, then of the buyer.
    """
    energy, transfers = outcome["energy_wh"], outcome["transfers"]
    sellers = sorted(name for name, wh in energy.items() if wh < 0)
    buyers = sorted(name for name, wh in energy.items() if wh > 0)
    total = sum(energy[name] for name in buyers)
    if total == 0:
        return ()
    services = _services(outcome)
    parts = {
        account: share_pro_rata(amount, [energy[name] for name in buyers])
        for account, amount in services
    }
    pays = {
        name: transfers[name] - sum(part[place] for part in parts.values())
        for place, name in enumerate(buyers)
    }
    money = _between(
        rows=[(-energy[name], -transfers[name]) for name in sellers],
        columns=[(energy[name], pays[name]) for name in buyers],
    )
    wh = {(t["out_terminal"], t["in_terminal"]): t for t in outcome["trades"]}
    result = []
    for column, buyer in enumerate(buyers):
        weights = [wh[s, buyer]["wh"] if (s, buyer) in wh else 0 for s in sellers]
        splits = {account: share_pro_rata(part[column], weights) for account, part in parts.items()}
        for row, seller in enumerate(sellers):
            trade = wh.get((seller, buyer), {"id": f"{seller} to {buyer}", "wh": 0})
            if not (trade["wh"] or money[row][column]):
                continue
            result.append(
                Agreed(
                    id=trade["id"],
                    seller=seller,
                    buyer=buyer,
                    energy_wh=trade["wh"],
                    to_seller_ucur=money[row][column],
                    services_ucur=tuple((a, s[row]) for a, s in splits.items() if s[row]),
                )
            )
    return tuple(sorted(result, key=lambda one: one.id))


def _services(outcome: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Who else is paid out of the trades: owner, loss supplier, terminals that only share."""
    idle = [
        (name, -amount)
        for name, amount in sorted(outcome["transfers"].items())
        if amount and not outcome["energy_wh"][name]
    ]
    fees = outcome["fee_parts"]
    return [(SOP_OWNER, fees["wheeling"]), (LOSS_SUPPLIER, fees["losses"]), *idle]


def _between(
    *, rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]
) -> list[list[int]]:
    """Money matrix with the given margins: (energy, money) of each row and column."""
    total = sum(energy for energy, _ in rows)
    money = sum(amount for _, amount in rows)
    matrix = [
        [
            (row * column_wh * total + column * row_wh * total - money * row_wh * column_wh)
            // total**2
            for column_wh, column in columns
        ]
        for row_wh, row in rows
    ]
    for cells, (_, amount) in zip(matrix[:-1], rows[:-1], strict=True):
        cells[-1] += amount - sum(cells)
    for place, (_, amount) in enumerate(columns):
        matrix[-1][place] += amount - sum(cells[place] for cells in matrix)
    return matrix


def settle_actuals(
    outcome: Mapping[str, Any], delivered: Mapping[str, tuple[int, Sequence[str]]], terms: Terms
) -> dict[str, Any]:
    """Settle a round by its delivery report: trade id to (delivered Wh, reasons)."""
    postings: list[Posting] = []
    rows = []
    for trade in agreed(outcome):
        reported_wh, reasons = delivered.get(trade.id, (0, ()))
        delivered_wh = max(0, min(reported_wh, trade.energy_wh))
        exempt = sorted(EXEMPT_REASONS & set(reasons))
        short_wh = trade.energy_wh * (1000 - terms.tolerance_permille) // 1000 - delivered_wh
        deficiency_wh = 0 if exempt else max(0, short_wh)
        penalty = deficiency_wh * terms.penalty_ucur_per_kwh // 1000
        paid = _part(trade.to_seller_ucur, delivered_wh, trade.energy_wh)
        _post(postings, trade.buyer, trade.seller, paid, trade.id, "energy")
        for account, amount in trade.services_ucur:
            part = _part(amount, delivered_wh, trade.energy_wh)
            _post(postings, trade.buyer, account, part, trade.id, "service")
        _post(postings, trade.seller, trade.buyer, penalty, trade.id, "penalty")
        rows.append(
            {
                "trade": trade.id,
                "contracted_wh": trade.energy_wh,
                "delivered_wh": delivered_wh,
                "deficiency_wh": deficiency_wh,
                "paid": paid,
                "penalty": penalty,
                "curtailed": exempt,
            }
        )
    names = {*outcome["transfers"], SOP_OWNER, LOSS_SUPPLIER}
    accounts = dict.fromkeys(sorted(names), 0)
    for posting in postings:
        accounts[posting.debtor] -= posting.amount_ucur
        accounts[posting.creditor] += posting.amount_ucur
    assert sum(accounts.values()) == 0, "money does not balance"
    result: dict[str, Any] = {
        "contract": CONTRACT,
        "round": outcome["digest"],
        "rows": rows,
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


def _part(amount: int, delivered_wh: int, energy_wh: int) -> int:
    """The delivered part of an amount, towards zero."""
    if energy_wh == 0:
        return amount
    part = abs(amount) * delivered_wh // energy_wh
    return part if amount >= 0 else -part


def _post(
    postings: list[Posting], debtor: str, creditor: str, amount: int, trade: str, why: str
) -> None:
    if amount < 0:
        debtor, creditor, amount = creditor, debtor, -amount
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
