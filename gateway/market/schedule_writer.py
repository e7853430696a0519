"""Writing market documents, for benches, tests and the contracts that settle trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from gateway.market import canonical
from gateway.market.schedule_model import (
    CURVE_FIXED_BLOCKS,
    EXTENSION,
    PRODUCT_ACTIVE_POWER,
    ROOT,
    UNIT_KW,
    Document,
    Series,
)
from gateway.model.interval import RESOLUTIONS_MS, utc_text
from gateway.model.trade import Position, Trade

_RESOLUTION_OF = {length: name for name, length in RESOLUTIONS_MS.items()}


def write(
    trade: Trade,
    *,
    site: str,
    created_utc_ms: int,
    document: str | None = None,
    sender: str = "market-1",
    receiver: str = "gateway",
    buyer: str = "",
    seller: str = "",
    price: Decimal | None = None,
    currency: str = "",
    extension: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the document of one trade; ``schedule_document.parse`` reads back the same trade."""
    series = Series(
        trade=trade,
        buyer=buyer,
        seller=seller,
        prices=(price,) * len(trade.positions),
        currency=currency,
        agreement_type="A07",
        business_type="A06",
    )
    return write_document(
        Document(
            id=document or f"{trade.id}-doc"[:60],
            revision_number=trade.revision_number,
            site=site,
            sender=sender,
            receiver=receiver,
            created_utc_ms=created_utc_ms,
            process_type="A18",
            series=(series,),
            extension=extension or {},
        )
    )


def write_document(document: Document) -> bytes:
    """Return the canonical JSON of a document with any number of trades."""
    start = min(t.start_ms for t in document.trades)
    end = max(t.end_ms for t in document.trades)
    root = {
        "mRID": document.id,
        "revisionNumber": str(document.revision_number),
        "type": "A01",
        "process.processType": document.process_type,
        "process.classificationType": "A01",
        "sender_MarketParticipant.mRID": _qualified(document.sender),
        "sender_MarketParticipant.marketRole.type": "A11",
        "receiver_MarketParticipant.mRID": _qualified(document.receiver),
        "receiver_MarketParticipant.marketRole.type": "A04",
        "createdDateTime": utc_text(document.created_utc_ms),
        "schedule_Time_Period.timeInterval": _interval(start, end),
        "domain.mRID": _qualified(document.site),
        "TimeSeries": [_series(s, i) for i, s in enumerate(document.series, 1)],
    }
    body: dict[str, Any] = {ROOT: root}
    if document.extension:
        body[EXTENSION] = dict(document.extension)
    return canonical.encode(body)


def _series(series: Series, number: int) -> dict[str, Any]:
    trade = series.trade
    found: dict[str, Any] = {
        "mRID": str(number),
        "version": str(trade.revision_number),
        "businessType": series.business_type or "A06",
        "product": PRODUCT_ACTIVE_POWER,
        "objectAggregation": "A03",
        "in_Domain.mRID": _qualified(trade.in_domain),
        "out_Domain.mRID": _qualified(trade.out_domain),
        "marketAgreement.type": series.agreement_type or "A07",
        "marketAgreement.mRID": trade.id,
        "connectingLine_RegisteredResource.mRID": _qualified(trade.sop),
        "measurement_Unit.name": UNIT_KW,
        "curveType": CURVE_FIXED_BLOCKS,
        "Period": _periods(trade.positions, series.prices),
    }
    if series.buyer:
        found["in_MarketParticipant.mRID"] = _qualified(series.buyer)
    if series.seller:
        found["out_MarketParticipant.mRID"] = _qualified(series.seller)
    if series.currency:
        found["currency_Unit.name"] = series.currency
        found["price_Measure_Unit.name"] = "MWH"
    return found


def _periods(
    positions: Sequence[Position], prices: Sequence[Decimal | None]
) -> list[dict[str, Any]]:
    price_of = dict(zip((p.interval.start_ms for p in positions), prices, strict=False))
    return [
        {
            "timeInterval": _interval(run[0].interval.start_ms, run[-1].interval.end_ms),
            "resolution": _RESOLUTION_OF[run[0].interval.duration_ms],
            "Point": [
                _point(position, price_of.get(position.interval.start_ms), number)
                for number, position in enumerate(run, 1)
            ],
        }
        for run in runs_of(positions)
    ]


def runs_of(positions: Sequence[Position]) -> list[list[Position]]:
    """Put positions that touch and have one length together: one period each."""
    runs: list[list[Position]] = []
    for position in positions:
        last = runs[-1][-1].interval if runs else None
        if (
            last is not None
            and last.end_ms == position.interval.start_ms
            and last.duration_ms == position.interval.duration_ms
        ):
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def _point(position: Position, price: Decimal | None, number: int) -> dict[str, Any]:
    point: dict[str, Any] = {"position": number, "quantity": kilowatts(position.p_w)}
    if price is not None:
        point["price.amount"] = format(price, "f")
    return point


def kilowatts(p_w: int) -> str:
    """Write watts as exact decimal kilowatts: ``120`` or ``0.25``."""
    whole, rest = divmod(p_w, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def _qualified(value: str) -> dict[str, str]:
    return {"codingScheme": "A01", "value": value}


def _interval(start_ms: int, end_ms: int) -> dict[str, str]:
    return {"start": utc_text(start_ms), "end": utc_text(end_ms)}
