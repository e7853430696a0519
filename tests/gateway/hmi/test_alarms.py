from gateway.hmi.alarms import PRIORITIES, priority
from gateway.hmi.language import Words
from gateway.model.reason import ReasonCode


def test_unrated_alarm_is_low_and_estop_is_high():
    assert priority("no_such_alarm") == 3
    assert priority("estop") == priority("A-101") == 1


def test_every_rated_alarm_has_words():
    words = Words("en")
    reasons = {c.value for c in ReasonCode}
    for code in PRIORITIES:
        assert words.has(f"alarm.{code}") or code in reasons, code
