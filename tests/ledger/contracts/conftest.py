import json
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "configs/rounds/six-suppliers-five-users.json"


@pytest.fixture(scope="session")
def scenario():
    return json.loads(SCENARIO.read_bytes())


@pytest.fixture(scope="session")
def tight():
    """Make small random days on which lines, storage and supply all bind."""

    def make(seed, *, storage=True):
        rng = random.Random(seed)
        n, m, slots = rng.randint(1, 5), rng.randint(1, 4), rng.randint(1, 5)
        users = []
        for j in range(m):
            user = {"id": f"U{j}", "demand_wh": [rng.randint(0, 900) for _ in range(slots)]}
            if storage and rng.random() < 0.8:
                size = rng.randint(0, 800)
                user["storage"] = {
                    "initial_wh": rng.randint(0, size),
                    "max_wh": size,
                    "target_wh": rng.randint(0, size),
                    "charge_wh": rng.randint(0, 400),
                    "discharge_wh": rng.randint(0, 400),
                }
            users.append(user)
        return {
            "contract": "requests-1",
            "slot_s": 3600,
            "suppliers": [
                {
                    "id": f"S{i}",
                    "technology": rng.choice(["wind", "grid", "photovoltaic"]),
                    "renewable": rng.random() < 0.5,
                    "available_wh": [rng.choice([0, rng.randint(0, 1500)]) for _ in range(slots)],
                    "price": [rng.randint(0, 900) * 1000 for _ in range(slots)],
                }
                for i in range(n)
            ],
            "users": users,
            "distance_km": [[rng.randint(0, 40) for _ in range(m)] for _ in range(n)],
            "transmission_price_per_kwh_km": rng.choice([0, 1000, 9000]),
            "capacity_wh": [[rng.randint(0, 700) for _ in range(m)] for _ in range(n)],
            "voll_per_kwh": 10_000_000,
            "prev_hash": f"{seed:064x}",
        }

    return make
