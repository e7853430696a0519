import dataclasses
from html.parser import HTMLParser

import pytest

from gateway.hmi import live_parts
from gateway.hmi.language import LANGUAGES, Words
from gateway.hmi.state import AlarmView, DeviceView, FeederView, RefusedView
from gateway.hmi.trend import Trend


def text_of(html):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.said = []

        def handle_data(self, data):
            self.said.append(data)

    reader = Reader()
    reader.feed(html)
    return reader.said


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_made_in_every_language(view, language):
    words, trend = Words(language), Trend()
    trend.add(view)
    trend.add(dataclasses.replace(view, utc_us=view.utc_us + 10**6))
    parts = [
        *live_parts.overview(view, trend, words),
        live_parts.trades_table(view, words),
        live_parts.points(view, words),
        live_parts.commissioning(view, words),
        *live_parts.system(view, words),
    ]
    assert all(p.html and p.heading for p in parts)
    assert len({p.name for p in parts}) == len(parts)


def test_alarms_by_priority_with_what_to_do(view):
    said = text_of(live_parts.alarms(view, Words("en"), heading="Alarms").html)
    assert said.index("A-120 Converter does not answer") < said.index(
        "A-160 Converter and meter disagree (m2, 1.8 %)"
    )
    assert "sopgw check wiring, compare with a clamp meter" in said
    assert "unacknowledged" in said


def test_high_alarm_is_announced_at_once_until_acknowledged(make_view):
    alarm = AlarmView(code="A-101", priority_level=1, since_us=0)
    html = live_parts.alarms(make_view(alarms=(alarm,)), Words("en"), heading="h").html
    assert 'role="alert"' in html
    assert "Emergency stop active" in html
    calm = dataclasses.replace(alarm, acknowledged=True)
    assert "role=\"alert\"" not in live_parts.alarms(make_view(alarms=(calm,)), Words("en"), heading="h").html  # fmt: skip


def test_unknown_alarm_code_is_shown_as_it_is(make_view):
    alarm = AlarmView(code="X-<1>", priority_level=9, since_us=0)
    html = live_parts.alarms(make_view(alarms=(alarm,)), Words("en"), heading="h").html
    assert "X-&lt;1&gt;" in html


def test_trades_link_to_their_story_and_receipt(view):
    html = live_parts.trades_table(view, Words("de")).html
    assert 'href="/de/trades/T-0041"' in html
    assert 'href="/receipts/T-0041.json"' in html
    assert 'href="/receipts/T-0042.json"' not in html


def test_trade_id_cannot_leave_its_link(make_view, view):
    odd = dataclasses.replace(view.trades[0], id='../"><b>')
    html = live_parts.trades_table(make_view(trades=(odd,)), Words("en")).html
    assert "/en/trades/..%2F%22%3E%3Cb%3E" in html
    assert "<b>" not in html


def test_points_show_raw_quality_and_age(view):
    said = text_of(live_parts.points(view, Words("en")).html)
    for text in ("801.2 V", "0000 1f4c", "212 ms", "? bad", "61 s"):
        assert text in said


def test_silent_device_is_marked(view):
    said = text_of(live_parts.system(view, Words("en"))[1].html)
    assert "✓ yes" in said
    assert "? no" in said
    assert "timeout <10 s>" in said


def test_failed_ledger_check_is_told(make_view, view):
    bad = dataclasses.replace(view.ledger, checked_ok=False)
    html = live_parts.ledger_facts(make_view(ledger=bad), Words("en"))
    assert "NOT verified" in html
    assert "no errors were found" not in html


def test_bare_site_is_shown_without_figures(make_view):
    bare = make_view(terminals=(), trades=(), alarms=(), devices=(), points=(), steps=(), v_dc_dv=None)  # fmt: skip
    html = "".join(p.html for p in live_parts.overview(bare, Trend(), Words("en")))
    assert "No trades" in html
    assert "No alarm is active" in html
    assert "sopgw sat new" in live_parts.commissioning(bare, Words("en")).html


def test_limits_of_the_network_operator_are_shown_and_expired_ones_said_so(make_view):
    def shown(end_us):
        limit = FeederView(
            domain="region-c", terminals=("T3",), p_w_min=-40_000, p_w_max=60_000,
            cause="congestion", start_us=0, end_us=end_us,
        )  # fmt: skip
        (part,) = live_parts.feeder(make_view(feeder=(limit,)), Words("en"))
        return " ".join(text_of(part.html))

    now_us = make_view().utc_us
    assert live_parts.feeder(make_view(), Words("en")) == []
    text = shown(now_us + 1)
    assert all(word in text for word in ("region-c", "T3", "−40.0 kW", "60.0 kW", "congestion"))
    assert "expired" not in text
    assert "expired" in shown(now_us)


def test_polls_are_told_as_bounds_and_drawn_with_their_words(make_view):
    device = DeviceView(
        name="station", kind="k", address="a", connected=True, age_ms=10,
        poll_counts=(60, 30, 9, 1, 0, 0, 0, 0, 0, 0),
    )  # fmt: skip
    html = live_parts.system(make_view(devices=(device,)), Words("en"))[1].html
    assert "≤ 5 ms, ≤ 25 ms" in " ".join(text_of(html))
    assert 'aria-label="100 polls: half of them within ≤ 5 ms, 99 of 100 within ≤ 25 ms"' in html


def test_figures_that_are_only_the_last_known_are_marked(view, silent):
    words = Words("en")

    def row(site, terminal):
        (part,) = (p for p in live_parts.overview(site, Trend(), words) if p.name == "values")
        (told,) = (r for r in part.html.split("<tr")[2:] if f">{terminal}<" in r)
        return text_of(told)

    assert "−150.2 kW" in row(view, "T2")
    assert "? 0.1 kW" in row(view, "T4"), "its meter is silent"
    assert {"? −150.2 kW", "−150.1 kW"} <= set(row(silent, "T2"))


def test_an_alarm_of_another_day_says_the_day(view):
    old = AlarmView(code="A-120", priority_level=2, since_us=view.utc_us - 86_400_000_000)
    part = live_parts.alarms(dataclasses.replace(view, alarms=(old,)), Words("en"), heading="x")
    assert "01-01 02:16" in text_of(part.html)


def test_points_of_a_silent_device_are_not_good(silent):
    said = text_of(live_parts.points(silent, Words("en")).html)
    assert "? values too old" in said
    assert "good" not in said
    (gateway, _) = live_parts.system(silent, Words("en"))
    assert "? 4.8 s" in text_of(gateway.html)


def test_refused_trades_say_why(view):
    none = text_of(live_parts.refused(view, Words("en")).html)
    assert none == ["No trades"]
    told = RefusedView(
        id="T-7", utc_us=view.utc_us, reasons=("signer_unknown", "late: a", "late: b")
    )
    unreadable = RefusedView(id="", utc_us=view.utc_us, reasons=("oversized",))
    some = dataclasses.replace(view, refused=(told, unreadable))
    said = text_of(live_parts.refused(some, Words("en")).html)
    words = Words("en")
    assert f"{words.reason('signer_unknown')}; too late (a) ×2" in said
    assert ["–", words.reason("oversized")] == said[-2:]


def test_the_detail_of_a_refusal_is_in_words(view):
    alarm = AlarmView(code="A-131", priority_level=3, since_us=0, detail="T-7: late")
    part = live_parts.alarms(dataclasses.replace(view, alarms=(alarm,)), Words("de"), heading="x")
    assert f"(T-7: {Words('de').reason('late')})" in part.html
