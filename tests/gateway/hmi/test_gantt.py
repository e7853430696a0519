import dataclasses
import xml.etree.ElementTree as ET

from gateway.hmi.gantt import INTERVALS_MAX, ROWS_MAX, due_wh, gantt, short, shown
from gateway.hmi.language import Words

NS = {"s": "http://www.w3.org/2000/svg"}


def test_due_energy_grows_evenly_over_the_window(view):
    trade = view.trades[0]
    span = trade.end_us - trade.start_us
    assert due_wh(trade, trade.start_us - 1) == 0
    assert due_wh(trade, trade.start_us + span // 2) == 18_750
    assert due_wh(trade, trade.end_us + 1) == 37_500


def test_colour_only_for_what_is_behind_beyond_tolerance(view):
    trade = view.trades[0]
    assert not short(trade, trade.end_us)
    assert short(dataclasses.replace(trade, delivered_wh=37_000), trade.end_us)
    middle = (trade.start_us + trade.end_us) // 2
    assert not short(dataclasses.replace(trade, delivered_wh=18_700), middle)
    assert short(dataclasses.replace(trade, delivered_wh=9_000), middle)
    assert not short(dataclasses.replace(trade, delivered_wh=None), middle)
    assert short(dataclasses.replace(trade, status="failed"), middle)


def test_bars_tell_the_delivered_share(view):
    root = ET.fromstring(gantt(view.trades, view.utc_us, Words("en")))
    boxes = [(r.get("class"), float(r.get("width"))) for r in root.findall("s:rect", NS)]
    whole, part = boxes[0][1], boxes[1][1]
    assert boxes[1][0] == "delivered abnormal"
    assert abs(part / whole - 16_120 / 25_000) < 0.001
    said = [t.text for t in root.findall("s:text", NS)]
    assert "16.1 of 25.0 kWh" in said
    assert "now" in said


def test_only_the_trades_around_now_are_drawn(view):
    many = [
        dataclasses.replace(view.trades[0], id=f"T-{k}", start_us=k * 10**9, end_us=(k + 1) * 10**9)
        for k in range(100)
    ]
    rows = shown(many, 50 * 10**9 + 1)
    assert len(rows) == ROWS_MAX
    assert "T-50" in [row[0].id for row in rows]
    assert [row[0].start_us for row in rows] == sorted(row[0].start_us for row in rows)


def test_intervals_of_a_trade_share_a_row_that_says_how_it_stands_now(view):
    day = [
        dataclasses.replace(view.trades[0], id="T-9", start_us=k * 9 * 10**8,
                            end_us=(k + 1) * 9 * 10**8, status="delivered" if k < 40 else "planned")
        for k in range(300)
    ]  # fmt: skip
    day[40] = dataclasses.replace(day[40], status="running")
    now_us = day[40].start_us + 1
    (row,) = shown(day, now_us)
    assert len(row) == INTERVALS_MAX
    assert day[40] in row
    root = ET.fromstring(gantt(day, now_us, Words("en")))
    said = [t.text for t in root.findall("s:text", NS)]
    assert [s for s in said if "T-9" in s] == ["▶ T-9 T2→T3 150 kW"]
    assert not [s for s in said if "kWh" in s], "there is no room beside its boxes"
    boxes = [r.get("class") for r in root.findall("s:rect", NS)]
    assert boxes.count("contracted") == INTERVALS_MAX


def test_day_without_trades_says_so(view):
    assert "No trades" in gantt([], view.utc_us, Words("en"))
