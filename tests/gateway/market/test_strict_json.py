"""Depth is counted as the parser nests, and hostile text costs no more than its length."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.market import strict_json
from gateway.market.strict_json import Findings, depth, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def nesting(value):
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans())
def test_depth_is_that_of_the_value(value, ascii_only):
    assert depth(json.dumps(value, ensure_ascii=ascii_only).encode()) == nesting(value)


def test_brackets_in_strings_do_not_count():
    assert depth(rb'{"a":"[[[[\"[[[["}') == 1
    assert depth(rb'["\\","[",[]]') == 2


def test_an_unterminated_string_hides_only_what_the_parser_never_reaches():
    assert depth(b'[["[[[[[[') == 2
    findings = Findings()
    assert parse(b'[["[[[[[[', findings) is None
    assert findings.reasons[0].code == "form"


def test_hostile_text_is_looked_at_once():
    # Each of these was quadratic in some reader: millions of steps for one message.
    hostile = [
        b'"' + rb"\"" * 8_000,
        b"{" + b'"a":1,' * 2_700 + b'"a":1}',
        b"[" * 16_000,
        b'"' * 16_001,
    ]
    for text in hostile:
        findings = Findings()
        assert parse(text, findings) is None or findings.reasons


def test_twice_is_said_once_for_each_key():
    findings = Findings()
    parse(b'{"b":1,"a":1,"a":2,"a":3,"b":4,"c":5}', findings)
    assert [r.text() for r in findings.reasons] == [
        "duplicate_key: /: 'b'",
        "duplicate_key: /: 'a'",
    ]


def test_real_characters_beyond_the_plane_pass_and_halves_do_not():
    findings = Findings()
    assert parse(json.dumps({"a": "\U0001f600"}).encode(), findings) == {"a": "\U0001f600"}
    assert parse('{"a":"ü😀"}'.encode(), findings) == {"a": "ü😀"}
    assert findings.reasons == []
    parse(rb'{"a":"\ude00"}', findings)
    assert [r.code for r in findings.reasons] == ["form"]


def test_integers_keep_to_what_every_reader_keeps():
    findings = Findings()
    most = 2**53 - 1
    text = json.dumps({"a": most, "b": -most, "c": 0})
    assert parse(text.encode(), findings) == json.loads(text)
    assert findings.reasons == []
    parse(json.dumps({"a": most + 1, "b": -most - 1, "c": 10**400}).encode(), findings)
    assert [r.code for r in findings.reasons] == ["out_of_range"] * 3


def test_a_strangers_text_is_quoted_short_and_plain():
    assert strict_json.quoted("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert len(strict_json.quoted("x" * 1000)) == 40
