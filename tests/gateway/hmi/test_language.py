import string

import pytest

from gateway.hmi.language import LANGUAGES, Words, catalogue


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
    assert words.reason("guard_p_max:T3") == "guard p max (T3)"
    assert words.reason({"word": "unmetered", "terminal": "T2"}) == "not metered (terminal T2)"
    assert words.reasons(["unsigned", "late"]) == "not signed; after the gate closed"
    assert words.reasons(None) == ""
