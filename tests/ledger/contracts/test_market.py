import datetime as dt
import json
import random

from ledger.contracts.document import canonical
from ledger.contracts.market import Market, Message
from ledger.contracts.rounds import OPEN_ROUNDS_MAX, commitment

START_MS = 1_767_319_200_000
SALT = "5a" * 32
NAMES = ("A", "B", "C", "D")
KEYS = {name: f"{n:064x}" for n, name in enumerate(("op", "gw", *NAMES), 1)}


class Bench:
    """A market and the parties' message counters."""

    def __init__(self):
        self.market = Market.genesis("m", "op", KEYS["op"])
        self.seq = dict.fromkeys(KEYS, 0)
        self.keys = dict(KEYS)

    def message(self, party, **body):
        self.seq[party] += 1
        return Message(
            id=f"{party}-{self.seq[party]}",
            party=party,
            key=self.keys[party],
            seq=self.seq[party],
            body=body,
        )

    def block(self, minutes_before, *messages):
        return self.market.apply_block(START_MS - round(60_000 * minutes_before), messages)


def joined(deposit=10**9):
    bench = Bench()
    joins = [bench.message("op", kind="join", id="gw", key=KEYS["gw"], role="gateway")]
    joins += [
        bench.message("op", kind="join", id=name, key=KEYS[name], role="region", terminal=f"T{n}", deposit=deposit)
        for n, name in enumerate(NAMES, 1)
    ]  # fmt: skip
    assert bench.block(30, *joins).refused == []
    return bench


def document():
    return {
        "contract": "hco-1",
        "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
        "quantum_w": 40_000,
        "terminals": [
            {"id": f"T{n}", "s_va": 250_000, "k_min": -6, "k_max": 6} for n in range(1, 5)
        ],
        "k_dc": 6,
        "wheeling_fee_per_kwh": 10,
    }


def offers(seed):
    rng = random.Random(seed)
    slope = rng.randint(-90_000, 90_000)
    return {str(k): slope * k - 900 * k * k for k in range(-6, 7)}


def cleared(bench):
    opening = bench.message("op", kind="open", round="R1", document=document(), penalty_per_kwh=100)
    lists = {name: offers(n) for n, name in enumerate(NAMES)}
    commits = [bench.message(n, kind="commit", round="R1", hash=commitment(SALT, lists[n], party=n, round_id="R1")) for n in NAMES]  # fmt: skip
    assert bench.block(10, opening, *commits).refused == []
    reveals = [bench.message(n, kind="reveal", round="R1", salt=SALT, offers=lists[n]) for n in NAMES]  # fmt: skip
    assert bench.block(4.5, *reveals).refused == []
    assert bench.block(3).cleared == ["R1"]
    return bench.market.rounds["R1"]["outcome"]


def test_a_round_from_joining_to_money():
    bench = joined()
    outcome = cleared(bench)
    assert outcome["trades"]
    report = [{"trade_id": t["id"], "delivered_wh": t["wh"]} for t in outcome["trades"]]
    for minutes in (1, -14):
        early = bench.message("gw", kind="delivery", round="R1", trades=report)
        assert refusal(bench, minutes, early) == [
            "the interval has not ended: more can still be delivered"
        ]
    effects = bench.block(-20, bench.message("gw", kind="delivery", round="R1", trades=report))
    assert effects.settled == ["R1"]
    balances = {n: bench.market.registry.parties[n]["balance"] for n in NAMES}
    assert balances == {n: -outcome["transfers"][f"T{i}"] for i, n in enumerate(NAMES, 1)}
    assert bench.market.services["sop-owner"] == outcome["fees"]
    assert bench.market.money_sum_ucur() == 0
    assert all(not bench.market.registry.parties[n]["reserved"] for n in NAMES)
    again = bench.block(-20, bench.message("gw", kind="delivery", round="R1", trades=report))
    assert "already settled" in again.refused[0].mistakes[0].message


def refusal(bench, minutes, message):
    before = canonical({**bench.market.snapshot(), "now_ms": 0, "seqs": {}, "beacons": []})
    effects = bench.block(minutes, message)
    after = canonical({**bench.market.snapshot(), "now_ms": 0, "seqs": {}, "beacons": []})
    assert before == after, "a refused message changed the state"
    return [mistake.message for mistake in effects.refused[0].mistakes]


def test_refusals_change_nothing_and_say_why():
    bench = joined()
    thief = bench.message("A", kind="leave")
    stolen = Message(id="x", party="A", key=KEYS["B"], seq=9, body=thief.body)
    assert refusal(bench, 29, stolen) == ["not signed with the key of 'A'"]
    assert refusal(bench, 29, bench.message("A", kind="open")) == ["a region may not send 'open'"]
    assert refusal(bench, 29, bench.message("A", kind="fly"))[0].startswith("must be one of")
    assert refusal(bench, 29, bench.message("A"))[0] == "lacks 'kind'"
    stranger = Message(id="x", party="Z", key=KEYS["A"], seq=1, body={"kind": "leave"})
    assert refusal(bench, 29, stranger) == ["'Z' is not a party"]
    early = bench.message("gw", kind="delivery", round="R1", trades=[])
    assert refusal(bench, 29, early) == ["'R1' is not cleared"]
    repeated = Message(id="x", party="op", key=KEYS["op"], seq=1, body={"kind": "deposit", "id": "A", "amount": 1})  # fmt: skip
    assert refusal(bench, 29, repeated) == ["seq 1 was used before"]


def test_a_rotated_key_is_the_only_one_that_counts():
    bench = joined()
    new = "ab" * 32
    assert bench.block(29, bench.message("A", kind="rotate", new_key=new)).refused == []
    old = bench.message("A", kind="leave")
    assert refusal(bench, 28, old) == ["not signed with the key of 'A'"]
    bench.keys["A"] = new
    assert bench.block(28, bench.message("A", kind="leave")).refused == []


def test_the_same_blocks_give_the_same_root_and_a_snapshot_goes_on_alike():
    one, two = joined(), joined()
    cleared(one)
    cleared(two)
    assert one.market.root() == two.market.root()
    restored = Market(json.loads(canonical(one.market.snapshot())))
    assert restored.root() == one.market.root()
    later = START_MS + 86_400_000 * 8
    restored.apply_block(later, ())
    two.market.apply_block(later, ())
    assert restored.root() == two.market.root()


def test_a_round_nobody_reports_settles_as_undelivered_at_nobodys_fault_and_is_forgotten():
    bench = joined()
    cleared(bench)
    week = -7 * 24 * 60
    assert bench.block(week).settled == ["R1"]
    assert bench.market.money_sum_ucur() == 0
    rows = bench.market.rounds["R1"]["actuals"]["rows"]
    assert rows
    for row in rows:
        assert (row["delivered_wh"], row["paid"], row["penalty"]) == (0, 0, 0)
        assert row["curtailed"] == ["unreported"]
    day = -24 * 60
    bench.block(week + day + 1)
    assert set(bench.market.rounds) == {"R1"}
    bench.block(week + day)
    assert bench.market.rounds == {}


def test_a_round_reported_late_is_there_a_day_longer_for_who_asks():
    bench = joined()
    outcome = cleared(bench)
    late = -30 * 60
    said = bench.message("gw", kind="delivery", round="R1", trades=report(outcome))
    assert bench.block(late, said).settled == ["R1"]
    bench.block(late - 24 * 60 + 1)
    assert bench.market.rounds["R1"]["actuals"]["rows"]
    bench.block(late - 24 * 60)
    assert bench.market.rounds == {}


def test_a_state_of_a_program_that_kept_no_time_of_settlement_goes_on():
    """Such a round is forgotten a day after its start, as that program had it."""
    bench = joined()
    outcome = cleared(bench)
    bench.block(-20, bench.message("gw", kind="delivery", round="R1", trades=report(outcome)))
    kept = json.loads(canonical(bench.market.snapshot()))
    del kept["rounds"]["R1"]["settled_ms"]
    bench.market = Market(kept)
    day = -24 * 60
    bench.block(day + 1)
    assert set(bench.market.rounds) == {"R1"}
    bench.block(day)
    assert bench.market.rounds == {}


def test_nobody_leaves_with_an_offer_open_and_its_money_comes_out_afterwards():
    """Without a penalty a seller's offer reserves nothing, and yet it is a commitment."""
    bench = joined(deposit=1_000_000)
    opening = bench.message("op", kind="open", round="R1", document=document())
    buy, sell = {"0": 0, "2": 120_000}, {"0": 0, "-2": -60_000}
    lists = {"A": buy, "B": sell}
    commits = [bench.message(n, kind="commit", round="R1", hash=commitment(SALT, lists[n], party=n, round_id="R1")) for n in lists]  # fmt: skip
    assert bench.block(10, opening, *commits).refused == []
    reveals = [bench.message(n, kind="reveal", round="R1", salt=SALT, offers=lists[n]) for n in lists]  # fmt: skip
    assert bench.block(4.5, *reveals).refused == []
    seller = bench.market.registry.parties["B"]
    assert seller["reserved"] == {}
    open_still = ["'B' still has commitments in R1"]
    assert refusal(bench, 4, bench.message("B", kind="leave")) == open_still
    bench.block(3)
    assert refusal(bench, 2, bench.message("B", kind="leave")) == open_still
    outcome = bench.market.rounds["R1"]["outcome"]
    trades = [{"trade_id": t["id"], "delivered_wh": t["wh"]} for t in outcome["trades"]]
    said = bench.message("gw", kind="delivery", round="R1", trades=trades)
    assert bench.block(-16, said, bench.message("B", kind="leave")).refused == []
    assert seller["left"]
    owed = seller["balance"]
    assert owed > 0

    out = {"kind": "deposit", "id": "B"}
    over = bench.message("op", **out, amount=-1_000_001)
    assert refusal(bench, -17, over) == ["only 1000000 of the deposit is free"]
    into = bench.message("op", **out, amount=1)
    assert refusal(bench, -17, into) == ["'B' has left: money only goes out"]
    assert bench.block(-17, bench.message("op", **out, amount=-1_000_000)).refused == []
    assert seller["deposit"] == 0
    paid_out = bench.message("op", kind="payment", id="B", amount=-owed)
    assert bench.block(-17, paid_out).refused == []
    assert seller["balance"] == 0
    assert bench.market.money_sum_ucur() == 0


def test_who_owes_pays_and_leaves():
    """A party that only ever buys could never leave, and its deposit would be worth ever less."""
    bench = joined()
    outcome = cleared(bench)
    trades = [{"trade_id": t["id"], "delivered_wh": t["wh"]} for t in outcome["trades"]]
    bench.block(-16, bench.message("gw", kind="delivery", round="R1", trades=trades))
    parties = bench.market.registry.parties
    buyer = next(name for name in NAMES if parties[name]["balance"] < 0)
    debt = -parties[buyer]["balance"]
    assert refusal(bench, -17, bench.message(buyer, kind="leave")) == [
        f"{buyer!r} still owes {debt}"
    ]
    for amount in (debt + 1, -1, 0):
        wrong = bench.message("op", kind="payment", id=buyer, amount=amount)
        assert refusal(bench, -17, wrong) == [
            f"{buyer!r} owes {debt}: from 1 to {debt} can be paid"
        ]
    own = bench.message(buyer, kind="payment", id=buyer, amount=debt)
    assert refusal(bench, -17, own) == ["a region may not send 'payment'"]
    stranger = bench.message("op", kind="payment", id="Z", amount=debt)
    assert refusal(bench, -17, stranger) == ["'Z' is not a party"]
    paid = [bench.message("op", kind="payment", id=buyer, amount=part) for part in (debt - 1, 1)]
    assert bench.block(-17, *paid, bench.message(buyer, kind="leave")).refused == []
    assert (parties[buyer]["balance"], parties[buyer]["left"]) == (0, True)
    assert bench.market.services["payments"] == debt * -1
    assert bench.market.money_sum_ucur() == 0


def test_a_round_without_offers_settles_at_once():
    bench = joined()
    opening = bench.message("op", kind="open", round="R1", document=document())
    bench.block(10, opening)
    effects = bench.block(3)
    assert effects.cleared == effects.settled == ["R1"]


def report(outcome, delivered_wh=0):
    return [{"trade_id": trade["id"], "delivered_wh": delivered_wh} for trade in outcome["trades"]]


def answers(outcome, **refused):
    return [
        {"trade_id": t["id"], "accepted": t["id"] not in refused, "reasons": refused.get(t["id"], [])}
        for t in outcome["trades"]
    ]  # fmt: skip


def test_a_seller_pays_for_what_it_withholds_not_for_what_the_gateway_refused():
    penalties = {}
    for refused in (False, True):
        bench = joined()
        outcome = cleared(bench)
        words = {t["id"]: ["late"] for t in outcome["trades"]} if refused else {}
        answer = bench.message("gw", kind="answer", round="R1", trades=answers(outcome, **words))
        assert bench.block(2, answer).refused == []
        said = bench.message("gw", kind="delivery", round="R1", trades=report(outcome))
        assert bench.block(-16, said).settled == ["R1"]
        assert bench.market.money_sum_ucur() == 0
        rows = bench.market.rounds["R1"]["actuals"]["rows"]
        penalties[refused] = sum(row["penalty"] for row in rows)
        assert {tuple(row["curtailed"]) for row in rows} == {("refused",) if refused else ()}
    assert penalties[True] == 0 < penalties[False]


def test_a_round_of_which_nothing_is_taken_may_be_settled_before_it_begins():
    for refused in (False, True):
        bench = joined()
        outcome = cleared(bench)
        words = {t["id"]: ["late"] for t in outcome["trades"]} if refused else {}
        answer = bench.message("gw", kind="answer", round="R1", trades=answers(outcome, **words))
        early = bench.message("gw", kind="delivery", round="R1", trades=report(outcome))
        assert bench.block(2, answer, early).settled == (["R1"] if refused else [])
        reserved = [p["reserved"] for p in bench.market.registry.parties.values()]
        assert any(reserved) != refused


def test_answers_are_complete_come_once_and_only_from_a_gateway():
    bench = joined()
    outcome = cleared(bench)
    whole = answers(outcome)
    wrong = {
        "must name every trade": whole[1:],
        "must be true or false": [{**whole[0], "accepted": 1}, *whole[1:]],
        "unknown key": [{**whole[0], "colour": "red"}, *whole[1:]],
    }
    for what, trades in wrong.items():
        message = bench.message("gw", kind="answer", round="R1", trades=trades)
        (refusal,) = bench.block(2, message).refused
        assert what in "; ".join(m.message for m in refusal.mistakes)
    assert bench.market.rounds["R1"]["answers"] == {}
    by_seller = bench.message("A", kind="answer", round="R1", trades=whole)
    first, again = (bench.message("gw", kind="answer", round="R1", trades=whole) for _ in "12")
    effects = bench.block(2, by_seller, first, again)
    assert effects.accepted == [first.id]
    messages = ["; ".join(m.message for m in r.mistakes) for r in effects.refused]
    assert messages == ["a region may not send 'answer'", "already answered"]


def test_only_the_rounds_own_gateway_reports_on_it():
    bench = joined()
    join = bench.message("op", kind="join", id="gw2", key="ff" * 32, role="gateway")
    assert bench.block(20, join).refused == []
    bench.keys["gw2"], bench.seq["gw2"] = "ff" * 32, 0
    for gateway, message in (("A", "is no gateway"), ("nobody", "is no gateway")):
        opening = bench.message("op", kind="open", round="R1", document=document(), gateway=gateway)
        (refusal,) = bench.block(15, opening).refused
        assert message in refusal.mistakes[0].message
    opening = bench.message("op", kind="open", round="R1", document=document(), gateway="gw2")
    lists = {name: offers(n) for n, name in enumerate(NAMES)}
    commits = [bench.message(n, kind="commit", round="R1", hash=commitment(SALT, lists[n], party=n, round_id="R1")) for n in NAMES]  # fmt: skip
    assert bench.block(10, opening, *commits).refused == []
    reveals = [bench.message(n, kind="reveal", round="R1", salt=SALT, offers=lists[n]) for n in NAMES]  # fmt: skip
    assert bench.block(4.5, *reveals).refused == []
    bench.block(3)
    trades = report(bench.market.rounds["R1"]["outcome"])
    stranger, ours = (bench.message(g, kind="delivery", round="R1", trades=trades) for g in ("gw", "gw2"))  # fmt: skip
    effects = bench.block(-16, stranger, ours)
    assert (effects.accepted, effects.settled) == ([ours.id], ["R1"])
    assert "carried out by 'gw2'" in effects.refused[0].mistakes[0].message


def test_a_market_of_minutes_goes_on_after_512_rounds():
    """Settled rounds stay for a day: 8.5 hours of minutes were taken for open ones."""
    bench = joined()
    for minute in range(OPEN_ROUNDS_MAX + 8):
        start, end = (
            dt.datetime.fromtimestamp(START_MS // 1000 + 60 * (minute + n), tz=dt.UTC)
            for n in (0, 1)
        )
        interval = {"start": f"{start:%Y-%m-%dT%H:%MZ}", "end": f"{end:%Y-%m-%dT%H:%MZ}"}
        body = {**document(), "interval": interval, "quantum_w": 60_000}
        opening = bench.message("op", kind="open", round=f"R{minute}", document=body)
        assert bench.block(5 - minute, opening).refused == [], minute
    phases = [found.get("actuals") is not None for found in bench.market.rounds.values()]
    assert len(phases) > OPEN_ROUNDS_MAX
    assert phases.count(False) < 10
