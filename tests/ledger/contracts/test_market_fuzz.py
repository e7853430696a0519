"""Whatever a party signs, no message may break a node: all nodes would break at once."""

import copy
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.contracts.document import canonical
from ledger.contracts.market import MEMBERS_ONLY, Market, Message
from ledger.contracts.rounds import commitment

START_MS = 1_767_319_200_000
SALT = "5a" * 32
KEY = {name: f"{n:064x}" for n, name in enumerate(("op", "gw", "A", "B"), 1)}

DOCUMENT = {
    "contract": "hco-1",
    "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
    "quantum_w": 40_000,
    "terminals": [{"id": f"T{n}", "s_va": 250_000, "k_min": -6, "k_max": 6} for n in (1, 2)],
    "k_dc": 6,
}
DAY = {
    "contract": "requests-1",
    "slot_s": 900,
    "suppliers": [{"id": "S", "available_wh": [9], "price": [5]}],
    "users": [{"id": "U", "demand_wh": [4]}],
    "distance_km": [[1]],
    "prev_hash": "00",
}
RESULT = {"method": "exact", "flows": [], "storage_wh": {"U": [0]}, "certificate": {"y": [[0]], "z": [[0]], "s": [[0, 0]]}}  # fmt: skip
GOOD = {
    "join": {"id": "C", "key": "ef" * 32, "role": "region", "terminal": "T3", "deposit": 5},
    "deposit": {"id": "A", "amount": 5},
    "leave": {},
    "rotate": {"new_key": "ab" * 32},
    "open": {"round": "R2", "document": DOCUMENT, "penalty_per_kwh": 3},
    "commit": {"round": "R1", "hash": "cd" * 32},
    "reveal": {"round": "R1", "salt": SALT, "offers": {"0": 0, "1": 5}},
    "answer": {"round": "R1", "trades": [{"trade_id": "x", "accepted": True, "reasons": []}]},
    "delivery": {"round": "R1", "trades": [{"trade_id": "x", "delivered_wh": 3}]},
    "slot": {"slot": "S1", "day": DAY, "result": RESULT},
}
SENDER = {"operator": "op", "gateway": "gw", "region": "A"}

numbers = st.integers(-(2**53) + 1, 2**53 - 1)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["T1", "R1", "A"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "0", "1", "-1", "start", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from places(inside, (*path, index))


@st.composite
def bodies(draw):
    """A proper body with up to two places replaced by anything."""
    kind = draw(st.sampled_from(sorted(MEMBERS_ONLY)))
    body = copy.deepcopy({"kind": kind, **GOOD[kind]})
    for _ in range(draw(st.integers(0, 2))):
        found = [path for path in places(body) if path]
        if not found:
            break
        path = draw(st.sampled_from(found))
        inside = body
        for key in path[:-1]:
            inside = inside[key]
        if draw(st.booleans()) or isinstance(inside, list):
            inside[path[-1]] = draw(values)
        else:
            del inside[path[-1]]
    return kind, body


def a_market():
    market = Market.genesis("m", "op", KEY["op"])
    seq = iter(range(1, 99))

    def send(party, **body):
        return Message(id=f"{party}", party=party, key=KEY[party], seq=next(seq), body=body)

    joins = [send("op", kind="join", id="gw", key=KEY["gw"], role="gateway")]
    joins += [
        send("op", kind="join", id=n, key=KEY[n], role="region", terminal=t, deposit=10**6)
        for n, t in (("A", "T1"), ("B", "T2"))
    ]
    opening = send("op", kind="open", round="R1", document=DOCUMENT)
    sold = commitment(SALT, {"0": 0, "1": 5}, party="A", round_id="R1")
    seal = send("A", kind="commit", round="R1", hash=sold)
    assert market.apply_block(START_MS - 900_000, [*joins, opening, seal]).refused == []
    return canonical(market.snapshot())


SNAPSHOT = a_market()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(bodies(), min_size=1, max_size=3), st.sampled_from([900, 270, 100, -1200]))
def test_no_message_breaks_the_market(messages, seconds_before):
    market = Market(json.loads(SNAPSHOT))
    signed = []
    for number, (kind, body) in enumerate(messages):
        party = SENDER[MEMBERS_ONLY[kind][-1]]
        body = json.loads(canonical(body))
        signed.append(Message(id=str(number), party=party, key=KEY[party], seq=100 + number, body=body))  # fmt: skip
    effects = market.apply_block(START_MS - 1000 * seconds_before, signed)
    assert len(effects.accepted) + len(effects.refused) == len(signed)
    assert all(refusal.mistakes for refusal in effects.refused)
    assert market.money_sum_ucur() == 0
    for party in market.registry.parties:
        assert market.registry.free_ucur(party) >= 0
    again = Market(json.loads(canonical(market.snapshot())))
    assert again.root() == market.root()
    # Later the open rounds are cleared and settled, whatever was taken before.
    market.apply_block(START_MS + 8 * 86_400_000, [])
    assert market.money_sum_ucur() == 0
