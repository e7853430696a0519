import dataclasses
import hashlib
import importlib.util
import random
from pathlib import Path

import pytest

from gateway.core.planning import ARM_MS
from ledger.contracts.document import Node
from ledger.contracts.hco_document import round_from
from ledger.contracts.registry import Registry
from ledger.contracts.rounds import (
    CLOCKS,
    OPEN_ROUNDS_MAX,
    ROUNDS_KEPT_MAX,
    UNREPORTED_ROUNDS_MAX,
    clear,
    commit,
    commitment,
    exposure_ucur,
    open_round,
    reveal,
    work_count,
)

START_MS = 1_767_319_200_000  # 2026-01-02T02:00Z
SALT = "5a" * 32
BUY = {"0": 0, "1": 70, "2": 120}
SELL = {"-2": -60, "-1": -30, "0": 0}

DOCUMENT = {
    "contract": "hco-1",
    "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
    "quantum_w": 40_000,
    "terminals": [
        {"id": "T1", "s_va": 250_000, "k_min": -6, "k_max": 6},
        {"id": "T2", "s_va": 250_000, "k_min": -6, "k_max": 6},
    ],
    "k_dc": 6,
}


def do(action, *arguments):
    """Call with a document first; give the mistakes' messages."""
    mistakes = []
    action(Node(arguments[0], mistakes), *arguments[1:])
    return [mistake.message for mistake in mistakes]


@pytest.fixture
def registry():
    found = Registry()
    for n, name in enumerate(("A", "B"), 1):
        assert do(found.join, {"id": name, "key": f"{n:064x}", "role": "region", "terminal": f"T{n}", "deposit": 150}) == []  # fmt: skip
    return found


@pytest.fixture
def opened(registry):
    rounds = {}
    body = {"kind": "open", "round": "R1", "document": DOCUMENT, "penalty_per_kwh": 1}
    assert do(open_round, body, rounds, registry, START_MS - 600_000) == []
    return rounds


def minutes(before):
    return START_MS - 60_000 * before


def sealed(rounds, party, offers, salt=SALT):
    seal = commitment(salt, offers, party=party, round_id="R1")
    body = {"kind": "commit", "round": "R1", "hash": seal}
    return do(commit, body, rounds, party, minutes(6))


def revealed(rounds, registry, party, offers, *, salt=SALT, at=4.5):
    body = {"kind": "reveal", "round": "R1", "salt": salt, "offers": offers}
    return do(reveal, body, rounds, registry, party, int(minutes(at)))


def test_a_round_from_open_to_outcome(opened, registry):
    assert sealed(opened, "A", BUY) == []
    assert sealed(opened, "B", SELL) == []
    assert revealed(opened, registry, "A", BUY) == []
    assert revealed(opened, registry, "B", SELL) == []
    # Worst case of the seller: its penalty on two levels of 10 kWh.
    assert registry.parties["B"]["reserved"] == {"R1": 20}
    clear("R1", opened["R1"], registry)
    outcome = opened["R1"]["outcome"]
    assert outcome["levels"] == {"T1": 2, "T2": -2}
    assert outcome["transfers"] == {"T1": 90, "T2": -90}
    assert registry.parties["A"]["reserved"] == {"R1": 90}
    assert registry.parties["B"]["reserved"] == {"R1": 20}


def opening(rounds, registry, name, start, end):
    interval = {"start": start, "end": end}
    document = {**DOCUMENT, "interval": interval, "quantum_w": 36_000}
    body = {"kind": "open", "round": name, "document": document}
    return do(open_round, body, rounds, registry, START_MS - 86_400_000)


@pytest.mark.parametrize(
    ("start", "end", "free"),
    [
        ("2026-01-02T02:00Z", "2026-01-02T02:15Z", False),
        ("2026-01-02T02:05Z", "2026-01-02T02:10Z", False),
        ("2026-01-02T02:14Z", "2026-01-02T02:15Z", False),
        ("2026-01-02T01:55Z", "2026-01-02T02:00Z", True),
        ("2026-01-02T01:45Z", "2026-01-02T02:00Z", True),
        ("2026-01-02T02:15Z", "2026-01-02T02:30Z", True),
    ],
)
def test_a_terminal_is_not_sold_twice_in_one_interval(opened, registry, start, end, free):
    expected = [] if free else ["'R1' has 'T1' in the same interval"]
    assert opening(opened, registry, "R2", start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("04:00Z", "04:01Z", None),
        ("04:01Z", "04:02:00Z", None),
        ("04:05Z", "04:10Z", None),
        ("04:45Z", "05:00Z", None),
        ("04:00Z", "04:10Z", "a trade lasts 1, 5 or 15 min"),
        ("04:00Z", "05:00Z", "a trade lasts 1, 5 or 15 min"),
        ("04:00Z", "04:00:01Z", "a trade lasts 1, 5 or 15 min"),
        ("04:07Z", "04:22Z", "must start on a boundary of 900 s"),
        ("04:05Z", "04:20Z", "must start on a boundary of 900 s"),
        ("04:01Z", "04:06Z", "must start on a boundary of 300 s"),
        ("04:00:30Z", "04:01:30Z", "must start on a boundary of 60 s"),
    ],
)
def test_only_intervals_that_a_gateway_takes_are_opened(registry, start, end, message):
    """Else what is cleared is never carried out, and deposits are bound for a week."""
    rounds = {}
    said = opening(rounds, registry, "R2", f"2026-01-02T{start}", f"2026-01-02T{end}")
    assert said == ([] if message is None else [message])
    assert set(rounds) == (set() if message else {"R2"})


@pytest.mark.parametrize("clock", CLOCKS.values())
def test_the_usual_clocks_clear_before_a_gateway_plans(clock):
    """What is cleared later comes too late whatever the site's gate is."""
    assert clock.commit_s > clock.reveal_s >= clock.clear_s
    assert 1000 * clock.clear_s >= ARM_MS + 15_000


def test_a_round_without_trades_may_be_held_again(opened, registry):
    clear("R1", opened["R1"], registry)
    assert opening(opened, registry, "R2", "2026-01-02T02:00Z", "2026-01-02T02:15Z") == []


def test_a_price_of_losses_in_small_parts_counts_as_work():
    terminals = [{**terminal, "offers": {}} for terminal in DOCUMENT["terminals"]]
    losses = {"a": 4_000, "b": 6_000, "c": 6_000}
    plain = {**DOCUMENT, "terminals": terminals}
    coarse, fine = (
        work_count(round_from({**plain, "losses": losses, "loss_price_per_kwh": price}))
        for price in (400_000, 400_001)
    )
    assert fine == 1_000 * coarse
    assert coarse == work_count(round_from(plain))


def test_who_does_not_reveal_is_left_out(opened, registry):
    assert sealed(opened, "A", BUY) == []
    assert sealed(opened, "B", SELL) == []
    assert revealed(opened, registry, "A", BUY) == []
    clear("R1", opened["R1"], registry)
    assert opened["R1"]["outcome"]["trades"] == []
    assert registry.parties["A"]["reserved"] == {}


def test_a_commitment_is_the_hash_of_salt_and_canonical_offers():
    sealed = b'{"offers":{"0":0,"1":70,"2":120},"party":"A","round":"R1"}'
    expected = hashlib.sha256(bytes.fromhex(SALT) + sealed).hexdigest()
    assert commitment(SALT, {"2": 120, "0": 0, "1": 70}, party="A", round_id="R1") == expected


def test_who_copies_a_seal_can_not_open_it(opened, registry):
    assert sealed(opened, "A", BUY) == []
    copied = {"kind": "commit", "round": "R1", "hash": opened["R1"]["commits"]["A"]}
    assert do(commit, copied, opened, "B", minutes(6)) == []
    assert revealed(opened, registry, "A", BUY) == []
    assert revealed(opened, registry, "B", BUY) == ["does not open the commitment"]


def test_the_clock_is_kept(opened, registry):
    seal = commitment(SALT, BUY, party="A", round_id="R1")
    late = {"kind": "commit", "round": "R1", "hash": seal}
    assert do(commit, late, opened, "A", minutes(5)) == ["the gate is closed"]
    assert sealed(opened, "A", BUY) == []
    early = revealed(opened, registry, "A", BUY, at=5.5)
    assert early == ["too early: others could still commit"]
    assert revealed(opened, registry, "A", BUY, at=4) == ["the reveal is over"]
    assert CLOCKS[300].commit_s == 90


@pytest.mark.parametrize(
    ("offers", "salt", "message"),
    [
        (BUY | {"1": 71}, SALT, "does not open the commitment"),
        (BUY, "00" * 32, "does not open the commitment"),
        (BUY, "zz", "must be 64 lower-case hex digits"),
        (BUY | {"1": 1.5}, SALT, "must be an integer, is 1.5"),
        (BUY | {"0": 3}, SALT, "level 0 is worth 0 by definition"),
        (BUY | {"x": 3}, SALT, "the level 'x' is not an integer from -1000 to 1000"),
        ([], SALT, "must be an object, is a list"),
        (7, SALT, "must be an object, is 7"),
    ],
)
def test_a_bad_reveal_is_refused_with_its_reason(opened, registry, offers, salt, message):
    assert sealed(opened, "A", BUY) == []
    assert message in revealed(opened, registry, "A", offers, salt=salt)
    assert opened["R1"]["offers"] == {}


def test_an_offer_over_the_deposit_is_refused(opened, registry):
    dear = {"0": 0, "1": 151}
    assert sealed(opened, "A", dear) == []
    assert revealed(opened, registry, "A", dear) == ["may cost 151, over the free deposit of 150"]
    assert opened["R1"]["offers"] == {}
    assert exposure_ucur(opened["R1"], {"-6": 10}) == 10 + 60


def test_only_once_and_only_by_who_takes_part(opened, registry):
    assert revealed(opened, registry, "A", BUY) == ["nothing was committed"]
    assert sealed(opened, "A", SELL) == []
    assert sealed(opened, "A", BUY) == []  # replaces the first
    assert revealed(opened, registry, "A", BUY) == []
    assert revealed(opened, registry, "A", BUY) == ["already revealed"]
    assert sealed(opened, "C", BUY) == ["'C' does not trade in this round"]
    clear("R1", opened["R1"], registry)
    assert sealed(opened, "B", BUY) == ["already cleared"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"round": "R1"}, "'R1' is already open"),
        ({"document": None}, "must be a round with terminals"),
        ({"document": {**DOCUMENT, "deposits": {}}}, "deposits stand in the registry"),
        ({"document": {**DOCUMENT, "k_dc": 1.5}}, "must be an integer, is 1.5"),
        ({"document": {**DOCUMENT, "terminals": [{"id": "T1", "s_va": 1, "k_min": 0, "k_max": 0}, {"id": "T9", "s_va": 1, "k_min": 0, "k_max": 0}]}}, "no party trades at 'T9'"),
        ({"clock": {"commit_s": 60, "reveal_s": 60, "clear_s": 0}}, "must close the gate before the reveals end, and those before clearing"),
        ({"clock": {"commit_s": 3_600, "reveal_s": 60, "clear_s": 0}}, "the gate would already be closed"),
        ({"colour": 1}, "has the unknown key 'colour'"),
        ({"document": {**DOCUMENT, "interval": {"start": "2062-01-02T02:00Z", "end": "2062-01-02T02:15Z"}}}, "begins more than 31 days ahead"),
        ({"document": {**DOCUMENT, "k_dc": 1000, "terminals": [{"id": t, "s_va": 10**9, "k_min": -1000, "k_max": 1000} for t in ("T1", "T2")]}}, "may take 4010008002 steps to clear: coarser levels"),
    ],
)  # fmt: skip
def test_a_bad_opening_opens_nothing(opened, registry, change, message):
    body = {"kind": "open", "round": "R2", "document": DOCUMENT, **change}
    assert message in do(open_round, body, opened, registry, START_MS - 600_000)
    assert set(opened) == {"R1"}


@pytest.fixture(scope="module")
def hco_test():
    """The random rounds and the brute force of the contract's own test."""
    path = Path(__file__).with_name("test_hco.py")
    spec = importlib.util.spec_from_file_location("hco_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document_of(round_):
    """A random round as the file a market is opened with."""
    return {
        "contract": "hco-1",
        "interval": {"start": round_.start, "end": round_.end},
        "quantum_w": round_.quantum_w,
        "terminals": [
            {
                "id": t.id,
                "s_va": t.s_va,
                "q_reserved_var": t.q_reserved_var,
                "k_min": t.k_level_min,
                "k_max": t.k_level_max,
                "k_previous": t.k_previous_level,
                "ramp_levels": t.ramp_levels,
                "mask": sorted(t.mask_levels),
            }
            for t in round_.terminals
        ],
        "k_dc": round_.k_dc_level,
        "wheeling_fee_per_kwh": round_.wheeling_fee_ucur_per_kwh,
        "loss_price_per_kwh": round_.loss_price_ucur_per_kwh,
        "share": round_.share,
        "compat": round_.compat,
        "master": round_.master,
        **({"losses": {"a": 4_000, "b": 6_000, "c": 6_000}} if round_.losses else {}),
    }


def through_the_contract(round_, deposits, *, penalty):
    """Open, seal, open and clear; give the outcome and whose offers the deposits covered."""
    registry, rounds = Registry(), {}
    for n, t in enumerate(round_.terminals, 1):
        newcomer = {"id": t.id, "key": f"{n:064x}", "role": "region", "terminal": t.id, "deposit": deposits[t.id]}  # fmt: skip
        assert do(registry.join, newcomer) == []
    body = {"kind": "open", "round": "R1", "document": document_of(round_), "penalty_per_kwh": penalty}  # fmt: skip
    assert do(open_round, body, rounds, registry, START_MS - 600_000) == []
    covered = set()
    for t in round_.terminals:
        offers = {str(k): v for k, v in t.offers_ucur.items()}
        assert sealed(rounds, t.id, offers) == []
        mistakes = revealed(rounds, registry, t.id, offers)
        assert mistakes == [] or "over the free deposit" in mistakes[0]
        covered |= {t.id} if mistakes == [] else set()
    return clear("R1", rounds["R1"], registry), covered


def test_equals_brute_force_over_those_whose_deposits_cover_their_offers(hco_test):
    """1,000 rounds of 2 to 5 terminals with every extra term on."""
    traded = left_out = 0
    for seed in range(5_000, 6_000):
        round_ = hco_test.random_round(seed, n=2 + seed % 4, everything=True)
        rng = random.Random(seed)
        penalty = rng.choice([0, 0, 50])
        exposed = {"level_wh": round_.energy_wh(1), "penalty": penalty}
        needed = {
            t.id: exposure_ucur(exposed, {str(k): v for k, v in t.offers_ucur.items()})
            for t in round_.terminals
        }
        deposits = {name: rng.choice([0, most, most, most + 5]) for name, most in needed.items()}
        outcome, covered = through_the_contract(round_, deposits, penalty=penalty)
        assert covered == {name for name, most in needed.items() if deposits[name] >= most}
        alone = dataclasses.replace(
            round_,
            terminals=tuple(
                t if t.id in covered else dataclasses.replace(t, offers_ucur={0: 0})
                for t in round_.terminals
            ),
        )
        levels, value = hco_test.brute_force(alone)
        assert (tuple(outcome["levels"].values()), outcome["value"]) == (levels, value), seed
        traded += value > 0
        left_out += len(covered) < len(round_.terminals)
    assert traded > 150
    assert left_out > 500


def held(opened, count, **changes):
    """So many rounds of intervals long past, beside those that are open."""
    past = {**opened["R1"], "start_ms": 0, "document": {"interval": {"end": "1970-01-01T00:15Z"}}}
    return {f"old-{n}": {**past, **changes} for n in range(count)}


CLEARED = {"trades": [{"id": "t"}]}


@pytest.mark.parametrize(
    ("count", "changes", "messages"),
    [
        (OPEN_ROUNDS_MAX, {"outcome": CLEARED, "actuals": {}}, []),
        (OPEN_ROUNDS_MAX, {"outcome": CLEARED}, []),
        (OPEN_ROUNDS_MAX, {"outcome": CLEARED, "gateway": "gw"}, []),
        (OPEN_ROUNDS_MAX - 1, {}, []),
        (OPEN_ROUNDS_MAX, {}, ["at most 512 rounds are open at once"]),
        (UNREPORTED_ROUNDS_MAX, {"outcome": CLEARED, "gateway": "gw"}, []),
        (UNREPORTED_ROUNDS_MAX, {"outcome": CLEARED, "actuals": {}}, []),
        (UNREPORTED_ROUNDS_MAX - 1, {"outcome": CLEARED}, []),
        (UNREPORTED_ROUNDS_MAX, {"outcome": CLEARED}, ["1024 of its rounds wait for a delivery report"]),
        (ROUNDS_KEPT_MAX - 1, {"outcome": CLEARED, "actuals": {}}, []),
        (ROUNDS_KEPT_MAX, {"outcome": CLEARED, "actuals": {}}, ["at most 16384 rounds are kept, finished ones too"]),
    ],
)  # fmt: skip
def test_finished_rounds_do_not_count_as_open(opened, registry, count, changes, messages):
    rounds = held(opened, count, **changes)
    body = {"kind": "open", "round": "R2", "document": DOCUMENT}
    assert do(open_round, body, rounds, registry, START_MS - 600_000) == messages
    assert ("R2" in rounds) is (messages == [])


def test_a_silent_gateway_stops_its_own_rounds_only(opened, registry):
    for n, name in enumerate(("quiet", "gw"), 8):
        assert do(registry.join, {"id": name, "key": f"{n:064x}", "role": "gateway"}) == []
    rounds = held(opened, UNREPORTED_ROUNDS_MAX, outcome=CLEARED, gateway="quiet")
    body = {"kind": "open", "round": "R2", "document": DOCUMENT, "gateway": "quiet"}
    now_ms = START_MS - 600_000
    assert do(open_round, body, rounds, registry, now_ms) == ["1024 of its rounds wait for a delivery report"]  # fmt: skip
    assert do(open_round, {**body, "gateway": "gw"}, rounds, registry, now_ms) == []
