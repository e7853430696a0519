"""The alarm engine: delays both ways, silence by cause, what people say, statistics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.alarms import AlarmBook, Change, Rule, gaps_s, refusal, statistics, step

HOUR_US = 3_600_000_000


def rule(code, *, delay_s=0, clear_s=0, unless=(), level=3):
    return Rule(
        code=code, what=code, cause="c", consequence="c", response="r", respond_s=60,
        priority_level=level, delay_ms=delay_s * 1000, clear_delay_ms=clear_s * 1000, unless=unless,
    )  # fmt: skip


RULES = (rule("A", delay_s=10, clear_s=5), rule("B", unless=("A",), level=2), rule("C", level=1))


class Watched:
    """Steps through time, keeping what the engine hands back."""

    def __init__(self, rules=RULES):
        self.rules, self.active, self.pending, self.now_us = rules, set(), {}, 0

    def at(self, second, *found):
        self.now_us = second * 1_000_000
        changes, self.pending = step(
            self.rules, active=self.active, found=dict.fromkeys(found, "d"),
            pending=self.pending, mono_us=self.now_us,
        )  # fmt: skip
        for change in changes:
            (self.active.add if change.active else self.active.discard)(change.code)
        return [(c.code, c.active) for c in changes]


def test_it_comes_when_its_condition_held_for_its_delay():
    seen = Watched()
    assert seen.at(0, "A") == []
    assert seen.at(9, "A") == []
    assert seen.at(10, "A") == [("A", True)]


def test_a_condition_that_flickers_never_comes():
    seen = Watched()
    for second in range(0, 100, 2):
        assert seen.at(second, *(["A"] if second % 8 else [])) == []


def test_it_goes_when_it_was_away_for_its_delay():
    seen = Watched()
    seen.at(0, "A")
    seen.at(10, "A")
    assert seen.at(11) == []
    assert seen.at(13, "A") == []
    assert seen.at(14) == []
    assert seen.at(18) == []
    assert seen.at(19) == [("A", False)]


def test_what_another_alarm_explains_stays_silent_but_what_stands_goes_on_standing():
    seen = Watched()
    assert seen.at(0, "A", "B") == []
    assert seen.at(20, "B") == [("B", True)]
    seen.at(30, "A", "B")
    assert seen.at(41, "A", "B") == [("A", True)]
    assert seen.active == {"A", "B"}, "an alarm people see does not vanish because of another one"
    assert seen.at(42) == [("B", False)]


def test_a_code_of_an_older_list_is_cleared():
    changes, _ = step(RULES, active={"link_lost"}, found={}, pending={}, mono_us=0)
    assert changes == (Change(code="link_lost", active=False, detail="no such alarm any more"),)


@given(st.lists(st.sets(st.sampled_from("ABC")), max_size=40))
def test_coming_and_going_alternate(course):
    seen = Watched()
    told = []
    for second, found in enumerate(course):
        told += seen.at(7 * second, *found)
    for code in "ABC":
        mine = [active for c, active in told if c == code]
        assert mine == [n % 2 == 0 for n in range(len(mine))]


# What people say


def book(*entries):
    made = AlarmBook()
    for index, entry in enumerate(entries):
        made.take(index, entry)
    return made


def alarm(code, at_s, *, active=True):
    return {"kind": "alarm", "code": code, "active": active, "detail": "", "utc_us": at_s * 10**6}


def said(verb, code, at_s, **more):
    return {"kind": "operator", "verb": verb, "user": "uid:1", "reason": more.pop("reason", ""),
            "arguments": {"code": code, **more}, "utc_us": at_s * 10**6}  # fmt: skip


def test_acknowledged_counts_until_it_comes_again():
    found = book(alarm("A", 0), said("ack", "A", 1))
    assert found.standing["A"].acknowledged
    assert not found.standing["A"].loud(0)
    found.take(2, alarm("A", 2, active=False))
    assert "A" not in found.standing, "gone and seen: nothing is left to look at"
    found.take(3, alarm("A", 3))
    assert not found.standing["A"].acknowledged


def test_what_went_unseen_stays_until_it_is_acknowledged():
    found = book(alarm("A", 0), alarm("A", 1, active=False))
    assert not found.standing["A"].active
    found.take(2, said("ack", "A", 2))
    assert found.standing == {}


def test_a_shelf_ends_by_itself_and_keeps_who_and_why():
    found = book(alarm("A", 0), said("shelve", "A", 10, for_s=60, reason="meter is replaced"))
    standing = found.standing["A"]
    assert (standing.shelved_by, standing.shelved_why) == ("uid:1", "meter is replaced")
    assert standing.shelved(69 * 10**6)
    assert not standing.shelved(70 * 10**6)
    assert standing.loud(71 * 10**6)
    found.take(2, said("unshelve", "A", 20))
    assert found.standing["A"].loud(21 * 10**6)


def test_a_shelved_alarm_that_comes_again_is_still_on_the_shelf():
    found = book(alarm("A", 0), said("shelve", "A", 1, for_s=600), alarm("A", 2, active=False),
                 alarm("A", 3))  # fmt: skip
    assert found.standing["A"].shelved(4 * 10**6)


@pytest.mark.parametrize(
    ("verb", "fields", "word"),
    [
        ("ack", {"code": "B"}, "does not stand"),
        ("ack", {"code": "X"}, "no such alarm"),
        ("ack", {}, "no such alarm"),
        ("shelve", {"code": "A", "for_s": 60}, "reason"),
        ("shelve", {"code": "A", "for_s": 60, "reason": "  "}, "reason"),
        ("shelve", {"code": "A", "for_s": 90_000, "reason": "x"}, "24 h"),
        ("shelve", {"code": "A", "for_s": 0, "reason": "x"}, "24 h"),
        ("shelve", {"code": "A", "reason": "x"}, "24 h"),
        ("shelve", {"code": "C", "for_s": 60, "reason": "x"}, "priority 1"),
    ],
)
def test_what_does_not_count_is_refused_with_the_reason(verb, fields, word):
    assert word in refusal(book(alarm("A", 0), alarm("C", 0)), RULES, verb, fields)


def test_what_counts_is_not_refused():
    standing = book(alarm("A", 0))
    assert refusal(standing, RULES, "ack", {"code": "A"}) is None
    assert refusal(standing, RULES, "unshelve", {"code": "A"}) is None
    fields = {"code": "A", "for_s": 86_400, "reason": "x"}
    assert refusal(standing, RULES, "shelve", fields) is None


# Statistics


def test_a_flood_is_counted_and_named():
    entries = [alarm("B", 30 * n) for n in range(15)] + [alarm("C", 7200)]
    found = statistics(book(*entries), RULES, utc_us=8000 * 10**6, days_count=1)
    assert found.raised_count == 16
    assert found.peak_count == 15
    assert found.flood_count == 15
    assert found.by_priority == {1: 1, 2: 15}
    assert found.most[0] == ("B", 15)
    assert found.chattering == ("B",)


def test_three_in_a_minute_chatter_and_two_do_not():
    two = statistics(book(alarm("A", 0), alarm("A", 40)), RULES, utc_us=10**9, days_count=1)
    three = book(alarm("A", 0), alarm("A", 30), alarm("A", 60))
    assert two.chattering == ()
    assert statistics(three, RULES, utc_us=10**9, days_count=1).chattering == ("A",)
    assert gaps_s(three, "A") == [30, 30]


def test_what_stands_for_a_day_is_named_standing_or_gone():
    day_s = 86_400
    entries = [alarm("A", 0), alarm("B", 0), alarm("B", day_s + 1, active=False), alarm("C", 0),
               alarm("C", 60, active=False)]  # fmt: skip
    found = statistics(book(*entries), RULES, utc_us=(day_s + 10) * 10**6, days_count=2)
    assert found.long_standing == ("A", "B")


def test_older_days_do_not_count():
    found = statistics(book(alarm("A", 0)), RULES, utc_us=25 * HOUR_US, days_count=1)
    assert found.raised_count == 0
