"""Settled trades and their delivery in UFTP (Shapeshifter 3.1) words, for a system operator.

Two messages: ``FlexOrder`` for what a trade asks of one feeder, ``FlexSettlement`` for what came
of it. Power in UFTP is positive when the feeder's customers take more from it: at the seller's
feeder, where the SOP takes power out, it is positive, at the buyer's negative. Message ids follow
from the content, so writing twice gives the same message.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from gateway.market.schedule_model import Series
from gateway.model.errors import ContractError
from gateway.model.interval import utc_text
from gateway.model.trade import Position, Trade

VERSION = "3.1.0"
NO_CURRENCY = 3 * "X"  # ISO 4217: a transaction without a currency
_CENTS = Decimal("0.0001")  # UFTP amounts have four digits
_IDS = uuid.UUID("6f3e1b0a-2c59-5d7e-9a51-8d1f0c5b7e42")  # name space of our message ids
_DOMAIN = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}")
_ZONE = re.compile(r"(Africa|America|Australia|Europe|Pacific)/[a-zA-Z0-9_/]{3,}")
_POINT = re.compile(r"ea1\.[0-9]{4}-[0-9]{2}\..{1,244}:.{1,244}|ean\.[0-9]{12,34}")


class Side(enum.Enum):
    """The feeder a message is about, and the sign of power there."""

    SELLER = 1
    BUYER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Who writes to whom, about which feeder, in which day.

    ``time_zone`` cuts time into days and numbers the intervals in them. UFTP admits zones of
    Africa, America, Australia, Europe and the Pacific only; another one is written as it is when
    ``any_zone`` is set, for operators whose systems take it.
    """

    sender: str  # internet domain
    recipient: str
    congestion_point: str
    time_zone: str
    any_zone: bool = False

    def __post_init__(self) -> None:
        for domain in (self.sender, self.recipient):
            if not _DOMAIN.fullmatch(domain):
                raise ContractError(f"{domain!r} is no internet domain as UFTP writes it")
        if not _POINT.fullmatch(self.congestion_point):
            raise ContractError(f"{self.congestion_point!r} is not ea1.YYYY-MM.DOMAIN:NAME")
        if not self.any_zone and not _ZONE.fullmatch(self.time_zone):
            raise ContractError(f"UFTP does not admit the time zone {self.time_zone}")


def flex_orders(
    series: Series, *, parties: Parties, side: Side, created_utc_ms: int
) -> list[bytes]:
    """Return one FlexOrder a local day for one side of a trade."""
    orders = []
    priced = dict(zip(series.trade.positions, series.prices, strict=False))
    for day, positions in _days(series.trade.positions, parties.time_zone).items():
        price = sum((_amount(p.energy_wh, priced.get(p)) for p in positions), Decimal(0))
        root = _message("FlexOrder", parties, created_utc_ms, (series.trade, day, side))
        root.set("ISP-Duration", _resolution(positions[0]))
        root.set("TimeZone", parties.time_zone)
        root.set("Period", day.isoformat())
        root.set("CongestionPoint", parties.congestion_point)
        root.set("Unsolicited", "true")
        root.set("Price", str(price.quantize(_CENTS)))
        root.set("Currency", series.currency or NO_CURRENCY)
        root.set("OrderReference", series.trade.id)
        for position in positions:
            number = _number(position, day, parties.time_zone)
            power = str(side.value * position.p_w)
            ET.SubElement(root, "ISP", Power=power, Start=number, Duration="1")
        orders.append(_bytes(root))
    return orders


def flex_settlement(
    series: Series,
    delivered_wh: Mapping[int, int],
    *,
    parties: Parties,
    side: Side,
    created_utc_ms: int,
    penalty_per_mwh: Decimal = Decimal(0),
) -> bytes:
    """Return the FlexSettlement of one trade.

    What was not delivered is not paid: the standard wants the price of the whole order and a
    penalty beside it, so the penalty holds the price of the missing energy and what
    ``penalty_per_mwh`` adds to it. NetSettlement is the price of what was delivered minus that.

    Args:
        series: the trade with its prices.
        delivered_wh: by start of the interval in UTC ms; a missing one counts as nothing.
        parties: who writes to whom.
        side: which feeder.
        created_utc_ms: time stamp of the message.
        penalty_per_mwh: agreed penalty for missing energy.
    """
    trade = series.trade
    days = _days(trade.positions, parties.time_zone)
    root = _message("FlexSettlement", parties, created_utc_ms, (trade, *days, side))
    root.set("PeriodStart", min(days).isoformat())
    root.set("PeriodEnd", max(days).isoformat())
    root.set("Currency", series.currency or NO_CURRENCY)
    priced = dict(zip(trade.positions, series.prices, strict=False))
    for day, positions in days.items():
        order = ET.SubElement(root, "FlexOrderSettlement")
        order.set("OrderReference", trade.id)
        order.set("Period", day.isoformat())
        order.set("ContractID", trade.id)
        order.set("BaselineReference", "sop-at-zero")
        order.set("CongestionPoint", parties.congestion_point)
        price = penalty = Decimal(0)
        for p in positions:
            came_wh = delivered_wh.get(p.interval.start_ms, 0)
            missing_wh = max(0, p.energy_wh - came_wh)
            price += _amount(p.energy_wh, priced.get(p))
            penalty += _amount(missing_wh, (priced.get(p) or Decimal(0)) + penalty_per_mwh)
            _settled(order, p, came_wh, missing_wh, side, _number(p, day, parties.time_zone))
        order.set("Price", str(price.quantize(_CENTS)))
        order.set("Penalty", str(penalty.quantize(_CENTS)))
        order.set("NetSettlement", str((price - penalty).quantize(_CENTS)))
    contract = ET.SubElement(root, "ContractSettlement", ContractID=trade.id)
    for day, positions in days.items():
        period = ET.SubElement(contract, "Period", Period=day.isoformat())
        for p in positions:
            ordered = str(side.value * p.p_w)
            number = _number(p, day, parties.time_zone)
            ET.SubElement(
                period,
                "ISP",
                Start=number,
                Duration="1",
                ReservedPower=ordered,
                OrderedPower=ordered,
            )
    return _bytes(root)


def _settled(
    order: ET.Element, p: Position, came_wh: int, missing_wh: int, side: Side, number: str
) -> None:
    counted_wh = p.energy_wh - missing_wh
    ET.SubElement(
        order,
        "ISP",
        Start=number,
        Duration="1",
        BaselinePower="0",
        OrderedFlexPower=str(side.value * p.p_w),
        ActualPower=str(side.value * _mean_w(came_wh, p)),
        DeliveredFlexPower=str(side.value * _mean_w(counted_wh, p)),
        PowerDeficiency=str(side.value * _mean_w(missing_wh, p)),
    )


def _mean_w(energy_wh: int, position: Position) -> int:
    """Mean power of whole Wh in one interval: exact, as an hour is a multiple of it."""
    return energy_wh * 3_600_000 // position.interval.duration_ms


def _amount(energy_wh: int, price_per_mwh: Decimal | None) -> Decimal:
    exact = energy_wh * (price_per_mwh or Decimal(0)) / 1_000_000
    return exact.quantize(_CENTS, rounding=ROUND_HALF_UP)


def _days(positions: Sequence[Position], time_zone: str) -> dict[dt.date, list[Position]]:
    zone = ZoneInfo(time_zone)
    days: dict[dt.date, list[Position]] = {}
    for position in positions:
        moment = dt.datetime.fromtimestamp(position.interval.start_ms / 1000, tz=zone)
        days.setdefault(moment.date(), []).append(position)
    return days


def _number(position: Position, day: dt.date, time_zone: str) -> str:
    """Count intervals from local midnight in elapsed time, so that it holds when clocks change."""
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=ZoneInfo(time_zone))
    elapsed_ms = position.interval.start_ms - round(midnight.timestamp() * 1000)
    return str(elapsed_ms // position.interval.duration_ms + 1)


def _resolution(position: Position) -> str:
    return f"PT{position.interval.duration_ms // 60_000}M"


def _message(
    name: str, parties: Parties, created_utc_ms: int, about: tuple[Trade | dt.date | Side, ...]
) -> ET.Element:
    trade = about[0]
    assert isinstance(trade, Trade)
    stamp = utc_text(created_utc_ms)
    key = f"{name} {trade.id} {trade.revision_number} {about[1:]} {parties} {stamp}"
    return ET.Element(
        name,
        Version=VERSION,
        SenderDomain=parties.sender,
        RecipientDomain=parties.recipient,
        TimeStamp=stamp if created_utc_ms % 60_000 else stamp.replace("Z", ":00Z"),
        MessageID=str(uuid.uuid5(_IDS, key)),
        ConversationID=str(uuid.uuid5(_IDS, trade.id)),
    )


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
