"""Whatever order messages come in: each gets the verdict of a model that reads them one by one."""

import pytest
from fault.market_duplicates import GATE_MS, HORIZON_MS, KEY, Desk, bulk, signer, span_of
from fault.market_sequence import QUARTER_MS, Message, Sequential, hold


async def test_duplicates_reordering_late_trades_and_revisions_equal_the_sequential_model():
    held, _ = await bulk(600, seed=3, restarts=2)
    assert held.broken == []
    assert held.verdicts == 600
    assert {"accepted", "duplicate", "superseded", "conflict", "late", "orphan"} <= set(
        held.by_code
    )


def message(desk, **changes):
    start_ms = (desk.clock.utc_us() // 1000 // QUARTER_MS + 4) * QUARTER_MS
    bare = {
        "trade_id": "t-1", "revision": 1, "out": "region-a", "into": "region-b",
        "start_ms": start_ms, "length_ms": QUARTER_MS, "powers_w": (60_000,), **changes,
    }  # fmt: skip
    payload = signer(KEY, "bench")(Message(**bare), 7)
    return Message(**bare, payload=payload)


@pytest.mark.parametrize("together", [True, False])
async def test_a_cancellation_that_waited_stands_before_what_came_after_its_trade(together):
    desk = Desk()
    await desk.start()
    cancelled = message(desk, revision=2, powers_w=(0,))
    trade = message(desk)
    revised = message(desk, revision=2, powers_w=(30_000,))
    desk.hear(cancelled.payload)
    if not together:
        await desk.scan()
    desk.hear(trade.payload)
    desk.hear(revised.payload)
    await desk.scan()
    sent = {m.sha256: m for m in (cancelled, trade, revised)}
    model = Sequential(gate_ms=GATE_MS, horizon_ms=HORIZON_MS)
    held = hold(desk.entries, sent, model, span_of=span_of)
    assert held.broken == []
    assert held.by_code == {"accepted": 2, "conflict": 1}
    assert desk.state.known["t-1"].trade.cancelled
