import sys
from pathlib import Path

import pytest

from gateway.hmi.metrics import render
from gateway.hmi.observer import Observer
from gateway.model.terminal import LossCurve, Sop, Terminal
from gateway.ports import LedgerStatus

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day

CHECKPOINT = "gw.example/ledger\n190\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— gw.example/ledger AAAA\n"


class Clock:
    def __init__(self, utc_us):
        self.now_us = utc_us

    def utc_us(self):
        return self.now_us

    def mono_us(self):
        return self.now_us

    async def sleep_until(self, mono_us):
        self.now_us = mono_us


def terminal(name, index):
    return Terminal(
        id=name, index=index, domain=f"r{index}", meter=f"m{index}", s_va=250_000,
        p_w_min=-230_000, p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3_600, v_dv_max=4_400,
    )  # fmt: skip


@pytest.fixture
def observer():
    entries = full_day().entries
    sop = Sop(
        id="SOP-1", master="T1", terminals=tuple(terminal(f"T{k}", k) for k in (1, 2, 3)),
        throughput_w=500_000, losses=LossCurve(a_ppm=1, b_ppm=1, c_ppm=1),
        v_dc_dv_min=7_200, v_dc_dv_max=8_800,
    )  # fmt: skip
    clock = Clock(entries[-1]["utc_us"])
    made = Observer(site="bench", name="Bench", sop=sop, clock=clock, simulated=True)
    for index, entry in enumerate(entries):
        made.daybook.take(index, entry)
    return made, clock, len(entries)


def test_view_joins_book_ledger_and_meters(observer):
    made, clock, size = observer
    view = made.view(
        station=None, ledger=LedgerStatus(size=size, checkpoint=CHECKPOINT, anchored=False)
    )
    assert (view.utc_us, view.site, view.sop, view.simulated) == (
        clock.now_us,
        "bench",
        "SOP-1",
        True,
    )
    assert {t.id for t in view.trades} == {"A-1", "A-2"}
    assert view.terminals[1].meter_p_w is not None
    assert view.terminals[1].p_w is None
    assert (view.v_dc_dv, view.v_dc_dv_max) == (None, 8_800)
    assert (view.ledger.origin, view.ledger.checkpoint_size) == ("gw.example/ledger", 190)
    assert view.ledger.root.startswith("CsUY")


def test_a_look_at_the_site_does_not_keep_its_scan_alive(observer):
    made, clock, size = observer
    status, ended_us = LedgerStatus(size=size, checkpoint="", anchored=False), clock.now_us
    told = []
    for _ in range(2):
        view = made.view(station=None, ledger=status, scan_us=ended_us)
        line = next(k for k in render(view).splitlines() if k.startswith("sopgw_scan_timestamp"))
        told.append((view.utc_us, float(line.split()[1])))
        clock.now_us += 60_000_000
    assert told == [(ended_us, ended_us / 1e6), (ended_us + 60_000_000, ended_us / 1e6)]


def test_checkpoint_keeps_the_time_it_was_first_seen(observer):
    made, clock, size = observer
    status = LedgerStatus(size=size, checkpoint=CHECKPOINT, anchored=True)
    first = made.view(station=None, ledger=status).ledger.checkpoint_us
    clock.now_us += 5_000_000
    assert made.view(station=None, ledger=status).ledger.checkpoint_us == first
    fresh = LedgerStatus(size=size, checkpoint=CHECKPOINT.replace("190", "191"), anchored=True)
    assert made.view(station=None, ledger=fresh).ledger.checkpoint_us == first + 5_000_000


def test_ledger_without_a_checkpoint_is_shown_as_such(observer):
    made, _, size = observer
    ledger = made.view(
        station=None, ledger=LedgerStatus(size=size, checkpoint="", anchored=False)
    ).ledger
    assert (ledger.checkpoint_size, ledger.checkpoint_us, ledger.origin) == (0, None, "")
