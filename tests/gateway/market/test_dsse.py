"""Signed messages: the standard's own vector, n of m signers, and everything that must not pass."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_trades import codes, key, public, signed, signers_of

from gateway.market import dsse
from gateway.market.dsse import Opened, open_envelope

BODY = b'{"a":1}'
TYPE = dsse.PAYLOAD_TYPE_SCHEDULE


def opened(raw, *keys, required=1, payload_type=TYPE):
    return open_envelope(
        raw, payload_type=payload_type, signers=signers_of(*(keys or (key(1),))), required=required
    )


def changed(raw, **fields):
    return json.dumps(json.loads(raw) | fields).encode()


def test_the_signed_bytes_are_those_of_the_standard():
    # DSSE 1.0.0, protocol.md, test vector
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_signed_body_opens_as_the_same_bytes():
    result = opened(dsse.sign(TYPE, BODY, [key(1)]))
    assert result == Opened(BODY, (dsse.keyid(public(key(1))),))


def test_a_key_is_named_by_the_hash_of_its_raw_bytes():
    assert dsse.keyid(bytes(32)) == (
        "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ["empty"]),
        (b"{", ["form"]),
        (b"\xff\xfe{}", ["form"]),
        (b"[]", ["form"]),
        (b"null", ["form"]),
        (b"NaN", ["not_integer", "form"]),
        (BODY, ["unsigned"]),
        (b"[" * 16_000, ["depth"]),
        (b" " * 16_385, ["oversized"]),
        (changed(signed(BODY), signatures=[]), ["unsigned", "signers_too_few"]),
        (changed(signed(BODY), signatures={}), ["form"]),
        (changed(signed(BODY), signatures=[3]), ["form"]),
        (changed(signed(BODY), payloadType=7), ["form"]),
        (changed(signed(BODY), payloadType="\ud83d"), ["form", "form"]),
        (changed(signed(BODY), payloadType="t\u00ebxt"), ["form"]),
        (changed(signed(BODY), payload=1), ["form"]),
        (changed(signed(BODY), payload=1.5), ["not_integer", "form"]),
        (changed(signed(BODY), extra=1), ["unknown_field"]),
        (changed(signed(BODY), payloadType="text/plain"), ["payload_type", "signature"]),
        (signed(BODY, key(2)), ["signer_unknown", "signers_too_few"]),
        (dsse.sign("text/plain", BODY, [key(1)]), ["payload_type"]),
        (b'{"payload":"","payload":"","payloadType":"x","signatures":[]}',
         ["duplicate_key", "unsigned", "payload_type"]),
    ],
)  # fmt: skip
def test_what_does_not_count_is_refused_with_its_reasons(raw, expected):
    found = codes(opened(raw))
    assert [c for c in found if c != "signers_too_few"] == [
        c for c in expected if c != "signers_too_few"
    ]


@pytest.mark.parametrize(
    "spelling", ["eyJhIjoxfR==", "eyJhIjoxfQ", "eyJhIjox fQ==", "eyJhIjoxf_=="]
)
def test_base64_has_one_spelling(spelling):
    assert base64.b64encode(BODY) == b"eyJhIjoxfQ=="
    assert codes(opened(changed(signed(BODY), payload=spelling))) == ["form"]


def test_two_of_three_signers_must_be_distinct_and_known():
    three = [key(1), key(2), key(3)]
    assert isinstance(opened(signed(BODY, key(1), key(3)), *three, required=2), Opened)
    assert codes(opened(signed(BODY, key(1)), *three, required=2)) == ["signers_too_few"]
    twice = json.loads(signed(BODY, key(1)))
    twice["signatures"] *= 2
    assert codes(opened(json.dumps(twice).encode(), *three, required=2)) == [
        "form",
        "signers_too_few",
    ]


def test_an_unknown_signer_refuses_even_beside_enough_known_ones():
    assert codes(opened(signed(BODY, key(9), key(1)), key(1))) == ["signer_unknown"]


def test_a_bad_signature_of_a_known_key_refuses_even_beside_enough_good_ones():
    good = json.loads(signed(BODY, key(1), key(2)))
    good["signatures"][1]["sig"] = base64.b64encode(bytes(64)).decode()
    result = opened(json.dumps(good).encode(), key(1), key(2), required=1)
    assert codes(result) == ["signature"]


def test_more_signatures_than_any_market_has_are_not_even_looked_at():
    many = json.loads(signed(BODY))
    many["signatures"] = [{"keyid": str(i), "sig": ""} for i in range(17)]
    assert "oversized" in codes(opened(json.dumps(many).encode()))


def test_a_co_signature_is_added_and_replaced():
    once = signed(BODY, key(1))
    both = dsse.add_signature(once, key(2))
    assert isinstance(opened(both, key(1), key(2), required=2), Opened)
    assert dsse.add_signature(both, key(2)) == both
    assert codes(dsse.add_signature(b"{}", key(2))) == ["unsigned"]


MESSAGE = signed(BODY, key(1), key(2))


def test_no_flipped_bit_passes_although_one_of_two_signatures_would_do():
    assert isinstance(opened(MESSAGE, key(1), key(2)), Opened)
    for position in range(len(MESSAGE) * 8):
        flipped = bytearray(MESSAGE)
        flipped[position // 8] ^= 1 << position % 8
        assert isinstance(opened(bytes(flipped), key(1), key(2)), list), position


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_bring_it_down(raw):
    assert isinstance(opened(raw), list)
    dsse.peek(raw)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig", "x"]),
                inner,
            )
        ),
    )
)
def test_no_json_brings_it_down(value):
    assert isinstance(opened(json.dumps(value).encode("utf-8", "surrogatepass")), list)
