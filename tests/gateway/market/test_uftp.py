"""UFTP messages: signs by feeder, days and interval numbers, money that adds up."""

import xml.etree.ElementTree as ET
from decimal import Decimal

import pytest
from signed_trades import CREATED_MS, START_MS, trade

from gateway.market import uftp
from gateway.market.schedule_document import Series
from gateway.market.uftp import Parties, Side
from gateway.model.errors import ContractError
from gateway.model.interval import utc_ms_from

STEP = 900_000
PARTIES = Parties(
    sender="sop.example.com",
    recipient="dso.example.com",
    congestion_point="ea1.2026-01.example.com:feeder-2",
    time_zone="Asia/Shanghai",
    any_zone=True,
)


def series(price="408.5", currency="CNY", **changes):
    one = trade(**changes)
    return Series(
        trade=one,
        prices=(None if price is None else Decimal(price),) * len(one.positions),
        currency=currency,
    )


def orders(one, side=Side.BUYER, parties=PARTIES):
    raw = uftp.flex_orders(one, parties=parties, side=side, created_utc_ms=CREATED_MS)
    return [ET.fromstring(r) for r in raw]


def settlement(one, delivered, **changes):
    raw = uftp.flex_settlement(
        one, delivered, parties=PARTIES, side=Side.BUYER, created_utc_ms=CREATED_MS, **changes
    )
    return ET.fromstring(raw)


def test_an_order_names_day_interval_power_and_price():
    (order,) = orders(series(p_w=(1_500_000,)))
    assert order.get("Period") == "2026-01-02"
    assert order.get("ISP-Duration") == "PT15M"
    assert order.get("Price") == "153.1875"  # 375 kWh at 408.5 a MWh
    assert order.get("Currency") == "CNY"
    assert order.get("OrderReference") == "trd-1"
    (isp,) = order.findall("ISP")
    assert isp.attrib == {"Power": "-1500000", "Start": "41", "Duration": "1"}


def test_power_is_positive_at_the_sellers_feeder():
    (order,) = orders(series(), side=Side.SELLER)
    assert order.find("ISP").get("Power") == "120000"


def test_each_local_day_has_its_own_order():
    late = utc_ms_from("2026-01-02T15:45Z")  # a quarter to midnight in Shanghai
    first, second = orders(series(start_ms=late, p_w=(4_000, 8_000)))
    assert [o.get("Period") for o in (first, second)] == ["2026-01-02", "2026-01-03"]
    assert first.find("ISP").get("Start") == "96"
    assert second.find("ISP").get("Start") == "1"
    assert first.get("MessageID") != second.get("MessageID")


def test_numbers_count_elapsed_time_when_clocks_change():
    parties = Parties(
        sender="a.b.cc", recipient="d.e.ff", congestion_point="ean.123456789012",
        time_zone="Europe/Amsterdam",
    )  # fmt: skip
    spring = utc_ms_from("2026-03-29T21:45Z")  # last quarter of a day of 23 hours
    (order,) = orders(series(start_ms=spring), parties=parties)
    assert order.find("ISP").get("Start") == "92"
    autumn = utc_ms_from("2026-10-25T22:45Z")
    (order,) = orders(series(start_ms=autumn), parties=parties)
    assert order.find("ISP").get("Start") == "100"


def test_a_settlement_pays_what_was_delivered():
    one = series(p_w=(120_000, 120_000))
    found = settlement(one, {START_MS: 30_000, START_MS + STEP: 24_000})
    (order,) = found.findall("FlexOrderSettlement")
    assert order.get("Price") == "24.5100"
    assert order.get("Penalty") == "2.4510"
    assert order.get("NetSettlement") == "22.0590"
    full, part = order.findall("ISP")
    assert full.get("PowerDeficiency") == "0"
    assert part.attrib == {
        "Start": "42", "Duration": "1", "BaselinePower": "0", "OrderedFlexPower": "-120000",
        "ActualPower": "-96000", "DeliveredFlexPower": "-96000", "PowerDeficiency": "-24000",
    }  # fmt: skip
    assert found.get("PeriodStart") == found.get("PeriodEnd") == "2026-01-02"


def test_more_than_ordered_is_shown_and_not_paid():
    order = settlement(series(), {START_MS: 31_000}).find("FlexOrderSettlement")
    assert order.get("NetSettlement") == order.get("Price")
    assert order.find("ISP").get("ActualPower") == "-124000"
    assert order.find("ISP").get("DeliveredFlexPower") == "-120000"


def test_nothing_delivered_costs_the_agreed_penalty():
    order = settlement(series(), {}, penalty_per_mwh=Decimal(100)).find("FlexOrderSettlement")
    assert Decimal(order.get("NetSettlement")) == -Decimal("0.03") * 100
    assert order.find("ISP").get("PowerDeficiency") == "-120000"


def test_a_trade_without_a_price_settles_at_zero_in_no_currency():
    found = settlement(series(price=None, currency=""), {START_MS: 30_000})
    assert found.get("Currency") == "XXX"
    assert found.find("FlexOrderSettlement").get("NetSettlement") == "0.0000"


def test_writing_twice_gives_the_same_message():
    once, again = (
        uftp.flex_orders(series(), parties=PARTIES, side=Side.BUYER, created_utc_ms=CREATED_MS)
        for _ in range(2)
    )
    assert once == again


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": "Not A Domain"},
        {"recipient": ""},
        {"congestion_point": "feeder-2"},
        {"time_zone": "Asia/Shanghai", "any_zone": False},
    ],
)
def test_what_the_protocol_does_not_admit_is_refused(changes):
    fields = {f: getattr(PARTIES, f) for f in Parties.__slots__}
    with pytest.raises(ContractError):
        Parties(**(fields | changes))
