"""A market document as values: what stands in it beside the trades, and the codes it may use.

The codes are those of the ENTSO-E code list that this profile of IEC 62325-451-2 admits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.model.trade import Trade

ROOT = "Schedule_MarketDocument"
EXTENSION = "x-ledger"  # where a contract of the ledger notes how it settled the trade

# Code lists: code to meaning, as the ENTSO-E code list names it. What stands here is admitted.
DOCUMENT_TYPES = {"A01": "balance responsible schedule"}
PROCESS_TYPES = {"A01": "day ahead", "A18": "intraday total"}
CLASSIFICATION_TYPES = {"A01": "detail type"}
BUSINESS_TYPES = {
    "A02": "internal trade",
    "A06": "external trade without explicit capacity",
}
AGREEMENT_TYPES = {
    "A01": "daily contract",
    "A06": "long term contract",
    "A07": "intraday contract",
}
AGGREGATIONS = {"A01": "area", "A02": "metering point", "A03": "party"}
ROLES = {
    "A01": "trade responsible party",
    "A04": "system operator",
    "A08": "balance responsible party",
    "A11": "market operator",
}
PRODUCTS = {"8716867000016": "active power"}
UNITS = {"KWT": "kilowatt"}
PRICE_UNITS = {"MWH": "per megawatt-hour"}
CURVES = {"A01": "sequential blocks of fixed size"}
CODE_LISTS = {
    "type": DOCUMENT_TYPES,
    "process.processType": PROCESS_TYPES,
    "process.classificationType": CLASSIFICATION_TYPES,
    "marketRole.type": ROLES,
    "businessType": BUSINESS_TYPES,
    "product": PRODUCTS,
    "objectAggregation": AGGREGATIONS,
    "marketAgreement.type": AGREEMENT_TYPES,
    "measurement_Unit.name": UNITS,
    "price_Measure_Unit.name": PRICE_UNITS,
    "curveType": CURVES,
}

PRODUCT_ACTIVE_POWER = "8716867000016"
CURVE_FIXED_BLOCKS = "A01"
UNIT_KW = "KWT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One settled trade with what only the market needs beside it."""

    trade: Trade
    buyer: str = ""
    seller: str = ""
    prices: tuple[Decimal | None, ...] = ()  # per position, in ``currency`` per MWh
    currency: str = ""
    agreement_type: str = ""
    business_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A market document that passed every check of form."""

    id: str
    revision_number: int
    site: str
    sender: str
    receiver: str
    created_utc_ms: int
    process_type: str
    series: tuple[Series, ...]
    extension: Mapping[str, Any]

    @property
    def trades(self) -> tuple[Trade, ...]:
        """The trades alone, in document order."""
        return tuple(s.trade for s in self.series)
