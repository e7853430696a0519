"""The six-supplier five-user day, reconstructed.

The paper gives: six suppliers (the grid with 250 MW, two photovoltaic, three wind plants), five
users, 24 hours, peaks of new energy near 9, 13 and 17 h, little of it from 0 to 6 h, prices that
fall as new energy rises. Everything else here (profiles, distances, storages, base prices) is
made up so that the day has those features and the size of the stated turnover.

Run as a program it prints the day file ``configs/rounds/six-suppliers-five-users.json``.
"""

import json

HOURS = range(24)
MW = 1_000_000

# Shape of each hour in percent of the plant's peak.
SUN = (0, 0, 0, 0, 0, 0, 4, 20, 52, 88, 78, 82, 92, 100, 84, 66, 60, 58, 14, 0, 0, 0, 0, 0)
SUN_2 = (0, 0, 0, 0, 0, 0, 2, 14, 46, 92, 70, 74, 88, 100, 80, 58, 52, 62, 18, 2, 0, 0, 0, 0)
WIND_1 = (6, 4, 4, 5, 7, 10, 24, 42, 70, 96, 66, 52, 70, 88, 60, 58, 76, 100, 72, 52, 44, 36, 24, 14)  # fmt: skip
WIND_2 = (8, 6, 5, 4, 5, 8, 18, 36, 78, 100, 58, 48, 76, 92, 56, 50, 82, 98, 64, 48, 40, 30, 26, 16)  # fmt: skip
WIND_3 = (10, 8, 6, 6, 8, 12, 22, 40, 64, 90, 60, 56, 80, 100, 62, 54, 70, 94, 68, 56, 46, 38, 28, 18)  # fmt: skip
LOAD = (48, 45, 43, 42, 44, 50, 62, 78, 88, 95, 96, 94, 90, 86, 88, 90, 93, 97, 100, 98, 90, 78, 64, 54)  # fmt: skip

PLANTS = (
    ("GRID", "grid", False, (100,) * 24, 250, 740_000),
    ("PV1", "photovoltaic", True, SUN, 34, 525_000),
    ("PV2", "photovoltaic", True, SUN_2, 26, 550_000),
    ("W1", "wind", True, WIND_1, 30, 575_000),
    ("W2", "wind", True, WIND_2, 28, 560_000),
    ("W3", "wind", True, WIND_3, 36, 600_000),
)
# Time-of-use tariff of the grid in percent.
TARIFF = (60, 60, 60, 60, 60, 60, 70, 100, 100, 100, 115, 115, 100, 100, 100, 100, 100, 100, 115, 115, 115, 100, 80, 60)  # fmt: skip
USERS = (("U1", 91, 30), ("U2", 73, 20), ("U3", 66, 20), ("U4", 54, 15), ("U5", 44, 15))
DISTANCE_KM = (
    (20, 24, 28, 22, 30),
    (6, 14, 22, 18, 9),
    (12, 5, 16, 24, 20),
    (25, 18, 7, 12, 16),
    (16, 22, 11, 6, 19),
    (21, 26, 15, 10, 8),
)
PRICE_MIN = 250_000


def day() -> dict:
    available = [
        [peak * MW * share // 100 for share in shape] for _, _, _, shape, peak, _ in PLANTS
    ]
    demand = [[peak * MW * share // 100 for share in LOAD] for _, peak, _ in USERS]
    renewable = [sum(available[i][t] for i in range(1, 6)) for t in HOURS]
    wanted = [sum(row[t] for row in demand) for t in HOURS]
    prices = [
        [
            max(
                PRICE_MIN,
                base
                * (TARIFF[t] if name == "GRID" else 100)
                // 100
                * (1000 * wanted[t] + 180 * wanted[t] - 600 * renewable[t])
                // (1000 * wanted[t]),
            )
            for t in HOURS
        ]
        for name, *_, base in PLANTS
    ]
    return {
        "contract": "requests-1",
        "note": "Six suppliers, five users, 24 hours. Profiles, prices, distances and storages are"
        " reconstructed; only what docs/papers.md lists as stated is the paper's.",
        "reconstructed": True,
        "start": "2026-01-02T00:00Z",
        "slot_s": 3600,
        "suppliers": [
            {"id": name, "technology": technology, "renewable": flag, "available_wh": available[i], "price": prices[i]}
            for i, (name, technology, flag, *_) in enumerate(PLANTS)
        ],
        "users": [
            {
                "id": name,
                "demand_wh": demand[j],
                "storage": {
                    "initial_wh": size * MW // 2,
                    "max_wh": size * MW,
                    "target_wh": size * MW // 2,
                    "charge_wh": size * MW // 4,
                    "discharge_wh": size * MW // 4,
                },
            }
            for j, (name, _, size) in enumerate(USERS)
        ],
        "distance_km": [list(row) for row in DISTANCE_KM],
        "transmission_price_per_kwh_km": 1_000,
        "capacity_wh": [[130 * MW] * 5] + [[30 * MW] * 5 for _ in range(5)],
        "voll_per_kwh": 10_000_000,
        "prev_hash": "00" * 32,
    }  # fmt: skip


def text() -> str:
    def line(value):
        return json.dumps(value, separators=(", ", ": "))

    rows = []
    for key, value in day().items():
        if key in ("suppliers", "users"):
            rows.append(f' "{key}": [\n  ' + ",\n  ".join(line(item) for item in value) + "\n ]")
        else:
            rows.append(f' "{key}": {line(value)}')
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    print(text(), end="")
