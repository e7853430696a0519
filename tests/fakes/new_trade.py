"""Options of `sopgw trade sign` for one trade of a quarter of an hour."""

NEW = ["--new", "--id", "trd-1", "--from", "region-b", "--to", "region-a", "--power", "120kW",
       "--start", "2026-01-02T02:00Z"]  # fmt: skip
