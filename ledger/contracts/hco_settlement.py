"""Money and trades of a chosen hco-1 vector: equal shares of the surplus, pairwise energies.

The published prototype debited buyers in full, never paid sellers what they asked and lost the
rest of an integer division. Here every amount has two sides and the sum is exact.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.contracts import hco
from ledger.contracts.document import digest
from ledger.contracts.rounding import matrix_with_margins, share_evenly

if TYPE_CHECKING:
    from ledger.contracts.hco import Choice, Round

CONTRACT = "hco-1"
TRADE_ID_LENGTH_MAX = 60
"""Longest identifier the gateway takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTrade:
    """Energy one exporting terminal delivers to one importing terminal."""

    id: str
    out_terminal: str
    in_terminal: str
    energy_wh: int
    p_w: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What everybody pays (positive) or is paid (negative), and the trades behind it."""

    shares_ucur: tuple[int, ...]
    transfers_ucur: tuple[int, ...]
    wheeling_ucur: int
    loss_price_ucur: int
    trades: tuple[PairTrade, ...]
    authorised: str | None
    """Terminal with the largest offer at the chosen point: it signs the instruction first."""


def pair_trades(round_: Round, choice: Choice) -> tuple[PairTrade, ...]:
    """Split the net levels into trades pro rata, in whole Wh, margins kept exactly."""
    pairs = list(zip(round_.terminals, choice.levels, strict=True))
    exporters = [(t.id, round_.energy_wh(-k)) for t, k in pairs if k < 0]
    importers = [(t.id, round_.energy_wh(k)) for t, k in pairs if k > 0]
    matrix = matrix_with_margins(
        rows=[wh for _, wh in exporters], columns=[wh for _, wh in importers]
    )
    stamp = round_.start.replace("-", "").replace(":", "")
    return tuple(
        PairTrade(
            id=trade_id(stamp, seller, buyer),
            out_terminal=seller,
            in_terminal=buyer,
            energy_wh=energy_wh,
            p_w=energy_wh * 3600 // round_.interval_s,
        )
        for (seller, _), row in zip(exporters, matrix, strict=True)
        for (buyer, _), energy_wh in zip(importers, row, strict=True)
        if energy_wh > 0
    )


def trade_id(stamp: str, seller: str, buyer: str) -> str:
    """Name a trade by its interval and terminals, short enough for a topic.

    Where a terminal's name has the dash that parts them, two pairs could read alike: a hash then.
    """
    plain = f"hco-{stamp}-{seller}-{buyer}"
    if len(plain) <= TRADE_ID_LENGTH_MAX and "-" not in seller + buyer:
        return plain
    return f"hco-{stamp}-" + hashlib.sha256(f"{seller} {buyer}".encode()).hexdigest()[:24]


def settle(round_: Round, choice: Choice) -> Settlement:
    """Share the surplus evenly; the transfers sum to the fees exactly.

    Among all that means all who revealed: who did not, has no offers and is left out.
    """
    taking_part = [
        choice.value_ucur > 0 and (level != 0 or (round_.share == "all" and bool(t.offers_ucur)))
        for t, level in zip(round_.terminals, choice.levels, strict=True)
    ]
    portions = iter(share_evenly(choice.value_ucur, sum(taking_part)))
    shares = tuple(next(portions) if part else 0 for part in taking_part)
    offers = [t.offer_ucur(k) for t, k in zip(round_.terminals, choice.levels, strict=True)]
    transfers = tuple(offer - share for offer, share in zip(offers, shares, strict=True))
    wheeling, loss_price = hco.fees_ucur(round_, choice.levels)
    assert sum(transfers) == wheeling + loss_price, "money does not balance"
    triples = zip(round_.terminals, offers, choice.levels, strict=True)
    active = [(-offer, terminal.id.encode()) for terminal, offer, level in triples if level]
    return Settlement(
        shares_ucur=shares,
        transfers_ucur=transfers,
        wheeling_ucur=wheeling,
        loss_price_ucur=loss_price,
        trades=pair_trades(round_, choice),
        authorised=min(active)[1].decode() if active else None,
    )


def outcome(round_: Round) -> dict[str, Any]:
    """Run the whole contract on a round: the document every node must compute alike."""
    choice = hco.choose(round_)
    settlement = settle(round_, choice)
    ids = [terminal.id for terminal in round_.terminals]
    energies = [round_.energy_wh(level) for level in choice.levels]
    lost = [hco.loss_wh(round_, t, k) for t, k in zip(round_.terminals, choice.levels, strict=True)]
    result: dict[str, Any] = {
        "contract": CONTRACT,
        "interval": {"start": round_.start, "end": round_.end},
        "levels": dict(zip(ids, choice.levels, strict=True)),
        "value": choice.value_ucur,
        "transfers": dict(zip(ids, settlement.transfers_ucur, strict=True)),
        "shares": dict(zip(ids, settlement.shares_ucur, strict=True)),
        "fees": settlement.wheeling_ucur + settlement.loss_price_ucur,
        "fee_parts": {
            "wheeling": settlement.wheeling_ucur,
            "losses": settlement.loss_price_ucur,
        },
        "energy_wh": dict(zip(ids, energies, strict=True)),
        "p_w": {t: k * round_.quantum_w for t, k in zip(ids, choice.levels, strict=True)},
        "loss_wh": dict(zip(ids, lost, strict=True)),
        "unit_price_per_kwh": {
            t: abs(paid) * hco.MICRO // abs(wh)
            for t, paid, wh in zip(ids, settlement.transfers_ucur, energies, strict=True)
            if wh
        },
        "trades": [
            {
                "id": trade.id,
                "out_terminal": trade.out_terminal,
                "in_terminal": trade.in_terminal,
                "wh": trade.energy_wh,
                "p_w": trade.p_w,
            }
            for trade in settlement.trades
        ],
        "master": round_.master,
        "authorised": settlement.authorised,
    }
    result["digest"] = digest(result)
    return result
