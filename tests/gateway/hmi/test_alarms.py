import dataclasses

from gateway.core.alarms import AlarmBook, Rule
from gateway.hmi import live_parts, metrics, shell
from gateway.hmi.alarms import PRIORITIES, as_listed, priority
from gateway.hmi.language import Words
from gateway.hmi.state import AlarmView
from gateway.model.reason import ReasonCode
from gateway.northbound.values import values_of
from gateway.runtime.alarms import rows


def test_unrated_alarm_is_low_and_estop_is_high():
    assert priority("no_such_alarm") == 3
    assert priority("estop") == priority("A-101") == 1


def test_every_rated_alarm_has_words():
    words = Words("en")
    reasons = {c.value for c in ReasonCode}
    for code in PRIORITIES:
        assert words.has(f"alarm.{code}") or code in reasons, code


def listed(code, level):
    return Rule(
        code=code, what="Pump stands", cause="", consequence="", response="Start the pump",
        respond_s=60, priority_level=level, delay_ms=0, clear_delay_ms=0,
    )  # fmt: skip


def test_the_sites_own_list_rates_and_a_shelf_takes_out_of_sight(view):
    book, now_us = AlarmBook(), view.utc_us
    for code in ("X-1", "A-160", "A-121"):
        alarm = {"kind": "alarm", "code": code, "active": True, "detail": "d", "utc_us": now_us}
        book.take(0, alarm)
    told = [AlarmView(code=c, priority_level=priority(c), since_us=now_us) for c in book.standing]
    told.append(AlarmView(code="A-120", priority_level=2, since_us=1, active=False))
    shelve = {"kind": "operator", "verb": "shelve", "user": "uid:1", "utc_us": now_us, "reason": "",
              "arguments": {"code": "A-160", "for_s": 3_600}}  # fmt: skip
    book.take(3, shelve)
    found = as_listed(told, rows(book, [listed("X-1", 1), listed("A-121", 2)], utc_us=now_us))
    assert [a.code for a in found] == ["X-1", "A-160", "A-121", "A-120"]
    seen = dataclasses.replace(view, alarms=found)
    text = metrics.render(seen)
    assert 'sopgw_alarm_active{sop="SOP-1",code="X-1",priority="1"} 1' in text
    assert 'code="A-160"' not in text
    assert 'sopgw_alarms{sop="SOP-1",priority="3"} 0' in text
    assert next(v.content for v in values_of(seen) if v.name == "ActiveAlarms") == 2
    words = Words("en")
    assert shell.title(seen, "alarms", words).startswith("(2) ")
    assert words("bar.alarms", high=1, medium=1, low=0) in shell.status_bar(
        seen, words, frozen=False
    )
    html = live_parts.alarms(seen, words, heading="Alarms").html
    assert "X-1 Pump stands (d)" in html
    assert "Start the pump" in html
    assert "shelved until 03:16 UTC" in html
    assert html.index("X-1") < html.index("A-120") < html.index("A-160")
