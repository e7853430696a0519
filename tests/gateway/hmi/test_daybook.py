import dataclasses
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.core.energy import Counters
from gateway.hmi import daybook as module
from gateway.hmi.daybook import REFUSED_MAX, DayBook
from gateway.hmi.figures import utc_us

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day

START_US = 1_767_319_200_000_000
QUARTER_US = 900_000_000
INTERVAL = {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}


def book_of(entries):
    book = DayBook()
    for index, entry in enumerate(entries):
        book.take(index, entry)
    return book


def accepted(trade_id, out, into, energy_wh, revision=1):
    return {
        "kind": "trade.accepted", "trade_id": trade_id, "revision": revision, "out_terminal": out,
        "in_terminal": into, "positions": [{"interval": INTERVAL, "energy_wh": energy_wh, "p_w": 0}],
    }  # fmt: skip


def reading(second, **net_wh):
    return {
        "kind": "reading",
        "meters": [
            {"meter": f"m{t}", "terminal": t, "utc_us": START_US + second * 1_000_000,
             "import_wh": 1_000, "export_wh": 1_000 + wh, "p_w": 0, "quality": "good"}
            for t, wh in net_wh.items()
        ],
    }  # fmt: skip


CONFIG = {"kind": "config", "sha256": "ab", "config": {"master": "T1"}}
PLAN = {
    "kind": "plan",
    "interval": INTERVAL,
    "planned_wh": {"T1": -4_000, "T2": -10_000, "T3": 14_000},
    "trades": [
        {"trade_id": "A", "planned_wh": 10_000, "reasons": [{"code": "guard_p", "detail": "T2"}]},
        {"trade_id": "B", "planned_wh": 4_000, "reasons": []},
    ],
}
OPEN = [CONFIG, accepted("A", "T2", "T3", 12_000), accepted("B", "T1", "T3", 4_000), PLAN]


def by_id(book, now_us=START_US + QUARTER_US // 2):
    return {t.id: t for t in book.trades(now_us)}


def test_full_day_ends_with_every_trade_settled():
    entries = full_day().entries
    book = book_of(entries)
    rows = book.trades(entries[-1]["utc_us"])
    told = {
        (t["trade_id"], utc_us(e["interval"]["start"])): t
        for e in entries
        if e["kind"] == "delivery"
        for t in e["trades"]
    }
    assert {(r.id, r.start_us) for r in rows} == set(told)
    for row in rows:
        assert row.delivered_wh == told[row.id, row.start_us]["delivered_wh"]
        assert row.status == told[row.id, row.start_us]["status"]
        assert row.receipt
    assert (book.size, book.started_us) == (len(entries), entries[0]["utc_us"])


def test_planned_trade_runs_when_its_interval_begins():
    book = book_of(OPEN)
    assert by_id(book, START_US - 1)["A"].status == "planned"
    row = by_id(book, START_US)["A"]
    assert (row.status, row.planned_wh, row.reasons) == ("running", 10_000, ("guard_p: T2",))
    assert row.delivered_wh is None


def test_running_trade_is_estimated_by_the_lesser_of_its_ends():
    book = book_of(
        [*OPEN, reading(0, T1=0, T2=0, T3=0), reading(300, T1=-999, T2=-5_000, T3=6_300)]
    )
    rows = by_id(book)
    assert rows["A"].delivered_wh == 4_500  # T3 has 45 % of its target, T2 50 %
    assert rows["B"].delivered_wh == 1_300  # the master is judged on the others: -(-5000 + 6300)


def test_age_of_the_last_reading_is_bridged_with_its_power_for_a_minute_at_most():
    last = reading(300, T1=0, T2=-5_000, T3=7_000)
    last["meters"][1]["p_w"] = -36_000
    last["meters"][2]["p_w"] = 50_400
    book = book_of([*OPEN, reading(0, T1=0, T2=0, T3=0), last])
    at = {s: by_id(book, START_US + s * 1_000_000)["A"].delivered_wh for s in (300, 330, 360, 500)}
    assert at == {300: 5_000, 330: 5_300, 360: 5_600, 500: 5_600}


def test_terminal_whose_trades_cancel_out_is_not_short():
    plan = {**PLAN, "planned_wh": {"T1": 0, "T2": 0, "T3": 0}}
    book = book_of([*OPEN[:3], plan, reading(0, T1=0, T2=0, T3=0)])
    assert by_id(book)["A"].delivered_wh == 5_000


def test_unread_meter_gives_no_estimate_and_backward_power_none_below_zero():
    assert by_id(book_of([*OPEN, reading(0, T2=0)]))["A"].delivered_wh is None
    back = book_of([*OPEN, reading(0, T1=0, T2=0, T3=0), reading(9, T1=0, T2=700, T3=-5)])
    assert by_id(back)["A"].delivered_wh == 0


def test_bad_readings_do_not_count():
    bad = reading(300, T2=-5_000)
    bad["meters"][0]["quality"] = "bad"
    book = book_of([*OPEN, reading(0, T2=0, T3=0), bad])
    assert book.counters["T2"]["export_wh"] == 1_000


def test_revision_replaces_and_cancellation_says_so():
    book = book_of([CONFIG, accepted("A", "T2", "T3", 12_000), accepted("A", "T2", "T3", 0, 2)])
    assert [(t.status, t.contracted_wh) for t in book.trades(START_US)] == [("cancelled", 0)]
    assert book.places("A") == (0, 1)
    assert book.places("Z") is None


def test_receipt_only_when_all_of_a_trade_is_settled():
    later = {"start": "2026-01-02T02:15Z", "end": "2026-01-02T02:30Z"}
    two = accepted("A", "T2", "T3", 12_000)
    two["positions"].append({"interval": later, "energy_wh": 5, "p_w": 0})
    row = {"trade_id": "A", "contracted_wh": 12_000, "planned_wh": 10_000, "delivered_wh": 9_990,
           "status": "partial", "reasons": ["guard_p"]}  # fmt: skip
    first = {"kind": "delivery", "interval": INTERVAL, "trades": [row]}
    book = book_of([CONFIG, two, PLAN, first])
    assert [t.receipt for t in book.trades(START_US)] == [False, False]
    book.take(4, {**first, "interval": later})
    assert [t.receipt for t in book.trades(START_US)] == [True, True]


def test_alarms_come_go_and_come_again():
    book = DayBook()
    for index, (active, at) in enumerate([(True, 5), (False, 6), (True, 7)]):
        entry = {
            "kind": "alarm",
            "code": "link_lost",
            "active": active,
            "detail": "d",
            "utc_us": at,
        }
        book.take(index, entry)
        (alarm,) = book.alarms()
        assert alarm.active is active
    assert (alarm.priority_level, alarm.since_us, alarm.detail) == (2, 7, "d")
    book.take(3, {"kind": "operator", "verb": "ack", "arguments": {"code": "link_lost"}})
    assert book.alarms()[0].acknowledged
    book.take(4, {"kind": "operator", "verb": "ack", "arguments": {"code": "never"}})
    book.take(5, {"kind": "alarm", "code": "never", "active": False, "detail": "", "utc_us": 1})
    assert len(book.alarms()) == 1


def test_mode_and_boot():
    book = book_of(
        [
            {"kind": "boot", "version": "0.1.0", "utc_us": 5},
            {"kind": "mode", "mode": "on", "state": "FAILSAFE", "reasons": [{"code": "stale", "detail": ""}]},
            {"kind": "gap"},
        ]
    )  # fmt: skip
    assert (book.version, book.started_us, book.mode, book.state) == ("0.1.0", 5, "on", "FAILSAFE")
    assert (book.reasons, book.size) == (("stale",), 3)


@pytest.mark.parametrize("count", [5, 40])
def test_rows_and_places_are_bounded(monkeypatch, count):
    monkeypatch.setattr(module, "ROWS_MAX", 10)
    book = DayBook()
    for k in range(count):
        entry = accepted(f"T-{k}", "T2", "T3", 5)
        at = f"2026-01-02T{k // 4:02d}:{15 * (k % 4):02d}Z"
        entry["positions"] = [{"interval": {"start": at, "end": at}, "energy_wh": 5, "p_w": 0}]
        book.take(k, entry)
        row = {"trade_id": f"T-{k}", "planned_wh": 5, "delivered_wh": 5, "status": "delivered",
               "reasons": []}  # fmt: skip
        if k < count - 1:
            book.take(
                k, {"kind": "delivery", "interval": {"start": at, "end": at}, "trades": [row]}
            )
    rows = book.trades(0)
    assert len(rows) == min(count, 10)
    assert rows[-1].id == f"T-{count - 1}"
    assert len(book._places) <= 21


def stamp(us):
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%MZ")


def day_ahead(number, quarters, first):
    """A trade over many quarter hours, the first of them so many after two o'clock."""
    stamps = [stamp(START_US + (first + k) * QUARTER_US) for k in range(quarters + 1)]
    positions = [
        {"interval": {"start": s, "end": e}, "energy_wh": 5, "p_w": 0} for s, e in pairwise(stamps)
    ]
    return {**accepted(f"day-{number}", "T2", "T3", 5), "positions": positions}


def test_what_runs_stays_however_many_trades_are_to_come(monkeypatch):
    monkeypatch.setattr(module, "ROWS_MAX", 10)
    book = book_of([*OPEN, *(day_ahead(k, 4, 4 + k) for k in range(6))])
    rows = book.trades(START_US)
    assert [r.id for r in rows if r.status == "running"] == ["A", "B"]
    assert (len(rows), len(book._rows)) == (10, 10)
    assert book.unlisted_us[0] >= max(r.start_us for r in rows)
    far = day_ahead(5, 1, 12)["positions"][0]["interval"]
    leg = {"trade_id": "day-5", "out_terminal": "T2", "in_terminal": "T3", "contracted_wh": 5,
           "planned_wh": 4, "reasons": []}  # fmt: skip
    done = {"planned_wh": 5, "delivered_wh": 5, "status": "delivered", "reasons": []}
    for row in rows:
        at = {"start": stamp(row.start_us), "end": stamp(row.end_us)}
        trades = [{"trade_id": row.id, **done}]
        book.take(20, {"kind": "delivery", "interval": at, "trades": trades})
    book.take(21, {"kind": "plan", "interval": far, "planned_wh": {}, "trades": [leg]})
    assert [r.id for r in book.trades(utc_us(far["start"])) if r.status == "running"] == ["day-5"]
    assert (len(book._rows), book.unlisted_us) == (10, None)


def test_a_revision_of_what_is_to_come_does_not_touch_what_runs():
    revised = day_ahead(1, 2, 0) | {"trade_id": "A", "revision": 2}
    book = book_of([*OPEN, revised])
    assert [(r.status, r.planned_wh) for r in book.trades(START_US) if r.id == "A"] == [
        ("running", 10_000), ("planned", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now_us", "around_us", "shown"),
    [
        (START_US - QUARTER_US, QUARTER_US, []),
        (START_US - QUARTER_US, QUARTER_US + 1, ["A", "B"]),
        (START_US + QUARTER_US - 1, 1, ["A", "B"]),  # they run
        (START_US + QUARTER_US, QUARTER_US, []),
        (START_US + QUARTER_US, None, ["A", "B"]),
    ],
)
def test_trades_around_now_run_or_begin_near_it(now_us, around_us, shown):
    assert [t.id for t in book_of(OPEN).trades(now_us, around_us=around_us)] == shown


def test_views_of_the_book_are_frozen():
    (row, _) = book_of(OPEN).trades(START_US)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.status = "x"


def test_the_latest_refused_trades_are_kept_with_their_reasons():
    book = DayBook()
    for index in range(REFUSED_MAX + 3):
        entry = {"kind": "trade.refused", "utc_us": index, "trade_id": None if index % 2 else "t",
                 "reasons": [{"code": "late", "detail": "2 s"}]}  # fmt: skip
        book.take(index, entry)
    kept = book.refused()
    assert [r.utc_us for r in kept[:2]] == [REFUSED_MAX + 2, REFUSED_MAX + 1]
    assert [r.id for r in kept[:2]] == ["t", ""]
    assert kept[0].reasons == ("late: 2 s",)
    assert len(kept) == REFUSED_MAX


def test_an_exchanged_meter_begins_the_running_energy_anew():
    another = reading(600, T2=-900_000)
    another["meters"][0]["meter"] = "new"
    later = reading(660, T2=-901_000)
    later["meters"][0]["meter"] = "new"
    book = book_of(
        [*OPEN, reading(0, T1=0, T2=0, T3=0), reading(300, T2=-5_000, T3=7_000), another, later]
    )
    assert by_id(book)["A"].delivered_wh == 1_000


METERS = {"T1": "mT1", "T2": "mT2", "T3": "mT3"}


def begun(book, meters, *, readings=None, of=None):
    """Begin a start with the site's meters and the readings that the state keeps, and of whom."""
    terminals = [SimpleNamespace(id=t, meter=m) for t, m in meters.items()]
    site = SimpleNamespace(sop=SimpleNamespace(terminals=terminals))
    book.begin(SimpleNamespace(site=site, meters=of or meters, readings=readings or {}))
    return book


def counted(*rows):
    return [
        Counters(utc_us=START_US + second * 1_000_000, import_wh=1_000, export_wh=1_000 + wh, p_w=0)
        for second, wh in rows
    ]


def test_what_a_meter_said_that_was_removed_or_exchanged_is_let_go_of():
    book = book_of([*OPEN, reading(0, T2=0, T3=0, T4=0), reading(30, T2=-500, T3=700)])
    begun(book, {**METERS, "T3": "new"})
    assert {t: row["meter"] for t, row in book.counters.items()} == {"T2": "mT2"}
    assert by_id(book)["A"].delivered_wh is None
    another = reading(50, T2=-800, T3=-900_000)
    another["meters"][1]["meter"] = "new"
    book.take(9, another)
    later = reading(90, T2=-1_000, T3=-899_300)
    later["meters"][1]["meter"] = "new"
    book.take(10, later)
    assert by_id(book)["A"].delivered_wh == 500, "by the new meter's own first reading"


def test_energy_goes_on_over_a_restart_from_the_first_reading_of_its_interval():
    readings = {"T2": counted((-5, 900), (0, 0), (100, -1_000)), "T3": counted((2, 0), (90, 1_000))}
    book = begun(book_of(OPEN), METERS, readings=readings)
    book.take(9, reading(300, T2=-5_000, T3=7_000))
    assert by_id(book)["A"].delivered_wh == 5_000


def test_a_start_does_not_move_where_an_energy_is_counted_from():
    book = book_of([*OPEN, reading(0, T2=0, T3=0), reading(300, T2=-5_000, T3=7_000)])
    begun(book, METERS, readings={"T2": counted((5, -300)), "T3": counted((5, 300))})
    assert by_id(book)["A"].delivered_wh == 5_000


@pytest.mark.parametrize(
    ("row", "of", "told_wh"),
    [
        ((60, 0), METERS, 5_000),
        ((61, 0), METERS, None),
        ((-1, 0), METERS, None),
        ((0, 0), {**METERS, "T2": "old"}, None),
    ],
)
def test_without_a_reading_near_the_start_there_is_no_estimate(row, of, told_wh):
    readings = {"T2": counted(row), "T3": counted((0, 0))}
    book = begun(book_of(OPEN), METERS, readings=readings, of=of)
    book.take(9, reading(300, T2=-5_000, T3=7_000))
    assert by_id(book)["A"].delivered_wh == told_wh


def test_a_trade_from_before_the_first_known_configuration_has_the_newest():
    book = book_of([accepted("A", "T2", "T3", 12_000)])
    assert book.places("A") == (None, 0)
    book.take(5, CONFIG)
    book.take(6, accepted("B", "T1", "T3", 4_000))
    assert (book.places("A"), book.places("B")) == ((5, 0), (5, 6))
    book.take(8, CONFIG)
    assert (book.places("A"), book.places("B")) == ((8, 0), (5, 6))


def test_a_revision_restores_what_was_cancelled_but_not_what_was_reported_so():
    def revised(*between):
        restored = accepted("A", "T2", "T3", 9_000, 3)
        book = book_of([CONFIG, accepted("A", "T2", "T3", 0, 2), *between, restored])
        return [(t.status, t.contracted_wh) for t in book.trades(START_US)]

    row = {"trade_id": "A", "planned_wh": 0, "delivered_wh": 0, "status": "cancelled",
           "reasons": []}  # fmt: skip
    assert revised() == [("planned", 9_000)]
    assert revised({"kind": "delivery", "interval": INTERVAL, "trades": [row]}) == [
        ("cancelled", 0)
    ]
