"""Sessions and tries, from instants alone."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from gateway.hmi import doorkeeper
from gateway.hmi.doorkeeper import IDLE_S, LIFE_S, LOCK_S, SESSIONS_MAX, TRIES_MAX, Doorkeeper

HOME = {"name": "ann", "address": "192.0.2.7"}


def entered(keeper, now_s=0.0, name="ann"):
    return keeper.enter(name=name, role="viewer", address="192.0.2.7", now_s=now_s)


def test_a_session_ends_when_nothing_is_asked_for_and_after_its_life():
    keeper = Doorkeeper()
    token = entered(keeper)
    assert keeper.who(token, now_s=IDLE_S).name == "ann"
    assert keeper.who(token, now_s=2 * IDLE_S).name == "ann"
    assert keeper.who(token, now_s=3 * IDLE_S + 1) is None
    assert keeper.who(token, now_s=3 * IDLE_S) is None, "an ended session does not come back"
    token = entered(keeper)
    now_s = 0.0
    while now_s < LIFE_S:
        assert keeper.who(token, now_s=now_s) is not None
        now_s += IDLE_S / 2
    assert keeper.who(token, now_s=LIFE_S + 1) is None


def test_looking_on_does_not_keep_a_session_awake():
    keeper = Doorkeeper()
    token = entered(keeper)
    assert keeper.who(token, now_s=IDLE_S - 1, touch=False) is not None
    assert keeper.who(token, now_s=IDLE_S + 1, touch=False) is None


def test_a_name_and_an_address_are_locked_after_too_many_tries_and_not_for_ever():
    keeper = Doorkeeper()
    told = [keeper.failed(**HOME, now_s=k) for k in range(TRIES_MAX)]
    assert told == [False] * (TRIES_MAX - 1) + [True]
    assert keeper.locked_s(**HOME, now_s=TRIES_MAX) > 0
    assert keeper.locked_s(name="ann", address="10.0.0.9", now_s=TRIES_MAX) > 0
    assert keeper.locked_s(name="bob", address="192.0.2.7", now_s=TRIES_MAX) > 0
    assert keeper.locked_s(name="bob", address="10.0.0.9", now_s=TRIES_MAX) == 0
    assert keeper.locked_s(**HOME, now_s=TRIES_MAX + LOCK_S) <= 0
    assert keeper.failed(**HOME, now_s=TRIES_MAX + LOCK_S + 1) is False, "the count begins anew"


def test_a_proxy_on_this_machine_is_not_locked_for_all_its_readers():
    keeper = Doorkeeper()
    for k in range(3 * TRIES_MAX):
        keeper.failed(name="ann", address="127.0.0.1", now_s=k)
    assert keeper.locked_s(name="ann", address="127.0.0.1", now_s=20) > 0
    assert keeper.locked_s(name="bob", address="127.0.0.1", now_s=20) == 0


def test_a_right_password_forgets_the_wrong_ones():
    keeper = Doorkeeper()
    for k in range(TRIES_MAX - 1):
        keeper.failed(**HOME, now_s=k)
    entered(keeper)
    assert keeper.failed(**HOME, now_s=9) is False


def test_sessions_and_strangers_are_bounded():
    keeper = Doorkeeper()
    first = entered(keeper, 0.0)
    rest = [entered(keeper, 1.0 + k) for k in range(SESSIONS_MAX)]
    assert keeper.who(first, now_s=100) is None, "the one longest unheard of gives way"
    assert all(keeper.who(token, now_s=100) for token in rest)
    for k in range(3 * doorkeeper.NAMES_MAX):
        keeper.failed(name=f"n{k}", address=f"a{k}", now_s=k)
    assert len(keeper._tries) <= doorkeeper.NAMES_MAX


def test_whoever_is_thrown_out_is_out_everywhere():
    keeper = Doorkeeper()
    tokens = [entered(keeper), entered(keeper), entered(keeper, name="bob")]
    assert keeper.throw_out("ann") == 2
    assert [keeper.who(t, now_s=1) is not None for t in tokens] == [False, False, True]
    assert keeper.leave(tokens[2]).name == "bob"
    assert keeper.who(tokens[2], now_s=1) is None


def test_of_a_token_only_its_hash_is_kept():
    keeper = Doorkeeper()
    token = entered(keeper)
    assert len(base64.urlsafe_b64decode(token + "=")) * 8 == 256
    (kept,) = keeper._inside
    raw = kept if isinstance(kept, bytes) else str(kept).encode()
    assert token.encode() not in raw
    assert keeper.who(raw.decode("latin-1"), now_s=1) is None, "nor does the hash open anything"


@given(st.text(max_size=60))
def test_no_made_up_token_is_inside(token):
    keeper = Doorkeeper()
    entered(keeper)
    assert keeper.who(token, now_s=1) is None
