import string
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gateway.hmi.language import LANGUAGES, Words, catalogue
from gateway.model.reason import ReasonCode


def places(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_catalogue_has_the_same_keys_and_places(language):
    english, other = catalogue("en"), catalogue(language)
    assert list(other) == list(english)
    assert {k: places(t) for k, t in other.items()} == {k: places(t) for k, t in english.items()}
    assert all(t.strip() for t in other.values())


def test_unknown_language_is_named():
    with pytest.raises(LookupError, match="'fr'"):
        Words("fr")("title.report")


def test_reasons_in_words_with_their_detail():
    words = Words("en")
    assert words.reason("duplicate") == "already received"
    assert words.reason("guard_p: 230.0 kW at T2") == "site limit of active power (230.0 kW at T2)"
    assert words.reason("a_word_of_tomorrow") == "a word of tomorrow"
    assert words.reason({"code": "unmetered", "detail": "T2"}) == "not metered (T2)"
    assert words.reasons(["unsigned", "late"]) == "not signed; too late"
    assert words.reasons(None) == ""


def test_every_reason_of_the_model_has_its_words():
    assert [c for c in ReasonCode if not Words("en").has(f"reason.{c.value}")] == []


def test_alarms_are_called_as_in_the_alarm_file():
    path = Path(__file__).parents[3] / "configs" / "alarms.yaml"
    for code, row in YAML(typ="safe").load(path.read_text())["alarms"].items():
        assert Words("en")(f"alarm.{code}") == row["what"]
        assert Words("en")(f"alarm.{code}.do") == row["response"]


def test_a_reason_with_its_detail_does_not_contradict_it():
    words = Words("en")
    assert words.reason("watchdog") == "device watchdog acted"
    assert words.reason("watchdog: not armed yet") == "device watchdog (not armed yet)"
