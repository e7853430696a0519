"""Reading a Schedule_MarketDocument strictly: every fault is noted, nothing is guessed."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from gateway.market import fields
from gateway.market.fields import Reader
from gateway.market.schedule_model import (
    AGGREGATIONS,
    AGREEMENT_TYPES,
    BUSINESS_TYPES,
    CLASSIFICATION_TYPES,
    CURVES,
    DOCUMENT_TYPES,
    EXTENSION,
    PRICE_UNITS,
    PROCESS_TYPES,
    PRODUCTS,
    ROLES,
    ROOT,
    UNITS,
    Document,
    Series,
)
from gateway.market.strict_json import Findings, Wrong, quoted
from gateway.market.strict_json import parse as parse_json
from gateway.model.interval import RESOLUTIONS_MS, Interval
from gateway.model.reason import Reason, ReasonCode
from gateway.model.trade import Position, Trade

P_W_MAX = 1_000_000_000  # 1 GW: far beyond any converter, so sums stay far below 2^53
POSITIONS_MAX = 500  # of one document; a message of 16 KiB holds fewer
SERIES_MAX = 100  # likewise


def parse(body: bytes, *, site: str | None = None) -> list[Trade] | list[Reason]:
    """Return the trades of a document, or every reason why it is refused.

    The two lists are told apart by their content: trades are never empty, and neither are reasons.
    """
    found = read(body, site=site)
    return list(found.trades) if isinstance(found, Document) else found


def read(body: bytes, *, site: str | None = None) -> Document | list[Reason]:
    """Return the whole document, or every reason why it is refused.

    Args:
        body: the signed bytes.
        site: when given, a document for another site is refused, so that a signature made for
            one site is worth nothing at another.
    """
    findings = Findings()
    top = parse_json(body, findings)
    if top is None:
        return findings.reasons
    reader = Reader(top, "", findings, known=(ROOT, EXTENSION))
    root = reader.child(ROOT, known=_DOCUMENT_FIELDS)
    extension = top.get(EXTENSION, {})
    if not isinstance(extension, dict | Wrong):
        findings.add(ReasonCode.FORM, f"/{EXTENSION}: not an object")
    document = None if root is None else _document(root, extension, site)
    if findings.reasons or document is None:
        return findings.reasons
    return document


def claimed(body: bytes) -> tuple[tuple[str, ...], int]:
    """Return trade ids and revision a refused document claims, as far as they are identifiers."""
    top = parse_json(body, Findings())
    root = None if top is None else top.get(ROOT)
    if not isinstance(root, dict):
        return (), 0
    revision = fields.number(root.get("revisionNumber"))
    series = root.get("TimeSeries")
    ids = [
        s.get("marketAgreement.mRID")
        for s in (series if isinstance(series, list) else ())
        if isinstance(s, dict)
    ]
    good = [i for i in ids if isinstance(i, str) and fields.IDENTIFIER.fullmatch(i)]
    return tuple(dict.fromkeys(good))[:SERIES_MAX], revision or 0


# Ordered as the standard orders them, and quick to look up.
_DOCUMENT_FIELDS = dict.fromkeys((
    "mRID", "revisionNumber", "type", "process.processType", "process.classificationType",
    "sender_MarketParticipant.mRID", "sender_MarketParticipant.marketRole.type",
    "receiver_MarketParticipant.mRID", "receiver_MarketParticipant.marketRole.type",
    "createdDateTime", "schedule_Time_Period.timeInterval", "domain.mRID", "TimeSeries",
))  # fmt: skip
_SERIES_FIELDS = dict.fromkeys((
    "mRID", "version", "businessType", "product", "objectAggregation", "in_Domain.mRID",
    "out_Domain.mRID", "in_MarketParticipant.mRID", "out_MarketParticipant.mRID",
    "marketAgreement.type", "marketAgreement.mRID", "connectingLine_RegisteredResource.mRID",
    "measurement_Unit.name", "currency_Unit.name", "price_Measure_Unit.name", "curveType", "Period",
))  # fmt: skip


def _document(root: Reader, extension: Any, site: str | None) -> Document | None:
    before = len(root.findings.reasons)
    name = root.identifier("mRID")
    revision = root.integer("revisionNumber", low=1, high=999_999)
    root.code("type", DOCUMENT_TYPES)
    process = root.code("process.processType", PROCESS_TYPES)
    root.code("process.classificationType", CLASSIFICATION_TYPES, optional=True)
    sender = root.party("sender_MarketParticipant.mRID")
    root.code("sender_MarketParticipant.marketRole.type", ROLES, optional=True)
    receiver = root.party("receiver_MarketParticipant.mRID")
    root.code("receiver_MarketParticipant.marketRole.type", ROLES, optional=True)
    created = root.instant("createdDateTime")
    span = root.span("schedule_Time_Period.timeInterval")
    domain = root.party("domain.mRID")
    if site is not None and domain and domain != site:
        root.note(ReasonCode.UNKNOWN_SITE, "domain.mRID", f"{quoted(domain)} instead of {site}")
    entries = root.array("TimeSeries", known=_SERIES_FIELDS, count_max=SERIES_MAX)
    series = tuple(s for e in entries if (s := _series(e, revision or 0, span)) is not None)
    _once(root, [s.trade.id for s in series])
    positions = sum(len(s.trade.positions) for s in series)
    if positions > POSITIONS_MAX:
        root.note(ReasonCode.OVERSIZED, "TimeSeries", f"{positions} positions")
    if len(root.findings.reasons) > before or created is None or revision is None:
        return None
    return Document(
        id=name,
        revision_number=revision,
        site=domain,
        sender=sender,
        receiver=receiver,
        created_utc_ms=created,
        process_type=process,
        series=series,
        extension=extension,
    )


def _once(root: Reader, ids: list[str]) -> None:
    for trade_id in dict.fromkeys(i for i in ids if ids.count(i) > 1):
        detail = f"trade {trade_id} stands twice in one document"
        root.note(ReasonCode.DUPLICATE, "TimeSeries", detail)


def _series(entry: Reader, revision: int, span: Interval | None) -> Series | None:
    entry.identifier("mRID")
    entry.integer("version", low=1, high=999_999, optional=True)
    business = entry.code("businessType", BUSINESS_TYPES)
    entry.code("product", PRODUCTS, optional=True)
    entry.code("objectAggregation", AGGREGATIONS, optional=True)
    buyer_domain, seller_domain = entry.party("in_Domain.mRID"), entry.party("out_Domain.mRID")
    if buyer_domain and buyer_domain == seller_domain:
        entry.note(ReasonCode.SAME_DOMAIN, "in_Domain.mRID", "buyer and seller share a feeder")
    buyer = entry.party("in_MarketParticipant.mRID", optional=True)
    seller = entry.party("out_MarketParticipant.mRID", optional=True)
    agreement = entry.code("marketAgreement.type", AGREEMENT_TYPES, optional=True)
    trade_id = entry.identifier("marketAgreement.mRID")
    sop = entry.party("connectingLine_RegisteredResource.mRID")
    entry.code("measurement_Unit.name", UNITS, reason=ReasonCode.UNIT)
    currency = entry.currency("currency_Unit.name")
    entry.code("price_Measure_Unit.name", PRICE_UNITS, optional=True, reason=ReasonCode.UNIT)
    entry.code("curveType", CURVES, optional=True)
    points: list[tuple[Position, Decimal | None]] = []
    known = ("timeInterval", "resolution", "Point")
    for period in entry.array("Period", known=known, count_max=SERIES_MAX):
        points.extend(_period(period, span))
    points.sort(key=lambda p: p[0].interval.start_ms)
    for (one, _), (next_one, _) in itertools.pairwise(points):
        if next_one.interval.start_ms < one.interval.end_ms:
            entry.note(ReasonCode.POSITIONS, "Period", "periods overlap")
    if any(price is not None for _, price in points) and not currency:
        entry.note(ReasonCode.CURRENCY, "currency_Unit.name", "a price without a currency")
    if not (points and trade_id and sop and buyer_domain and seller_domain):
        return None
    trade = Trade(
        id=trade_id,
        revision_number=revision,
        sop=sop,
        out_domain=seller_domain,
        in_domain=buyer_domain,
        positions=tuple(position for position, _ in points),
    )
    return Series(
        trade=trade,
        buyer=buyer,
        seller=seller,
        prices=tuple(price for _, price in points),
        currency=currency,
        agreement_type=agreement,
        business_type=business,
    )


def _period(period: Reader, span: Interval | None) -> list[tuple[Position, Decimal | None]]:
    interval = period.span("timeInterval")
    resolution = period.text("resolution")
    step_ms = RESOLUTIONS_MS.get(resolution, 0)
    if resolution and not step_ms:
        known = ", ".join(RESOLUTIONS_MS)
        period.note(ReasonCode.RESOLUTION, "resolution", f"{quoted(resolution)}: one of {known}")
    points = period.array("Point", known=("position", "quantity", "price.amount"), count_max=500)
    if interval is None or not step_ms:
        for point in points:
            _power(point)
        return []
    if span and not (span.start_ms <= interval.start_ms and interval.end_ms <= span.end_ms):
        period.note(ReasonCode.TIME, "timeInterval", "outside schedule_Time_Period.timeInterval")
    if interval.start_ms % step_ms:
        period.note(ReasonCode.TIME, "timeInterval", f"does not start on a {resolution} boundary")
    if interval.duration_ms != step_ms * len(points):
        wanted = f"{len(points)} points of {resolution} do not fill the interval"
        period.note(ReasonCode.POSITIONS, "Point", wanted)
    return [
        found
        for index, point in enumerate(points)
        if (found := _point(point, index, interval.start_ms, step_ms)) is not None
    ]


def _point(
    point: Reader, index: int, start_ms: int, step_ms: int
) -> tuple[Position, Decimal | None] | None:
    position = point.integer("position", low=1, high=POSITIONS_MAX)
    if position is not None and position != index + 1:
        point.note(ReasonCode.POSITIONS, "position", f"{position} where {index + 1} belongs")
    price = point.decimal("price.amount", optional=True)
    p_w = _power(point)
    if p_w is None:
        return None
    energy_wh, rest = divmod(p_w * step_ms, 3_600_000)
    if rest:
        point.note(ReasonCode.ENERGY_NOT_WHOLE, "quantity", f"{p_w} W is no whole Wh an interval")
    begin = start_ms + index * step_ms
    return Position(interval=Interval(begin, begin + step_ms), p_w=p_w, energy_wh=energy_wh), price


def _power(point: Reader) -> int | None:
    quantity = point.decimal("quantity")
    if quantity is None:
        return None
    scaled = quantity * 1000
    if scaled < 0:
        point.note(ReasonCode.NEGATIVE, "quantity", "swap in_ and out_Domain instead")
    elif scaled > P_W_MAX:
        point.note(ReasonCode.OUT_OF_RANGE, "quantity", f"more than {P_W_MAX // 1000} kW")
    elif scaled != int(scaled):
        point.note(ReasonCode.NOT_INTEGER, "quantity", "finer than a watt")
    else:
        return int(scaled)
    return None
