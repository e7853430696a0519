import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log.canonical import decode, encode
from ledger.network.message import (
    MESSAGE_BYTES_MAX,
    MessageRefused,
    read_message,
    read_vote,
    sign_message,
    sign_vote,
)


def test_a_message_is_read_back_and_named_by_what_was_signed(net):
    raw = sign_message("m", "A", 3, {"kind": "leave"}, net.key_of("A"), net.public("A"))
    message = read_message("m", raw)
    assert (message.party, message.seq, message.key) == ("A", 3, net.public("A"))
    assert message.body == {"kind": "leave"}
    again = sign_message("m", "A", 4, {"kind": "leave"}, net.key_of("A"), net.public("A"))
    assert read_message("m", again).id != message.id


def test_a_signature_is_worth_nothing_in_another_market(net):
    raw = sign_message("m", "A", 3, {"kind": "leave"}, net.key_of("A"), net.public("A"))
    with pytest.raises(MessageRefused, match="signature is wrong"):
        read_message("other", raw)


@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1},
        {"seq": True},
        {"seq": "1"},
        {"party": 7},
        {"body": []},
        {"key": None},
        {"key": "00" * 32},
        {"key": "zz" * 32},
        {"sig": "00" * 64},
        {"sig": ""},
        {"more": 1},
    ],
)
def test_anything_else_is_refused_with_a_reason(net, change):
    raw = sign_message("m", "A", 3, {"kind": "leave"}, net.key_of("A"), net.public("A"))
    with pytest.raises(MessageRefused):
        read_message("m", encode({**decode(raw), **change}))


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(raw):
    with pytest.raises(MessageRefused):
        read_message("m", raw)
    assert read_vote("m", raw, {}) is None


def test_a_message_that_no_block_can_hold_is_refused(net):
    body = {"kind": "open", "text": "x" * MESSAGE_BYTES_MAX}
    raw = sign_message("m", "A", 1, body, net.key_of("A"), net.public("A"))
    with pytest.raises(MessageRefused, match="at most"):
        read_message("m", raw)


def test_a_vote_counts_only_with_its_nodes_signature(net):
    keys = {"n0": net.public("n0"), "n1": net.public("n1")}
    vote = sign_vote("m", "n0", 7, ("aa" * 32, "bb" * 32, "cc" * 32), net.key_of("n0"))
    assert read_vote("m", vote.encode(), keys) == vote
    assert read_vote("other", vote.encode(), keys) is None
    assert read_vote("m", vote.encode(), {"n1": net.public("n1")}) is None
    for change in ({"state": "dd"}, {"height": 8}, {"node": "n1"}, {"height": True}, {"extra": 1}):
        assert read_vote("m", encode({**vote.document(), **change}), keys) is None
