import dataclasses
import re

import pytest

from gateway.hmi import live_parts, shell
from gateway.hmi.language import LANGUAGES, Words
from gateway.hmi.state import AlarmView


def document(view, page="alarms", language="en", **more):
    words = Words(language)
    parts = [live_parts.alarms(view, words, heading=words("nav.alarms"))]
    return shell.whole(view, page, parts, words, revision="r1", **more)


@pytest.mark.parametrize("language", LANGUAGES)
def test_document_has_language_landmarks_and_one_heading(view, language):
    text = document(view, language=language)
    assert f'<html lang="{language}">' in text
    assert [text.count(f"<{tag}") for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert text.count('aria-current="page"') == 2


def test_no_inline_script_or_style_and_no_outside_address(view):
    text = document(view)
    assert re.findall(r"<script(?! type=\"module\" src=\"/static/)", text) == []
    assert " style=" not in text
    assert " onclick" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_title_carries_the_number_of_alarms(view, make_view):
    assert "<title>(2) SOP-1 · Alarms</title>" in document(view)
    assert "<title>SOP-1 · Alarms</title>" in document(make_view(alarms=()))


def test_bar_tells_simulation_staleness_and_alarms(view):
    bar = shell.status_bar(view, Words("en"), frozen=False)
    for said in ("SIMULATED DEVICES", "1 of 2 devices stale", "0 high, 1 medium, 1 low", "±3 ms"):
        assert said in bar
    assert "stands still" not in bar
    assert "stands still" in shell.status_bar(view, Words("en"), frozen=True)


def test_real_site_has_no_simulation_banner(make_view):
    bar = shell.status_bar(
        make_view(simulated=False, time_quality="invalid"), Words("en"), frozen=False
    )
    assert "SIMULATED" not in bar
    assert "Time quality: invalid" in bar


def test_cleared_alarms_are_not_counted(make_view):
    gone = AlarmView(code="A-101", priority_level=1, since_us=0, active=False)
    bar = shell.status_bar(make_view(alarms=(gone,)), Words("en"), frozen=False)
    assert "0 high, 0 medium, 0 low" in bar


def test_site_names_cannot_become_markup(view):
    odd = dataclasses.replace(view, sop="<b>", name="<i>")
    text = document(odd)
    assert "<b>" not in text
    assert "<i>" not in text


def test_page_of_the_past_does_not_follow_the_site(view):
    assert "data-events" in document(view)
    assert "data-events" not in document(view, events=False)


def test_the_bar_says_why_the_site_is_in_its_state(view):
    stuck = dataclasses.replace(view, state="FAILSAFE", reasons=("link_lost", "not_armed"))
    assert "link to the converter lost; not armed" in shell.status_bar(
        stuck, Words("en"), frozen=False
    )
