import dataclasses
import xml.etree.ElementTree as ET

from gateway.hmi.gantt import ROWS_MAX, due_wh, gantt, short, shown
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
    assert "T-50" in [r.id for r in rows]
    assert [r.start_us for r in rows] == sorted(r.start_us for r in rows)


def test_day_without_trades_says_so(view):
    assert "No trades" in gantt([], view.utc_us, Words("en"))
