"""A meter that is reset or exchanged: no negative energy, and the auditor says the same."""

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop, span
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Status, meter, report
from gateway.core.energy import Counters
from gateway.core.envelope import Planned
from gateway.core.netting import Leg
from gateway.core.planning import delivery_fields
from ledger.audit import delivery as audit

SOP = make_sop()
ENDS_S = (0, 900)
SLAVE_TRADE = ("T2", "T3")
MASTER_TRADE = ("T1", "T4")


def planned(out, into):
    leg = Leg(trade_id="a", revision_number=1, out_terminal=out, in_terminal=into, energy_wh=45_000)
    return Planned(leg=leg, planned_wh=45_000)


def track(*rows):
    """Readings of (second of the interval, import, export)."""
    return [
        Counters(utc_us=(FIRST_MS + s * 1000) * 1000, import_wh=i, export_wh=e, p_w=0)
        for s, i, e in rows
    ]


def steady(wh=0):
    return track((0, 900_000, 900_000), (900, 900_000 - min(0, wh), 900_000 + max(0, wh)))


def settled(trade, t3):
    readings = {"T1": steady(), "T2": steady(-45_000), "T3": t3, "T4": steady(45_000)}
    return report(sop=SOP, interval=QUARTER, planned=[planned(*trade)], readings=readings)


FALLS = {
    "reset": [(0, 7, 5_000_000), (300, 7, 5_015_000), (900, 7, 24_000)],
    "import": [(0, 7, 100), (900, 6, 45_100)],
    "overtakes its start": [(0, 7, 1_000), (300, 7, 16_000), (420, 7, 0), (900, 7, 24_000)],
    "as it begins": [(-5, 7, 5_000_000), (5, 7, 0), (900, 7, 45_000)],
    "as it ends": [(0, 7, 1_000), (895, 7, 45_000), (905, 7, 10)],
}


@pytest.mark.parametrize("rows", FALLS.values(), ids=FALLS.keys())
def test_a_counter_that_fell_is_unmetered_and_never_negative_energy(rows):
    found = settled(SLAVE_TRADE, track(*rows))
    assert (found.terminals[2].metered_wh, found.terminals[2].judged_wh) == (None, 0)
    assert found.terminals[2].flags == ("unmetered",)
    (trade,) = found.trades
    assert (trade.status, trade.delivered_wh, trade.unmetered) == (Status.FAILED, 0, True)
    assert found.loss_wh == 0


def test_a_trade_at_the_master_is_judged_without_what_fell_and_says_so():
    (trade,) = settled(MASTER_TRADE, track(*FALLS["reset"])).trades
    assert trade.unmetered
    assert 0 <= trade.delivered_wh <= 45_000


@pytest.mark.parametrize("second", [-10, 910])
def test_a_fall_outside_the_readings_that_bracket_the_interval_does_not_matter(second):
    t3 = track((0, 7, 1_000), (900, 7, 46_000))
    beyond = track((second, 7, 9_000 if second < 0 else 3))
    (trade,) = settled(SLAVE_TRADE, beyond + t3 if second < 0 else t3 + beyond).trades
    assert (trade.status, trade.delivered_wh) == (Status.DELIVERED, 45_000)


def read(book, second, terminal, name, imported, exported):
    row = {"meter": name, "terminal": terminal, "utc_us": (FIRST_MS + second * 1000) * 1000,
           "quality": "good", "age_ms": 0, "import_wh": imported, "export_wh": exported, "p_w": 0,
           "registers": []}  # fmt: skip
    entry = {"meters": [row]}
    book.add("reading", **entry)
    return entry


def both(polls):
    """Settle the same readings as the gateway and as the auditor do: fields and findings."""
    book, entries = Book().adopted(), []
    trade = {"trade_id": "a", "revision": 1, "out_terminal": "T2", "in_terminal": "T3",
             "contracted_wh": 45_000, "planned_wh": 45_000, "reasons": []}  # fmt: skip
    book.plan({"T2": -45_000, "T3": 45_000}, trades=[trade])
    for terminal, wh in (("T1", 0), ("T2", -45_000), ("T4", 0)):
        for row in steady(wh):
            second = row.utc_us // 1_000_000 - FIRST_MS // 1000
            entries.append(
                read(book, second, terminal, f"m{terminal[1]}", row.import_wh, row.export_wh)
            )
    entries += [read(book, second, "T3", name, i, e) for second, name, i, e in polls]
    config = {
        "master": "T1",
        "terminals": [{"id": t.id, "meter": t.meter, "s_va": t.s_va} for t in SOP.terminals],
    }
    found = audit.settle(
        config=config,
        plan={"interval": span(QUARTER), "trades": [trade]},
        readings=audit.counters(entries),
    )
    return delivery_fields(book.state, book.state.plans[FIRST_MS]), found


def assert_same(told, found):
    for row in told["terminals"]:
        terminal = found.terminals[row["terminal"]]
        assert (row["metered_wh"], row["judged_wh"]) == (terminal.metered_wh, terminal.judged_wh)
    (trade,) = told["trades"]
    computed = found.trades["a"]
    assert (trade["delivered_wh"], trade["status"]) == (computed.delivered_wh, computed.status)
    assert ("unmetered" in trade["reasons"]) is computed.unmetered
    assert told["loss_wh"] == found.loss_wh


@pytest.mark.parametrize("rows", FALLS.values(), ids=FALLS.keys())
def test_a_fall_is_told_as_unmetered(rows):
    told, found = both([(s, "m3", i, e) for s, i, e in rows])
    assert told["trades"][0]["reasons"][0] == "unmetered"
    assert told["terminals"][2]["metered_wh"] is None
    assert_same(told, found)


@pytest.mark.parametrize(
    ("polls", "metered_wh"),
    [
        ([(0, "m3", 0, 100), (420, "m3b", 0, 30_000), (900, "m3b", 0, 54_000)], None),
        ([(0, "m3", 0, 100), (420, "m3b", 0, 7), (600, "m3", 0, 200), (900, "m3", 0, 300)], None),
        ([(0, "m3", 0, 100), (900, "m3", 0, 45_100), (905, "m3b", 0, 7)], None),
        ([(-9, "m3", 0, 9_000), (0, "m3b", 0, 100), (900, "m3b", 0, 45_100)], 45_000),
    ],
)
def test_an_exchange_under_a_new_name_begins_anew(polls, metered_wh):
    told, found = both(polls)
    assert told["terminals"][2]["metered_wh"] == metered_wh
    assert_same(told, found)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 400), st.sampled_from(("m3", "m3", "m3", "m3b")), st.integers(-40, 900),
            st.integers(-40, 900),
        ),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_gateway_and_auditor_settle_falls_and_exchanges_alike(steps):
    second, imported, exported, polls = -200, 500, 500, []
    for gap_s, name, more_in, more_out in steps:
        second, imported, exported = second + gap_s, imported + more_in, exported + more_out
        polls.append((second, name, imported, exported))
    assert_same(*both(polls))


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 900), st.integers(0, 900)), max_size=15),
    st.integers(0, 10**9),
)
def test_counters_that_only_grow_are_judged_by_their_ends(steps, begin_wh):
    second, imported, exported, rows = 0, begin_wh, begin_wh, [(0, begin_wh, begin_wh)]
    for gap_s, more_in, more_out in steps:
        second = min(second + gap_s, 899)
        imported, exported = imported + more_in, exported + more_out
        if second > rows[-1][0]:
            rows.append((second, imported, exported))
    rows.append((900, imported, exported))
    (found,) = [
        m
        for m in meter(sop=SOP, interval=QUARTER, planned=[], readings={"T3": track(*rows)})
        if m.terminal == "T3"
    ]
    assert found.metered_wh == exported - imported


def test_what_is_kept_of_a_terminal_is_of_one_meter():
    book = Book()
    for second, name in ((0, "m3"), (5, "m3"), (10, "m3b"), (15, "m3b"), (20, "m3")):
        read(book, second, "T3", name, 0, second)
        kept = [c.export_wh for c in book.state.readings["T3"]]
        assert kept == {0: [0], 5: [0, 5], 10: [10], 15: [10, 15], 20: [20]}[second]
