"""Which changes of trades are worth a line."""

from gateway.cli.trade_watch import changes


def trade(status="planned", delivered_wh=None, *reasons, start_us=0):
    return {"id": "trd-1", "start_us": start_us, "status": status, "contracted_wh": 20_000,
            "delivered_wh": delivered_wh, "reasons": list(reasons)}  # fmt: skip


def test_a_trade_is_told_once_until_it_changes():
    known = {}
    assert changes(known, [trade()]) == [trade()]
    assert changes(known, [trade()]) == []
    assert changes(known, [trade("running", 0)]) == [trade("running", 0)]
    assert changes(known, [trade("running", 0, "derated")]) != []


def test_energy_is_told_in_tenths():
    known, told = {}, 0
    for wh in range(0, 20_001, 100):
        told += len(changes(known, [trade("running", wh)]))
    assert told == 11
    assert changes(known, [trade("partial", 20_000)]) != []


def test_each_interval_of_a_trade_is_told_for_itself():
    known = {}
    both = [trade(), trade(start_us=900_000_000)]
    assert changes(known, both) == both
    assert changes(known, [trade(), trade("running", 1, start_us=900_000_000)]) == [
        trade("running", 1, start_us=900_000_000)
    ]
