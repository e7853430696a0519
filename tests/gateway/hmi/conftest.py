"""A made-up hour of a four-terminal site as report and ledger entries, with known figures."""

import random
from dataclasses import replace

import pytest

from gateway.hmi.state import (
    AlarmView,
    DeviceView,
    LedgerView,
    PointView,
    SettledView,
    SiteView,
    StepView,
    TerminalView,
    TradeView,
)

START_US = 1_767_319_200_000_000  # 2026-01-02T02:00:00Z
QUARTER_US = 900_000_000
TERMINALS = ("T1", "T2", "T3", "T4")
ENDS = {
    "T-0041": ("T2", "T3"),
    "T-0042": ("T3", "T4"),
    "T-0043": ("T2", "T4"),
    "T-0044": ("T2", "T1"),
}
PLAN_W = (
    {"T1": 0, "T2": -150_000, "T3": 150_000, "T4": 0},
    {"T1": 0, "T2": 0, "T3": -80_000, "T4": 80_000},
    {"T1": 0, "T2": -200_000, "T3": 0, "T4": 100_000},
)


def stamp(us):
    minutes = (us - START_US) // 60_000_000
    return f"2026-01-02T{2 + minutes // 60:02d}:{minutes % 60:02d}Z"


def trade(name, seller, buyer, quarter, contracted, delivered, status, *reasons):
    begin = START_US + quarter * QUARTER_US
    return {
        "id": name,
        "seller_terminal": seller,
        "buyer_terminal": buyer,
        "interval_start": stamp(begin),
        "interval_end": stamp(begin + QUARTER_US),
        "contracted_wh": contracted,
        "delivered_wh": delivered,
        "status": status,
        "reasons": list(reasons),
    }


@pytest.fixture
def report():
    return {
        "schema": "sopgw/v1/demo",
        "ok": True,
        "seed": 7,
        "trades": [
            trade("T-0041", "T2", "T3", 0, 37_500, 37_488, "delivered"),
            trade("T-0042", "T3", "T4", 1, 20_000, 20_009, "delivered"),
            trade("T-0043", "T2", "T4", 2, 27_500, 25_000, "partial", "guard_p"),
            trade("T-0044", "T2", "T1", 2, 25_000, 16_120, "partial", "link_lost"),
            {"message_id": "m-5<script>", "status": "refused", "reasons": ["retained"]},
            {"message_id": "m-6", "status": "refused", "reasons": ["duplicate"]},
        ],
        "ledger": {"entries": 700, "checkpoint_size": 700, "verified": True},
        "energy_balance_wh": 3,
        "faults": [
            {"utc_us": START_US + 2 * QUARTER_US + 300_000_000, "kind": "link_lost", "for_s": 300}
        ],
    }


class Book:
    def __init__(self):
        self.entries = []

    def add(self, kind, us, **fields):
        entry = {"index": len(self.entries), "kind": kind, "utc_us": us, "mono_us": us - START_US}
        self.entries.append({**entry, "boot": 1, "tq": "good", **fields})
        return entry["index"]


@pytest.fixture
def entries():
    chance = random.Random(7)
    book = Book()
    config = {
        "site": "bench4",
        "sop": "SOP-1",
        "master": "T1",
        "terminals": [{"id": t, "index": i} for i, t in enumerate(TERMINALS)],
    }
    book.add("boot", START_US - 10_000_000, version="0.1.0", site="bench4", sop="SOP-1")
    book.add("config", START_US - 9_000_000, sha256="00", config=config)
    for quarter, plan in enumerate(PLAN_W):
        begin = START_US + quarter * QUARTER_US
        interval = {"start": stamp(begin), "end": stamp(begin + QUARTER_US)}
        names = {0: ["T-0041"], 1: ["T-0042"], 2: ["T-0043", "T-0044"]}[quarter]
        for name in names:
            seller, buyer = ENDS[name]
            book.add(
                "trade.accepted",
                begin - 120_000_000,
                trade_id=name,
                revision=1,
                out_terminal=seller,
                in_terminal=buyer,
            )
        at = book.add(
            "plan", begin - 60_000_000, interval=interval, trades=[{"trade_id": n} for n in names]
        )
        intent = book.add(
            "intent",
            begin,
            instr_id=quarter + 1,
            authority="plan",
            plan_index=at,
            ttl_s=960,
            setpoints=[
                {"terminal": t, "mode": "P_Q", "p_w": w, "q_var": 0} for t, w in plan.items()
            ],
        )
        book.add("outcome", begin + 200_000, intent_index=intent, outcome="executed", reasons=[])
        for second in range(0, 900, 5):
            now = begin + second * 1_000_000
            share = min(second / 15, 1.0)
            cut = quarter == 2 and 300 <= second < 600
            real = {t: 0 if cut else round(w * share) for t, w in plan.items()}
            real["T1"] = -sum(w for t, w in real.items() if t != "T1")
            meters = [
                {
                    "meter": t.lower().replace("t", "m"),
                    "terminal": t,
                    "utc_us": now,
                    "p_w": w + chance.randint(-300, 300),
                    "quality": "bad" if cut and second == 300 else "good",
                }
                for t, w in real.items()
            ]
            book.add("reading", now, meters=meters)
        book.add(
            "delivery",
            begin + QUARTER_US + 5_000_000,
            interval=interval,
            trades=[{"trade_id": n} for n in names],
        )
    return book.entries


@pytest.fixture
def truth():
    chance = random.Random(3)
    return [
        {"utc_us": START_US + s * 1_000_000, "v_dc_dv": 8000 + chance.randint(-60, 60), "p_w": {}}
        for s in range(0, 2700, 5)
    ]


NOW_US = START_US + 1_000_000_000
NOW_W = {"T1": (-60, 0), "T2": (-150_200, 20_100), "T3": (150_000, -10_000), "T4": (0, 0)}


def made_view(**changed):
    """Return a site in the middle of its second quarter hour; any field can be changed."""
    terminals = tuple(
        TerminalView(
            id=name,
            domain=f"region-{'abcd'[k]}",
            state="RUN" if k < 3 else "STANDBY",
            s_va=250_000,
            p_w_min=-230_000,
            p_w_max=230_000,
            set_p_w=round(p_w, -3),
            p_w=p_w,
            q_var=q_var,
            meter=f"m{k + 1}",
            meter_p_w=p_w + 120,
            meter_import_wh=1_000 * k,
            meter_export_wh=2_000 * k,
            v_dv=4_000 + k,
            s_va_available=250_000 - 20_000 * k,
            master=k == 0,
            limits=("rating",) if k == 2 else (),
        )
        for k, (name, (p_w, q_var)) in enumerate(NOW_W.items())
    )

    def trade(name, quarter, contracted, delivered, status, **more):
        start = START_US + quarter * QUARTER_US
        ends = {"out_terminal": "T2", "in_terminal": "T3"}
        return TradeView(
            id=name,
            start_us=start,
            end_us=start + QUARTER_US,
            contracted_wh=contracted,
            delivered_wh=delivered,
            status=status,
            **{**ends, **more},
        )

    fields = {
        "utc_us": NOW_US,
        "site": "bench4",
        "sop": "SOP-1",
        "name": "Four-region bench",
        "mode": "on",
        "state": "EXECUTING",
        "simulated": True,
        "clock_error_ms": 3,
        "v_dc_dv": 8_012,
        "v_dc_dv_min": 7_200,
        "v_dc_dv_max": 8_800,
        "loss_w": 5_260,
        "heartbeat_ds": 48,
        "terminals": terminals,
        "trades": (
            trade("T-0041", 0, 37_500, 37_488, "delivered", receipt=True),
            trade("T-0042", 1, 37_500, 4_100, "running"),
            trade("T-0043", 2, 27_500, None, "planned", planned_wh=25_000, reasons=("guard_p",)),
            trade("T-0040", -1, 25_000, 16_120, "partial", reasons=("link_lost",), receipt=True),
        ),
        "alarms": (
            AlarmView(code="A-160", priority_level=3, since_us=START_US, detail="m2, 1.8 %"),
            AlarmView(code="A-120", priority_level=2, since_us=START_US, acknowledged=True),
        ),
        "devices": (
            DeviceView(
                name="station",
                kind="sop-station-v1",
                address="127.0.0.1:5020",
                connected=True,
                age_ms=212,
                request_count=4_021,
                error_count=2,
                poll_counts=(1, 4, 5, 0, 0, 0, 0, 0, 0, 1),
                poll_sum_ms=3_170,
            ),
            DeviceView(
                name="m4",
                kind="schneider-iem3255",
                address="127.0.0.1:5024",
                connected=False,
                last_error="timeout <10 s>",
            ),
        ),
        "points": (
            PointView(
                device="station",
                point="dc.v",
                value="801.2",
                unit="V",
                raw="0000 1f4c",
                quality="good",
                age_ms=212,
            ),
            PointView(
                device="m4",
                point="p",
                value="–",
                unit="kW",
                raw="",
                quality="bad",
                age_ms=61_000,
            ),
        ),
        "ledger": LedgerView(
            size=18_204,
            origin="bench4.example/SOP-1",
            checkpoint_size=18_190,
            checkpoint_us=NOW_US - 7_000_000,
            root="CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
            checked_us=NOW_US - 3_600_000_000,
            checked_ok=True,
        ),
        "steps": (
            StepView(number="1", title="Host and clock", status="passed", detail="6 checks"),
            StepView(number="2", title="Wiring", status="open", detail="B-01: CT of m2"),
        ),
        "settled": (
            SettledView(
                outcome="delivered", count=310, contracted_wh=900_000, delivered_wh=899_900
            ),
            SettledView(outcome="partial", count=2, contracted_wh=50_000, delivered_wh=41_000),
        ),
        "version": "0.1.0",
        "config_sha256": "7d1c" * 16,
        "started_us": START_US - 86_400_000_000,
    }
    return SiteView(**{**fields, **changed})


@pytest.fixture
def make_view():
    return made_view


@pytest.fixture
def view():
    return made_view()


@pytest.fixture
def silent(view):
    """The same site after the station stopped answering: its last values stand."""
    station = replace(view.devices[0], connected=False, age_ms=61_000)
    return replace(view, devices=(station, *view.devices[1:]))
