"""Clears hours with ASSUME's roles, in its own environment: JSON lines in, JSON lines out."""

import json
import sys
import time
from datetime import datetime, timedelta

from assume.common.market_objects import MarketConfig, MarketProduct
from assume.markets.clearing_algorithms.simple import PayAsBidRole, PayAsClearRole
from dateutil.rrule import HOURLY, rrule

START, END = datetime(2026, 1, 2), datetime(2026, 1, 2) + timedelta(hours=1)  # noqa: DTZ001

CONFIG = MarketConfig(
    market_id="m",
    opening_hours=rrule(HOURLY, dtstart=START, until=END),
    market_products=[MarketProduct(timedelta(hours=1), 1, timedelta(hours=1))],
)

for line in sys.stdin:
    hour = json.loads(line)
    for name, role in (("pay_as_clear", PayAsClearRole), ("pay_as_bid", PayAsBidRole)):
        book = []
        for sign, orders, letter in ((-1, hour["bids"], "U"), (1, hour["asks"], "S")):
            book += [
                {
                    "start_time": START,
                    "end_time": END,
                    "only_hours": None,
                    "price": price,
                    "volume": sign * quantity,
                    "agent_addr": f"{letter}{k}",
                    "bid_id": f"{letter}{k}",
                    "node": "n",
                }
                for k, (quantity, price) in enumerate(orders)
            ]
        cleared = role(CONFIG)
        began = time.perf_counter()
        accepted = cleared.clear(book, [(START, END, None)])[0]
        spent = time.perf_counter() - began
        bought, sold = [], []
        for order in accepted:
            k, volume = int(order["bid_id"][1:]), abs(order["accepted_volume"])
            if order["bid_id"][0] == "U":
                bought.append([k, -1, volume, order["accepted_price"]])
            else:
                sold.append([k, volume])
        print(json.dumps({"mechanism": name, "s": spent, "bought": bought, "sold": sold}))
