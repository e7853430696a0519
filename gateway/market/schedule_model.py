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

DOCUMENT_TYPES = ("A01", "A02")
PROCESS_TYPES = ("A01", "A18")
BUSINESS_TYPES = ("A02", "A06")
AGREEMENT_TYPES = ("A01", "A06", "A07")
AGGREGATIONS = ("A01", "A02", "A03")
ROLES = ("A01", "A04", "A08", "A11")
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
