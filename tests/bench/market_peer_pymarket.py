"""Clears hours with pymarket, in its own environment: JSON lines in, JSON lines out."""

import json
import sys
import time
import warnings

import numpy as np
import pymarket

warnings.filterwarnings("ignore")

for line in sys.stdin:
    hour = json.loads(line)
    for mechanism in ("p2p", "muda", "huang"):
        market = pymarket.Market()
        users = len(hour["bids"])
        for j, (quantity, price) in enumerate(hour["bids"]):
            market.accept_bid(quantity, price, j, True)
        for i, (quantity, price) in enumerate(hour["asks"]):
            market.accept_bid(quantity, price, users + i, False)
        began = time.perf_counter()
        try:
            extra = {} if mechanism == "huang" else {"r": np.random.RandomState(1)}
            transactions, _ = market.run(mechanism, **extra)
        except (IndexError, TypeError, ValueError) as error:
            print(json.dumps({"mechanism": mechanism, "error": type(error).__name__}))
            continue
        spent = time.perf_counter() - began
        table = transactions.get_df()
        bought = [
            [int(r.bid), int(r.source) - users, float(r.quantity), float(r.price)]
            for r in table.itertuples()
            if r.bid < users
        ]
        sold = [
            [int(r.bid) - users, float(r.quantity)] for r in table.itertuples() if r.bid >= users
        ]
        print(json.dumps({"mechanism": mechanism, "s": spent, "bought": bought, "sold": sold}))
