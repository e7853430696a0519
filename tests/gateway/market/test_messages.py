"""Answers: signed by the gateway, canonical, believed only under its key."""

import base64
import json

import pytest
from signed_trades import START_MS, codes, key, public

from gateway.market import canonical, dsse, messages
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.reason import Reason, ReasonCode

ACKNOWLEDGEMENT = dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT


def refusal(**changes):
    fields = {
        "key": key(7),
        "message_sha256": "ab" * 32,
        "trade_id": "trd-1",
        "revision": 2,
        "accepted": False,
        "reasons": [Reason(code=ReasonCode.LATE, detail="3 s")],
        "ledger_index": 41,
    }
    return messages.acknowledgement(**(fields | changes))


def test_an_acknowledgement_says_what_the_ledger_says():
    body = messages.read_answer(refusal(), payload_type=ACKNOWLEDGEMENT, gateway_key=public(key(7)))
    assert body == {
        "schema": "sopgw/v1/acknowledgement",
        "message_sha256": "ab" * 32,
        "trade_id": "trd-1",
        "revision": 2,
        "accepted": False,
        "reasons": [{"code": "late", "detail": "3 s"}],
        "ledger_index": 41,
    }


def test_a_refusal_without_a_reason_cannot_be_made():
    with pytest.raises(AssertionError):
        refusal(reasons=[])


def test_a_delivery_names_interval_energy_and_status():
    raw = messages.delivery(
        key=key(7),
        trade_id="trd-1",
        interval=Interval(START_MS, START_MS + 900_000),
        contracted_wh=30_000,
        delivered_wh=29_990,
        status="partial",
        reasons=[ReasonCode.GUARD_P],
        ledger_index=99,
    )
    body = messages.read_answer(
        raw, payload_type=dsse.PAYLOAD_TYPE_DELIVERY, gateway_key=public(key(7))
    )
    assert body["interval"] == {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}
    assert (body["contracted_wh"], body["delivered_wh"], body["status"]) == (
        30_000,
        29_990,
        "partial",
    )
    assert body["reasons"] == ["guard_p"]
    signed_body = base64.b64decode(json.loads(raw)["payload"])
    assert signed_body == canonical.encode(body)


def test_another_key_or_another_kind_is_not_believed():
    other = messages.read_answer(
        refusal(), payload_type=ACKNOWLEDGEMENT, gateway_key=public(key(8))
    )
    assert "signer_unknown" in codes(other)
    kind = messages.read_answer(
        refusal(), payload_type=dsse.PAYLOAD_TYPE_DELIVERY, gateway_key=public(key(7))
    )
    assert codes(kind) == ["payload_type"]
    assert codes(messages.read_answer(b"{}", payload_type=ACKNOWLEDGEMENT, gateway_key=None)) == [
        "unsigned"
    ]


def test_without_a_key_an_answer_can_be_shown():
    body = messages.read_answer(refusal(), payload_type=ACKNOWLEDGEMENT, gateway_key=None)
    assert body["accepted"] is False


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), b"x", {1: 2}, {"é": 1}, [{"a": {1.0}}]])
def test_what_has_no_canonical_form_is_not_signed(value):
    with pytest.raises((TypeError, ValueError)):
        canonical.encode({"value": value})


def test_canonical_means_sorted_and_without_blanks():
    assert canonical.encode({"b": [1, None, True], "a": {"ü": 1} if False else "ü"}) == (
        '{"a":"ü","b":[1,null,true]}'.encode()
    )


def test_topics_stand_under_site_and_sop():
    topics = Topics(site="bench4", sop="SOP-1")
    assert topics.trades == "p2p/v1/bench4/SOP-1/trades"
    assert topics.availability == "sopgw/v1/bench4/SOP-1/availability"
    assert topics.acknowledgement("trd-1") == "sopgw/v1/bench4/SOP-1/trade/trd-1/acknowledgement"
    assert topics.delivery("trd-1") == "sopgw/v1/bench4/SOP-1/trade/trd-1/delivery"
    assert topics.alarm("A-120") == "sopgw/v1/bench4/SOP-1/alarm/A-120"
    assert topics.acknowledgements == "sopgw/v1/bench4/SOP-1/trade/+/acknowledgement"


@pytest.mark.parametrize("part", ["", "a/b", "+", "#", ".", "a b", "$SYS"])
def test_nothing_else_becomes_part_of_a_topic(part):
    with pytest.raises(ValueError, match="topic"):
        Topics(site=part, sop="SOP-1")
    with pytest.raises(ValueError, match="topic"):
        Topics(site="s", sop="SOP-1").delivery(part)
