import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.hmi.delivery_report import INSTRUCTIONS_MAX, render
from gateway.hmi.language import LANGUAGES

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day


class Outline(HTMLParser):
    """Collects what a reader and a browser would find, and checks that tags pair up."""

    VOID = {"meta", "rect", "line", "path"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.links, self.ids, self.cells = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in {"src", "href", "action", "data"}]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells.append(data)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_file_without_script_or_outside_reference(report, entries, truth, language):
    text = render(report, entries, truth, language=language)
    page = Outline(text)
    assert "script" not in page.tags
    assert page.links == []
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"] * text.count(
        "<svg "
    )
    assert len(page.ids) == len(set(page.ids))
    assert f'<html lang="{language}">' in text


def test_every_trade_with_its_figures_and_reasons_in_words(report, entries):
    cells = Outline(render(report, entries)).cells
    for said in ("T-0041", "T2→T3 150 kW", "37.500", "37.488", "−0.03 %", "● delivered"):
        assert said in cells
    assert "◐ partial" in cells
    assert "already received" in cells
    assert "message m-5<script>" in cells


def test_refused_message_is_named_by_its_trade_and_its_hash(report, entries):
    report["trades"][-1] = {"message_id": "a" * 64, "trade_id": "T-9", "status": "refused", "reasons": []}  # fmt: skip
    text = render(report, entries)
    assert "T-9<br>" in text
    assert "message aaaaaaaa…aaaaaa" in text
    assert f'title="{"a" * 64}"' in text


def test_faults_in_words(report, entries):
    report["faults"] = [{"fault": "link_cut", "for_s": 300, "trade": "T-8"}, "internal"]
    text = render(report, entries)
    assert "link to the converter cut, 300 s, trade T-8" in text
    assert "<li>internal</li>" in text


def test_input_cannot_become_markup(report, entries):
    report["trades"][0]["id"] = '"><img src=x>'
    report["faults"] = ["<b>bold</b>"]
    page = Outline(render(report, entries))
    assert "img" not in page.tags
    assert "b" not in page.tags


def test_a_plot_for_each_terminal_and_one_of_energy(report, entries, truth):
    text = render(report, entries, truth)
    for terminal in ("T1", "T2", "T3", "T4"):
        assert f"Power at terminal {terminal}" in text
    assert text.count("<svg ") == 6
    assert text.count('class="trace set" d="M') == 4


def test_dc_voltage_says_where_it_comes_from_or_that_it_was_not_recorded(report, entries, truth):
    assert "not recorded" in render(report, entries)
    assert "own trace" in render(report, entries, truth)
    entries.append({**entries[-1], "kind": "readback", "v_dc_dv": 8_000})
    text = render(report, entries, truth)
    assert "own trace" not in text
    assert "not recorded" not in text


def test_ledger_not_verified_cannot_be_overlooked(report, entries):
    assert "no errors were found" in render(report, entries)
    report["ledger"]["verified"] = False
    report["ok"] = False
    text = render(report, entries)
    assert "NOT verified" in text
    assert "no errors were found" not in text
    assert "something did not hold" in text


def test_commands_to_verify_name_a_receipt_of_this_report(report, entries):
    text = render(report, entries)
    assert "sopledger verify ledger --key ledger.vkey" in text
    assert "sopledger receipt verify receipts/T-0041.json --key ledger.vkey" in text


def test_same_input_gives_same_bytes(report, entries, truth):
    assert render(report, entries, truth) == render(report, entries, truth)


def test_report_of_nothing_is_still_a_report():
    text = render({"ok": False, "trades": [], "faults": []}, [])
    assert "No trades" in text
    assert "not recorded" in text
    Outline(text)


def test_many_instructions_are_cut_with_a_word(report, entries):
    intent = next(e for e in entries if e["kind"] == "intent")
    more = [{**intent, "index": 10_000 + k} for k in range(INSTRUCTIONS_MAX)]
    text = render(report, [*entries, *more])
    assert f"The first {INSTRUCTIONS_MAX} are listed" in text
    assert text.count("#1000") <= INSTRUCTIONS_MAX


def test_entries_of_a_full_day_are_understood():
    day = full_day().entries
    text = render({"ok": True, "trades": [], "ledger": {"verified": True}}, [{**e, "index": k} for k, e in enumerate(day)])  # fmt: skip
    Outline(text)
    terminals = next(e for e in day if e["kind"] == "config")["config"]["terminals"]
    assert text.count('class="trace measured" d="M') == len(terminals)
    assert text.count('class="trace set" d="M') == len(terminals)
