"""Settled trades as IEC 62325-451-2 Schedule_MarketDocument in JSON, for the gateway to carry out.

in_ is the buyer (the receiving feeder), out_ the seller (the delivering feeder). Numbers are
decimal texts or integers, never floats. A document carries so many trades as stay, signed and in
base64, inside the gateway's 16 KiB, however long the names are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import canonical
from ledger.contracts.hco_settlement import CONTRACT

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_BYTES_MAX = 11_500
"""Of a document before it is signed: 15,336 in base64, which leaves room for five signatures."""
NUMBER_BYTES_MAX = 20
"""What a series takes beside its content: its number in the document, the comma."""
RESOLUTION = {60: "PT1M", 300: "PT5M", 900: "PT15M"}
PRODUCT_ACTIVE_POWER = "8716867000016"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Who trades behind the terminals, and where."""

    site: str
    sop: str
    created: str
    sender: str
    receiver: str
    currency: str
    domain: Mapping[str, str]
    """Terminal to feeder's domain."""
    party: Mapping[str, str]
    """Terminal to the region's market participant."""


def documents_of(outcome: Mapping[str, Any], parties: Parties, *, interval_s: int) -> list[Any]:
    """Write the trades of an hco outcome; an outcome without trades gives no document."""
    parts: list[list[dict[str, Any]]] = []
    left_bytes = 0
    for trade in outcome["trades"]:
        series = _series(outcome, parties, trade, interval_s)
        needed_bytes = len(canonical(series)) + NUMBER_BYTES_MAX
        if not parts or needed_bytes > left_bytes:
            parts.append([])
            empty = _document(outcome, parties, [], len(parts))
            left_bytes = BODY_BYTES_MAX - len(canonical(empty))
        parts[-1].append({"mRID": str(len(parts[-1]) + 1), **series})
        left_bytes -= needed_bytes
    return [_document(outcome, parties, part, number) for number, part in enumerate(parts, 1)]


def _document(
    outcome: Mapping[str, Any], parties: Parties, series: list[dict[str, Any]], number: int
) -> dict[str, Any]:
    interval = outcome["interval"]
    stamp = interval["start"].replace("-", "").replace(":", "")
    return {
        "Schedule_MarketDocument": {
            "mRID": f"{CONTRACT}-{stamp}-{number}",
            "revisionNumber": "1",
            "type": "A01",
            "process.processType": "A18",
            "process.classificationType": "A01",
            "sender_MarketParticipant.mRID": _qualified(parties.sender),
            "sender_MarketParticipant.marketRole.type": "A11",
            "receiver_MarketParticipant.mRID": _qualified(parties.receiver),
            "receiver_MarketParticipant.marketRole.type": "A04",
            "createdDateTime": parties.created,
            "schedule_Time_Period.timeInterval": dict(interval),
            "domain.mRID": _qualified(parties.site),
            "TimeSeries": series,
        },
        "x-ledger": {"contract": CONTRACT, "digest": outcome["digest"]},
    }


def _series(
    outcome: Mapping[str, Any], parties: Parties, trade: Any, interval_s: int
) -> dict[str, Any]:
    """Write a trade as a series without its number, which depends on the document it comes to."""
    seller, buyer = trade["out_terminal"], trade["in_terminal"]
    unit = outcome["unit_price_per_kwh"][buyer]
    if outcome["transfers"][buyer] < 0:
        unit = -unit
    return {
        "version": "1",
        "businessType": "A06",
        "product": PRODUCT_ACTIVE_POWER,
        "objectAggregation": "A03",
        "in_Domain.mRID": _qualified(parties.domain[buyer]),
        "out_Domain.mRID": _qualified(parties.domain[seller]),
        "in_MarketParticipant.mRID": _qualified(parties.party[buyer]),
        "out_MarketParticipant.mRID": _qualified(parties.party[seller]),
        "marketAgreement.type": "A07",
        "marketAgreement.mRID": trade["id"],
        "connectingLine_RegisteredResource.mRID": _qualified(parties.sop),
        "measurement_Unit.name": "KWT",
        "currency_Unit.name": parties.currency,
        "price_Measure_Unit.name": "MWH",
        "curveType": "A01",
        "Period": [
            {
                "timeInterval": dict(outcome["interval"]),
                "resolution": RESOLUTION[interval_s],
                "Point": [
                    {
                        "position": 1,
                        "quantity": thousandths(trade["p_w"]),
                        # Micro-currency a kWh is thousandths of the currency a MWh.
                        "price.amount": thousandths(unit),
                    }
                ],
            }
        ],
    }


def thousandths(value: int) -> str:
    """Write an integer of thousandths as an exact decimal: 1500 is ``1.5``."""
    whole, rest = divmod(abs(value), 1000)
    text = f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)
    return f"-{text}" if value < 0 else text


def _qualified(value: str) -> dict[str, str]:
    return {"codingScheme": "A01", "value": value}
