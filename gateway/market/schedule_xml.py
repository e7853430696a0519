"""A market document as the standard's XML, for systems that speak no JSON.

Prices and the ledger's note are extensions of ours and stay out; so does whatever an id is longer
than the standard allows, which is reported instead of cut.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache

from gateway.market.schedule_model import (
    CURVE_FIXED_BLOCKS,
    PRODUCT_ACTIVE_POWER,
    ROOT,
    UNIT_KW,
    Document,
    Series,
)
from gateway.market.schedule_writer import kilowatts, runs_of
from gateway.market.xml_schema import Schema
from gateway.model.interval import utc_text

NAMESPACE = "urn:iec62325.351:tc57wg16:451-2:scheduledocument:5:1"
SCHEMA_FILE = "schedule-profile.xsd"


@cache
def schema() -> Schema:
    """Return the schema of our profile."""
    return Schema.load(SCHEMA_FILE)


def write(document: Document) -> bytes | list[str]:
    """Return the document as XML, or every place where the standard cannot carry it."""
    root = ET.Element(ROOT, xmlns=NAMESPACE)
    start = min(t.start_ms for t in document.trades)
    end = max(t.end_ms for t in document.trades)
    _text(root, "mRID", document.id)
    _text(root, "revisionNumber", str(document.revision_number))
    _text(root, "type", "A01")
    _text(root, "process.processType", document.process_type)
    _text(root, "process.classificationType", "A01")
    _coded(root, "sender_MarketParticipant.mRID", document.sender)
    _text(root, "sender_MarketParticipant.marketRole.type", "A11")
    _coded(root, "receiver_MarketParticipant.mRID", document.receiver)
    _text(root, "receiver_MarketParticipant.marketRole.type", "A04")
    created_ms = document.created_utc_ms - document.created_utc_ms % 1000
    _text(root, "createdDateTime", _with_seconds(created_ms))
    _interval(root, "schedule_Time_Period.timeInterval", start, end)
    _coded(root, "domain.mRID", document.site)
    for number, series in enumerate(document.series, 1):
        _series(ET.SubElement(root, "TimeSeries"), series, number)
    ET.indent(root)
    found = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return schema().faults(found) or found


def _series(element: ET.Element, series: Series, number: int) -> None:
    trade = series.trade
    _text(element, "mRID", str(number))
    _text(element, "version", str(trade.revision_number))
    _text(element, "businessType", series.business_type or "A06")
    _text(element, "product", PRODUCT_ACTIVE_POWER)
    _text(element, "objectAggregation", "A03")
    _coded(element, "in_Domain.mRID", trade.in_domain)
    _coded(element, "out_Domain.mRID", trade.out_domain)
    if series.buyer:
        _coded(element, "in_MarketParticipant.mRID", series.buyer)
    if series.seller:
        _coded(element, "out_MarketParticipant.mRID", series.seller)
    _text(element, "marketAgreement.type", series.agreement_type or "A07")
    _text(element, "marketAgreement.mRID", trade.id)
    _coded(element, "connectingLine_RegisteredResource.mRID", trade.sop)
    _text(element, "measurement_Unit.name", UNIT_KW)
    _text(element, "curveType", CURVE_FIXED_BLOCKS)
    for run in runs_of(trade.positions):
        period = ET.SubElement(element, "Period")
        _interval(period, "timeInterval", run[0].interval.start_ms, run[-1].interval.end_ms)
        _text(period, "resolution", f"PT{run[0].interval.duration_ms // 60_000}M")
        for place, position in enumerate(run, 1):
            point = ET.SubElement(period, "Point")
            _text(point, "position", str(place))
            _text(point, "quantity", kilowatts(position.p_w))


def _text(parent: ET.Element, name: str, value: str) -> None:
    ET.SubElement(parent, name).text = value


def _coded(parent: ET.Element, name: str, value: str) -> None:
    ET.SubElement(parent, name, codingScheme="A01").text = value


def _interval(parent: ET.Element, name: str, start_ms: int, end_ms: int) -> None:
    element = ET.SubElement(parent, name)
    _text(element, "start", utc_text(start_ms))
    _text(element, "end", utc_text(end_ms))


def _with_seconds(utc_ms: int) -> str:
    text = utc_text(utc_ms)
    return text if utc_ms % 60_000 else text.replace("Z", ":00Z")
