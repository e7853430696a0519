"""Whatever a party signs, no message may break a node: all nodes would break at once."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.contracts.document import canonical
from ledger.contracts.market import MEMBERS_ONLY, Market, Message
from ledger.contracts.requests_document import day_from, outcome
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
STORAGE = {"initial_wh": 1, "max_wh": 5, "target_wh": 2, "charge_wh": 2, "discharge_wh": 2}
DAY = {
    "contract": "requests-1",
    "slot_s": 900,
    "suppliers": [
        {"id": "S1", "technology": "wind", "renewable": True, "available_wh": [9, 4], "price": [5, 6]},
        {"id": "S2", "available_wh": [3, 7], "price": [4, 8]},
    ],
    "users": [{"id": "U1", "demand_wh": [4, 2], "storage": STORAGE}, {"id": "U2", "demand_wh": [3, 6]}],
    "distance_km": [[1, 2], [2, 1]],
    "capacity_wh": [[9, 9], [9, 9]],
    "transmission_price_per_kwh_km": 1,
    "voll_per_kwh": 100,
    "prev_hash": Market.genesis("m", "op", KEY["op"]).beacons[-1],
}  # fmt: skip
RESULT = outcome(day_from(DAY), "exact")
GOOD = {
    "join": {"id": "C", "key": "ef" * 32, "role": "region", "terminal": "T3", "deposit": 5},
    "deposit": {"id": "A", "amount": 5},
    "payment": {"id": "A", "amount": 5},
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


def test_what_is_broken_is_good_at_first():
    """Else most of what the next test breaks would be refused before it is looked at."""
    market = Market(json.loads(SNAPSHOT))
    body = json.loads(canonical({"kind": "slot", **GOOD["slot"]}))
    message = Message(id="x", party="op", key=KEY["op"], seq=100, body=body)
    assert market.apply_block(START_MS - 900_000, [message]).refused == []


@pytest.mark.parametrize("kind", sorted(MEMBERS_ONLY))
def test_no_single_place_of_a_message_breaks_the_market(kind):
    """Each place of a proper message in turn: left out, or of another kind."""
    body = json.loads(canonical({"kind": kind, **GOOD[kind]}))
    party = SENDER[MEMBERS_ONLY[kind][-1]]
    for path in places(body):
        for value in (..., None, True, 0, -1, 2**53 - 1, "", "x", [], [[]], {}, {"x": 1}):
            changed = replaced(body, path, value)
            if isinstance(changed, dict):
                market = Market(json.loads(SNAPSHOT))
                message = Message(id="x", party=party, key=KEY[party], seq=100, body=changed)
                effects = market.apply_block(START_MS - 270_000, [message])
                assert len(effects.accepted) + len(effects.refused) == 1


def replaced(value, path, new):
    """The same with another value at a place; ``...`` leaves the place out."""
    if not path:
        return new
    first, *rest = path
    inside = replaced(value[first], rest, new)
    if isinstance(value, list):
        return [*value[:first], *([] if inside is ... else [inside]), *value[first + 1 :]]
    kept = {key: item for key, item in value.items() if key != first}
    return kept if inside is ... else {**kept, first: inside}


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
