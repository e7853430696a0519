import itertools
import random

from fakes.seeds import for_seeds

from ledger.contracts.region_value import Region, exchange, offers_ucur, with_terminal
from ledger.contracts.requests_document import day_from


def region(seed, *, spare=True):
    rng = random.Random(seed)
    users = rng.randint(1, 3)
    day = {
        "contract": "requests-1",
        "slot_s": 900,
        "suppliers": [
            {"id": f"S{i}", "available_wh": [rng.randint(0, 9_000) + 40_000 * (spare and i == 0)], "price": [rng.randint(100, 900) * 1000]}
            for i in range(3)
        ],
        "users": [{"id": f"U{j}", "demand_wh": [rng.randint(5_000, 9_000)]} for j in range(users)],
        "distance_km": [[rng.randint(0, 9) for _ in range(users)] for _ in range(3)],
        "transmission_price_per_kwh_km": 1_000,
        "voll_per_kwh": 10_000_000,
    }  # fmt: skip
    return Region(
        day=day_from(day),
        to_user_km=tuple(rng.randint(0, 9) for _ in range(users)),
        from_supplier_km=tuple(rng.randint(0, 9) for _ in range(3)),
        line_capacity_wh=rng.choice([3_000, 10**9]),
    )


@for_seeds(range(40))
def test_the_value_curve_is_concave_and_grows_with_the_import(seed):
    offers = offers_ucur(region(seed, spare=seed % 2 == 0), level_wh=500, k_min=-8, k_max=8)
    levels = sorted(offers)
    assert offers[0] == 0
    assert levels == list(range(levels[0], levels[-1] + 1))
    steps = [offers[k + 1] - offers[k] for k in levels[:-1]]
    # Rounding down moves a step by less than one unit, so concave to within one.
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(steps))
    assert all(offers[k] <= 1 for k in levels if k < 0)


def test_one_supplier_one_user_by_hand():
    day = day_from(
        {
            "contract": "requests-1",
            "slot_s": 900,
            "suppliers": [{"id": "S", "available_wh": [1_500], "price": [400_000]}],
            "users": [{"id": "U", "demand_wh": [1_000]}],
            "distance_km": [[10]],
            "transmission_price_per_kwh_km": 1_000,
        }
    )
    place = Region(day=day, to_user_km=(4,), from_supplier_km=(6,), line_capacity_wh=10**9)
    offers = offers_ucur(place, level_wh=250, k_min=-4, k_max=6)
    # Import saves the supplier's price and its way and costs the way from the terminal.
    saved = 250 * (400_000 + 10_000 - 4_000) // 1_000
    asked = -250 * (400_000 + 6_000) // 1_000
    assert offers == {
        -2: 2 * asked, -1: asked, 0: 0,
        1: saved, 2: 2 * saved, 3: 3 * saved, 4: 4 * saved,
    }  # fmt: skip


def test_an_import_that_can_not_be_taken_and_an_export_that_leaves_load_unserved_are_not_offered():
    narrow = region(3)
    total = sum(user.demand_wh[0] for user in narrow.day.users)
    assert exchange(narrow, total + 1) is None
    dry = day_from(
        {
            "contract": "requests-1",
            "slot_s": 900,
            "suppliers": [{"id": "S", "available_wh": [1_000], "price": [1]}],
            "users": [{"id": "U", "demand_wh": [1_000]}],
            "distance_km": [[0]],
        }
    )
    place = Region(day=dry, to_user_km=(0,), from_supplier_km=(0,), line_capacity_wh=10**9)
    assert min(offers_ucur(place, level_wh=100, k_min=-5, k_max=5)) == 0


def test_the_terminal_stands_beside_the_regions_own_parties():
    place = region(1)
    spare = sum(supplier.available_wh[0] for supplier in place.day.suppliers)
    assert with_terminal(place, 700).suppliers[-1].available_wh == (spare + 700,)
    assert with_terminal(place, -700).users[-1].demand_wh == (spare + 700,)
    assert with_terminal(place, 0).distance_km[-1][-1] == 0


def test_what_the_storage_lacks_at_the_end_counts_as_unserved():
    day = day_from(
        {
            "contract": "requests-1",
            "slot_s": 900,
            "suppliers": [{"id": "S", "available_wh": [1_000], "price": [1]}],
            "users": [
                {
                    "id": "U",
                    "demand_wh": [1_000],
                    "storage": {"initial_wh": 500, "max_wh": 500, "target_wh": 500, "charge_wh": 500, "discharge_wh": 500},
                }
            ],
            "distance_km": [[0]],
        }
    )  # fmt: skip
    place = Region(day=day, to_user_km=(0,), from_supplier_km=(0,), line_capacity_wh=10**9)
    assert exchange(place, -200).unserved_wh == 200
    assert min(offers_ucur(place, level_wh=100, k_min=-5, k_max=5)) == 0
