import sys
from pathlib import Path

from gateway.hmi import figures, history, record_parts
from gateway.hmi.language import Words

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day


def html_of(parts):
    return "".join(p.html for p in parts)


def test_story_of_a_trade_plots_both_ends_and_names_its_entries(view, entries):
    parts = record_parts.trade(view.trades, entries[:190], "T-0041", Words("en"))
    assert [p.name for p in parts] == ["trade", "power-0", "power-1", "story"]
    html = html_of(parts)
    assert "Power at terminal" in html
    assert "trade.accepted" in html
    assert ">reading<" not in html
    assert html.count('class="trace set"') >= 2


def test_ends_come_from_the_ledger_when_the_trade_is_of_another_day(entries):
    parts = record_parts.trade([], entries[:190], "T-0041", Words("en"))
    assert [p.heading for p in parts][1:3] == ["Power at terminal T2", "Power at terminal T3"]


def test_unknown_trade_says_so(view):
    (part,) = record_parts.trade(view.trades, [], "T-9999", Words("en"))
    assert "No such trade" in part.html


def test_trade_without_entries_still_shows_its_figures(view):
    html = html_of(record_parts.trade(view.trades, [], "T-0041", Words("en")))
    assert "37.488" in html
    assert "No entries of this trade" in html


def test_latest_entries_newest_first(entries):
    html = record_parts.latest(entries[-5:], Words("en")).html
    assert html.index(f"#{entries[-1]['index']}") < html.index(f"#{entries[-2]['index']}")
    assert "reading ×4" in html
    assert "T2 −200" in html


def test_entry_cannot_become_markup(entries):
    odd = {"index": 1, "kind": "<i>", "utc_us": 0, "reasons": ["<u>"], "cause": "<s>"}
    html = record_parts.latest([odd], Words("en")).html
    assert not any(tag in html for tag in ("<i>", "<u>", "<s>"))


def test_check_has_labels_for_its_fields():
    html = record_parts.check(Words("es")).html
    assert html.count("<label>") == 2
    assert 'data-bad-key="' in html


def test_energy_is_plotted_against_the_plan_with_its_tolerance():
    entries = [{**e, "index": k} for k, e in enumerate(full_day().entries)]
    parts = record_parts.trade([], entries, "A-1", Words("en"))
    energies = [p for p in parts if p.name.startswith("energy-")]
    plans = [e for e in entries if e["kind"] == "plan"]
    assert len(energies) == 2 * len(plans)
    assert all(p.html.count('class="trace limit" d="M') == 2 for p in energies)
    start, end = (figures.utc_us(plans[0]["interval"][k]) for k in ("start", "end"))
    assert history.configuration(entries)["master"] in plans[0]["planned_wh"]
    for terminal, planned_wh in plans[0]["planned_wh"].items():
        metered = history.energy(entries, terminal, start_us=start, end_us=end)
        assert abs(metered[-1][1] * 1000 - planned_wh) <= 0.02 * abs(planned_wh)


def test_an_alarm_entry_says_its_words_and_whether_it_went():
    alarm = {"kind": "alarm", "code": "A-121", "active": True, "detail": "m3", "utc_us": 0}
    words = Words("en")
    assert record_parts.what(alarm, words) == "A-121 Meter does not answer (m3)"
    gone = alarm | {"active": False, "detail": ""}
    assert record_parts.what(gone, words) == "A-121 Meter does not answer: cleared"


def test_readings_in_a_row_are_one_line_and_bury_nothing(entries):
    html = record_parts.latest(entries, Words("en")).html
    runs = [e["kind"] for e in entries].count("delivery")
    assert html.count(">reading ×180<") == runs
    assert html.count("<tr") - 1 == sum(e["kind"] != "reading" for e in entries) + runs


def test_entries_say_what_they_hold():
    words = Words("en")
    assert record_parts.what({"kind": "boot", "version": "0.1.0"}, words) == "0.1.0"
    assert record_parts.what({"kind": "config", "sha256": "ab" * 32}, words) == "ab" * 6
    plan = {"kind": "plan", "setpoints": {"T2": -60_000}, "trades": [{"trade_id": "t"}]}
    assert record_parts.what(plan, words) == "t, T2 −60.0 kW"
    delivery = {"kind": "delivery", "trades": [{"trade_id": "t", "status": "partial"}]}
    assert record_parts.what(delivery, words) == "t partial"
