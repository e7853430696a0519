"""The verdict on a whole message: readable, or refused with every reason at once."""

import hashlib

from signed_trades import body, codes, key, signed, signers_of, trade

from gateway.market import intake
from gateway.model.message import Inbound, Readable, Unreadable

TOPIC = "p2p/v1/bench4/SOP-1/trades"


def judged(payload, *, retain=False, topic=TOPIC, required=1):
    inbound = Inbound(
        topic=topic, payload=payload, retain=retain, qos_level=1, connection_seq=1, mid_number=1
    )
    return intake.judge(
        inbound,
        topic=TOPIC,
        site="bench4",
        sop="SOP-1",
        signers=signers_of(key(1), key(2)),
        required=required,
    )


def test_a_good_message_is_readable():
    payload = signed()
    verdict = judged(payload)
    assert isinstance(verdict, Readable)
    assert verdict.trades == (trade(),)
    assert verdict.sha256 == hashlib.sha256(payload).hexdigest()
    assert verdict.revision_number == 1
    assert len(verdict.keyids) == 1


def test_a_retained_message_is_refused_however_good_it_is():
    verdict = judged(signed(), retain=True)
    assert isinstance(verdict, Unreadable)
    assert codes(verdict.reasons) == ["retained"]
    assert verdict.authentic
    assert verdict.trade_ids == ("trd-1",)


def test_every_kind_of_fault_comes_in_one_answer():
    payload = signed(body(site="other", sop="SOP-9", p_w=(121_001,)), key(3))
    verdict = judged(payload, retain=True, topic="p2p/v1/else/trades")
    assert isinstance(verdict, Unreadable)
    assert codes(verdict.reasons) == [
        "retained", "topic", "signer_unknown", "signers_too_few", "unknown_site", "energy_not_whole",
    ]  # fmt: skip
    assert not verdict.authentic
    assert verdict.trade_ids == ("trd-1",)


def test_another_sop_is_refused():
    verdict = judged(signed(body(sop="SOP-9")))
    assert isinstance(verdict, Unreadable)
    assert codes(verdict.reasons) == ["unknown_sop"]


def test_a_bare_document_is_unsigned():
    verdict = judged(body())
    assert isinstance(verdict, Unreadable)
    assert codes(verdict.reasons) == ["unsigned"]
    assert verdict.trade_ids == ()


def test_nothing_at_all_is_refused_without_a_name():
    verdict = judged(b"")
    assert isinstance(verdict, Unreadable)
    assert codes(verdict.reasons) == ["empty"]
    assert (verdict.trade_ids, verdict.authentic) == ((), False)


def test_two_signers_may_be_required():
    assert isinstance(judged(signed(body(), key(1), key(2)), required=2), Readable)
    one = judged(signed(body(), key(1)), required=2)
    assert isinstance(one, Unreadable)
    assert codes(one.reasons) == ["signers_too_few"]
