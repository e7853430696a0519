import dataclasses
import itertools
import random

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import hco
from ledger.contracts.hco import Losses, Round, Terminal


def terminal(name, offers, **changes):
    values = {
        "id": name,
        "s_va": 250_000,
        "q_reserved_var": 0,
        "k_level_min": -6,
        "k_level_max": 6,
        "k_previous_level": 0,
        "ramp_levels": None,
        "mask_levels": frozenset(),
        "offers_ucur": offers,
    }
    return Terminal(**{**values, **changes})


def round_of(*terminals, **changes):
    values = {
        "start": "2026-01-02T02:00Z",
        "end": "2026-01-02T02:15Z",
        "interval_s": 900,
        "quantum_w": 40_000,
        "terminals": tuple(terminals),
        "k_dc_level": 6,
        "wheeling_fee_ucur_per_kwh": 0,
        "loss_price_ucur_per_kwh": 0,
        "share": "all",
        "compat": False,
        "master": None,
        "losses": None,
    }
    return Round(**{**values, **changes})


def quadratic(name, alpha, beta):
    return terminal(name, {k: alpha * k - beta * k * k for k in range(-6, 7)})


def random_round(seed, n=None, *, everything=False):
    """A round with extra terms; amounts small enough that ties are common.

    With ``everything`` none of them is off: ramps, masks, fee, priced losses.
    """
    off = [] if everything else [None, None]
    rng = random.Random(seed)
    n = n or rng.randint(2, 5)
    reach = {2: 6, 3: 6, 4: 4, 5: 3}[n]
    quantum_w = rng.choice([4_000, 8_000, 40_000])
    unit = rng.choice([1, 100, 5_000])
    terminals = []
    for index in range(n):
        offers = {
            k: unit * rng.randint(-20, 20) for k in range(-reach, reach + 1) if rng.random() < 0.95
        }
        offers[0] = 0
        terminals.append(
            terminal(
                f"T{index}",
                offers,
                s_va=rng.choice([quantum_w * reach, quantum_w * 2, 250_000]),
                q_reserved_var=rng.choice([0, 0, quantum_w]),
                k_level_min=-rng.randint(0, reach),
                k_level_max=rng.randint(0, reach),
                k_previous_level=rng.randint(-reach, reach),
                ramp_levels=rng.choice([*off, 3, reach]),
                mask_levels=frozenset(
                    k
                    for k in range(-reach, reach + 1)
                    if k and (rng.random() < 0.1 or (everything and k == -reach and not index))
                ),
            )
        )
    return round_of(
        *terminals,
        quantum_w=quantum_w,
        k_dc_level=rng.randint(0, 2 * reach),
        wheeling_fee_ucur_per_kwh=rng.choice([0, 1, 7, 300][everything:]),
        loss_price_ucur_per_kwh=rng.choice([0, 3, 37, 999, 4_001][everything:]),
        share=rng.choice(["all", "active"]),
        compat=rng.random() < 0.3,
        master=rng.choice([None, "T0", "T1"]),
        losses=rng.choice([None, Losses(a_ppm=4_000, b_ppm=6_000, c_ppm=6_000)][everything:]),
    )


def brute_force(round_):
    """Definition, literally: every vector, every constraint, the total order."""
    ids = [t.id for t in round_.terminals]
    best = None
    ranges = [range(t.k_level_min, t.k_level_max + 1) for t in round_.terminals]
    for levels in itertools.product(*ranges):
        if sum(levels) != 0:
            continue
        if sum(k for k in levels if k > 0) > round_.k_dc_level:
            continue
        if not all(
            allowed_alone(round_, t, k) for t, k in zip(round_.terminals, levels, strict=True)
        ):
            continue
        offers = sum(t.offers_ucur[k] for t, k in zip(round_.terminals, levels, strict=True))
        through_wh = sum(k for k in levels if k > 0) * round_.quantum_w // 4
        lost_wh = sum(lost(round_, t, k) for t, k in zip(round_.terminals, levels, strict=True))
        value = offers
        value -= round_.wheeling_fee_ucur_per_kwh * through_wh // 1000
        value -= round_.loss_price_ucur_per_kwh * lost_wh // 1000
        through = sum(k for k in levels if k > 0)
        moved = sum(
            abs(k - t.k_previous_level) for t, k in zip(round_.terminals, levels, strict=True)
        )
        key = (-value, *levels) if round_.compat else (-value, through, moved, *levels)
        if value > 0 and (best is None or key < best[0]):
            best = (key, levels, value)
    return (best[1], best[2]) if best else ((0,) * len(ids), 0)


def allowed_alone(round_, t, k):
    p_w = abs(k) * round_.quantum_w
    if p_w**2 + t.q_reserved_var**2 > t.s_va**2 and k != 0:
        return False
    if t.id == round_.master and k != 0:
        ppm = 16_000 if round_.losses else 0
        loss_w = sum(-(-other.s_va * ppm // 1_000_000) for other in round_.terminals)
        if p_w + loss_w + t.s_va // 20 > t.s_va:
            return False
    if k and t.ramp_levels is not None and abs(k - t.k_previous_level) > t.ramp_levels:
        return False
    return k in t.offers_ucur and k not in t.mask_levels


def lost(round_, t, k):
    if round_.losses is None:
        return 0
    p_w = abs(k) * round_.quantum_w
    exact = 6_000 * p_w * t.s_va + 6_000 * p_w * p_w
    return exact // (4 * 1_000_000 * t.s_va)


@pytest.mark.parametrize("chunk", range(6))
def test_equals_brute_force_with_every_extra_term(chunk):
    traded = 0
    for seed in range(chunk * 200, chunk * 200 + 200):
        round_ = random_round(seed)
        choice = hco.choose(round_)
        assert (choice.levels, choice.value_ucur) == brute_force(round_), seed
        traded += choice.value_ucur > 0
    assert traded > 80


A = ((50, 2), (20, 3), (-30, 2), (-45, 4))
B = ((90, 3), (60, 3), (40, 0), (25, 1))


@pytest.mark.parametrize(
    ("regions", "levels", "value"), [(A, (6, 0, -3, -3), 399), (B, (5, 1, 0, -6), 246)]
)
def test_worked_examples(regions, levels, value):
    round_ = round_of(*(quadratic(f"T{i}", a, b) for i, (a, b) in enumerate(regions, 1)))
    choice = hco.choose(round_)
    assert choice.levels == levels
    assert choice.value_ucur == value


def published_choice(vectors):
    """What the published contract enumerates: balanced vectors, positives at most 6, first best."""
    best, found = 0, (0, 0, 0, 0)
    for levels in itertools.product(range(-6, 7), repeat=4):
        if sum(levels) or sum(k for k in levels if k > 0) > 6:
            continue
        value = sum(vector[k] for vector, k in zip(vectors, levels, strict=True))
        if value > best:
            best, found = value, levels
    return found, best


def test_compat_chooses_what_the_published_contract_chose():
    for seed in range(12):
        rng = random.Random(seed)
        vectors = [{k: rng.randint(-3, 3) * (k != 0) for k in range(-6, 7)} for _ in range(4)]
        round_ = round_of(*(terminal(f"T{i}", v) for i, v in enumerate(vectors)), compat=True)
        choice = hco.choose(round_)
        assert (choice.levels, choice.value_ucur) == published_choice(vectors)


def test_compat_by_hand_takes_the_lexicographic_first_where_ours_takes_the_smaller_throughput():
    flat = {k: (5 if k > 0 else 0) for k in range(-6, 7)}
    free = dict.fromkeys(range(-6, 7), 0)
    old = hco.choose(round_of(terminal("A", free), terminal("B", flat), compat=True))
    new = hco.choose(round_of(terminal("A", free), terminal("B", flat)))
    assert old.levels == (-6, 6)
    assert new.levels == (-1, 1)
    assert old.value_ucur == new.value_ucur == 5


def test_ties_prefer_the_smaller_change_then_the_lexicographic_first():
    free = dict.fromkeys(range(-6, 7), 0)
    buyer = {k: (5 if k == 2 else 0 if k == 0 else -9) for k in range(-6, 7)}
    still = hco.choose(
        round_of(
            terminal("A", free), terminal("B", free, k_previous_level=-2), terminal("C", buyer)
        )
    )
    assert still.levels == (0, -2, 2)
    fresh = hco.choose(round_of(terminal("A", free), terminal("B", free), terminal("C", buyer)))
    assert fresh.levels == (-2, 0, 2)


@for_seeds(range(120))
def test_a_wider_limit_never_lowers_the_value(seed):
    round_ = dataclasses.replace(random_round(seed), compat=False)
    value = hco.choose(round_).value_ucur
    wider = dataclasses.replace(round_, k_dc_level=round_.k_dc_level + 1)
    assert hco.choose(wider).value_ucur >= value
    first = round_.terminals[0]
    freer = dataclasses.replace(first, k_level_max=first.k_level_max + 1)
    assert hco.choose(dataclasses.replace(round_, terminals=(freer, *round_.terminals[1:]))).value_ucur >= value  # fmt: skip


@for_seeds(range(60))
def test_scaling_every_amount_leaves_the_choice(seed):
    round_ = dataclasses.replace(random_round(seed), loss_price_ucur_per_kwh=0)
    round_ = dataclasses.replace(round_, wheeling_fee_ucur_per_kwh=4_000)
    scaled = dataclasses.replace(
        round_,
        wheeling_fee_ucur_per_kwh=28_000,
        terminals=tuple(
            dataclasses.replace(t, offers_ucur={k: 7 * v for k, v in t.offers_ucur.items()})
            for t in round_.terminals
        ),
    )
    assert hco.choose(scaled).levels == hco.choose(round_).levels


def test_cost_grows_as_the_formula_says():
    def operations(n, reach):
        rng = random.Random(n * 100 + reach)
        names = [terminal(f"T{i:03}", {k: rng.randint(-99, 99) * (k != 0) for k in range(-reach, reach + 1)}, s_va=10**9, k_level_min=-reach, k_level_max=reach) for i in range(n)]  # fmt: skip
        return hco.choose(round_of(*names, k_dc_level=reach)).operations_count

    for n, reach in ((2, 6), (4, 6), (8, 6), (16, 6), (4, 12), (4, 24), (6, 12)):
        assert operations(n, reach) <= n * (reach + 1) ** 2 * (2 * reach + 1)
    assert 1.8 < operations(32, 6) / operations(16, 6) < 2.2  # linear in the terminals
    assert 6 < operations(8, 24) / operations(8, 12) < 9  # cubic in the levels


def test_nothing_feasible_is_no_trade():
    stuck = terminal("A", {0: 0, 6: 100}, k_previous_level=6, ramp_levels=0)
    blocked = terminal("B", {0: 0}, k_previous_level=0)
    choice = hco.choose(round_of(stuck, blocked))
    assert choice.levels == (0, 0)
    assert choice.value_ucur == 0
    empty = terminal("C", {0: 0}, k_previous_level=6, ramp_levels=1)
    assert hco.choose(round_of(empty, blocked)).levels == (0, 0)


@pytest.mark.parametrize("offers", [{}, {0: 0}, {0: 0, 4: -1}])
def test_a_terminal_whose_ramp_keeps_it_from_zero_stops_nobody_else(offers):
    """What does not trade goes to zero in any case, whatever the others do."""
    buyer, seller = terminal("A", {0: 0, 2: 100}), terminal("B", {0: 0, -2: -10})
    still = terminal("C", offers, k_previous_level=5, ramp_levels=2)
    assert hco.choose(round_of(buyer, seller, still)).levels == (2, -2, 0)
    assert hco.admissible(round_of(still, buyer), still) == tuple(sorted({0, *offers}))
    only_zero = terminal("C", {0: 0, 2: 500}, k_previous_level=5, ramp_levels=2)
    assert hco.admissible(round_of(only_zero, buyer), only_zero) == (0,)


def test_headroom_keeps_reactive_power_and_the_masters_residual():
    reserved = terminal("A", {}, q_reserved_var=150_000)
    round_ = round_of(reserved, terminal("B", {}), master="B", losses=Losses(a_ppm=4_000, b_ppm=6_000, c_ppm=6_000))  # fmt: skip
    assert hco.headroom_w(round_, round_.terminals[0]) == 200_000
    assert hco.headroom_w(round_, round_.terminals[1]) == 250_000 - 12_500 - 8_000
    out = terminal("C", {}, s_va=100, q_reserved_var=200)
    assert hco.headroom_w(round_, out) == 0
